/*
 * policy.c
 *		Policies of namespaces that change under load.
 *
 * Two namespaces of the first database change together, again and again, from their first policy to
 * another and back.  The sessions of "policy" are saved by the thread that changes the policies alone
 * (kept keys), those of "policyb" by others at any time (busy keys).
 *
 * A change can hide a name in Redis: from the moment at which its COMMIT returned until the change
 * back is sent, no strong reader may find anything under that name, because SQL does not find the
 * session either, or not with a copy, or the copy has another name (R14).  Each session has two names,
 * with the first prefix and with the other one (Key.name and Key.other).
 *
 * With a max_lifetime of 1 ms a busy session that is saved again lives for that long, so its new
 * document may be found, until the lease ends in which its copy was sent.
 *
 * A kept session must have its last document again when the first policy is back: a policy hides
 * sessions, and neither it nor a purge meanwhile ends them.
 *
 * After a promotion nothing is hidden any more, since the new primary may not have the last change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define RESTORE_WITHIN (40 * SEC)
#define KEPT_FOR (40 * SEC) /* less than the ttl of a session, and its slack */
#define ITS "WHERE name IN ('policy', 'policyb')"

/* For both databases, though only the first one changes them. */
const char *const policy_first =
	"INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, cache_ttl, tombstone) "
	"VALUES ('policy', 'np:', '80 s', true, 'all', '5 s', '0'), "
	"('policyb', 'nq:', '80 s', true, 'all', '5 s', '0') "
	"ON CONFLICT (name) DO UPDATE SET key_prefix = EXCLUDED.key_prefix, ttl = EXCLUDED.ttl, "
	"cache = EXCLUDED.cache, max_lifetime = NULL";

typedef struct Change
{
	const char *what;
	const char *sql;
	bool hides; /* the first name; after another prefix the other one can be found */
	bool ends;  /* SQL finds no session */
	bool renames;
} Change;

static const Change changes[] = {
	{"a shorter max_lifetime", "UPDATE session_namespaces SET max_lifetime = '1 ms' " ITS, true,
	 true, false},
	{"cache = 'off'", "UPDATE session_namespaces SET cache = 'off' " ITS, true, false, false},
	{"another key_prefix", "UPDATE session_namespaces SET key_prefix = 'x' || key_prefix " ITS,
	 true, false, true},
	{"DELETE of the namespace", "DELETE FROM session_namespaces " ITS, true, true, false},
	{"cache = 'hot'", "UPDATE session_namespaces SET cache = 'hot' " ITS, false, false, false},
	{"another ttl", "UPDATE session_namespaces SET ttl = '40 s' " ITS, false, false, false}};

#define CHANGES ((int) (sizeof(changes) / sizeof(changes[0])))

/* When a name was hidden, the first and the other one; 0: it is not. */
static volatile int64_t hidden[2] = {0, 0};
static volatile bool lives_briefly = false; /* a session that is saved meanwhile */
static const char *volatile hidden_by = "";
static int kept_op[KEYS_KEPT]; /* its last op; 0: unknown */
static int64_t kept_at;

static void
hide(int name, int64_t since)
{
	hidden[name] = since;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* For a reader, before it reads. */
void
policy_hidden(int64_t since[2])
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (int name = 0; name < 2; name++)
		since[name] = run.promoted_at != 0 ? 0 : hidden[name];
}

/* Is it a document that lived for a moment only, and whose save ended at `since` or later? */
static bool
lived_briefly(const char *text, int64_t since)
{
	int n;
	const Op *op = sscanf(text, "{\"k\": %*d, \"v\": %d}", &n) == 1 ? op_at(n) : NULL;
	int64_t saved = op == NULL ? 0 : __atomic_load_n(&op->completed, __ATOMIC_RELAXED);

	if (op == NULL || !lives_briefly)
		return false;
	return saved == 0 || (saved >= since && now_us() - saved <= run.lease + 500 * MS);
}

/*
 * A strong reader found this under a name of a session; `before` is the result of policy_hidden().
 */
void
policy_seen(int key, bool other, const int64_t before[2], const char *text)
{
	int64_t now[2];

	policy_hidden(now);
	if (keys[key].other[0] == '\0' || before[other] == 0 || before[other] != now[other] ||
		(!other && lived_briefly(text, before[other])))
		return;
	violation("policy: a strong reader finds %s with %.60s, %.3f s after %s",
			  other ? keys[key].other : keys[key].name, text,
			  (double) (now_us() - before[other]) / 1e6,
			  other ? "the first key_prefix was given back" : hidden_by);
}

/* Restores the first policy; false if that is not certain. */
static bool
restore(Client *c)
{
	hide(0, 0);
	if (client_run(c, "%s", policy_first) != OUTCOME_DONE)
		return false;
	hide(1, now_us());
	return true;
}

static void
save_kept(Client *c)
{
	kept_at = now_us();
	for (int i = 0; i < KEYS_KEPT; i++)
	{
		const Key *k = &keys[FIRST_POLICY + i];
		int op = op_begin(FIRST_POLICY + i, OP_SAVE, c->node, false, 1);
		Outcome outcome =
			client_run(c, "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => '%s')",
					   k->id, FIRST_POLICY + i, op, k->ns);

		op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
		kept_op[i] = outcome == OUTCOME_DONE ? op : 0;
	}
}

/* Checks that every session that was saved before the change is there with its document. */
static void
check_kept(Client *c, const Change *change)
{
	for (int i = 0; i < KEYS_KEPT; i++)
	{
		const Key *k = &keys[FIRST_POLICY + i];
		char expected[60];

		snprintf(expected, sizeof(expected), "{\"k\": %d, \"v\": %d}", FIRST_POLICY + i,
				 kept_op[i]);
		if (kept_op[i] == 0 ||
			client_run(c, "SELECT session_get('%s', '%s')", k->id, k->ns) != OUTCOME_DONE ||
			now_us() - kept_at > KEPT_FOR)
			continue;
		if (strcmp(c->values[0], expected) != 0)
			violation("policy: after %s and back, session_get('%s') finds %s instead of %s",
					  change->what, k->id, c->values[0][0] == '\0' ? "nothing" : c->values[0],
					  expected);
	}
}

/* While the changed policy is in force. */
static void
look_around(Client *c, const Change *change)
{
	int64_t until = now_us() + between(&c->random, 20 * MS, 1500 * MS);

	do
	{
		int which[2 * KEYS_POLICY];
		const Key *k = &keys[FIRST_POLICY + (int) between(&c->random, 0, KEYS_KEPT - 1)];
		int hits;

		for (int i = 0; i < KEYS_POLICY; i++)
		{
			which[2 * i] = FIRST_POLICY + i;
			which[2 * i + 1] = OTHER_NAME + FIRST_POLICY + i;
		}
		(void) read_keys(&c->redis, which, 2 * KEYS_POLICY, true, &hits);
		if (!client_connect(c))
			return;
		if (chance(&c->random, 30))
			(void) client_run(c, "SELECT session_purge(namespace => 'policy')");
		if (client_run(c, "SELECT session_get('%s', '%s')", k->id, k->ns) == OUTCOME_DONE &&
			change->ends && c->values[0][0] != '\0')
			violation("policy: after %s, session_get('%s') finds %s", change->what, k->id,
					  c->values[0]);
		pause_us(between(&c->random, 0, 100 * MS));
	} while (now_us() < until && !run.stopping);
}

static void
change_once(Client *c)
{
	const Change *change = &changes[between(&c->random, 0, CHANGES - 1)];
	int node = c->node;

	ops_by_kind[DO_POLICY]++;
	if (!restore(c))
		return;
	save_kept(c);
	(void) have_copy(c, FIRST_POLICY);
	if (!client_connect(c))
		return;
	if (change->renames)
		hide(1, 0);
	if (client_run(c, "%s", change->sql) != OUTCOME_DONE)
		return;
	if (change->hides)
	{
		hidden_by = change->what;
		lives_briefly = change == &changes[0];
		hide(0, now_us());
	}
	look_around(c, change);
	if (!client_follow(c) || c->node != node || !restore(c))
		return;
	check_kept(c, change);
}

/* Changes policies until the run ends, and then makes sure that the first ones are in force. */
void *
policy_changer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};
	int64_t until;

	while (!run.stopping)
		if (client_follow(&c))
			change_once(&c);
	until = now_us() + RESTORE_WITHIN;
	while ((!client_follow(&c) || !restore(&c)) && now_us() < until)
		pause_us(20 * MS);
	client_end(&c);
	return NULL;
}

/* Changes the busy keys. */
void *
policy_writer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		int key = FIRST_POLICY + (int) between(&c.random, KEYS_KEPT, KEYS_POLICY - 1);

		if (!client_follow(&c))
			continue;
		if (chance(&c.random, 20))
			delete_one(&c, key);
		else if (chance(&c.random, 70))
			save_one(&c, key);
		else
			(void) client_run(&c, "SELECT session_get('%s', '%s')", keys[key].id, keys[key].ns);
		pause_us(between(&c.random, 0, 20 * MS));
	}
	client_end(&c);
	return NULL;
}
