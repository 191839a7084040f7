/*
 * special.c
 *		Clients for special cases: transactions that do not fit into the ledger, a namespace that
 *		is switched off and on while one is in progress, reads by SQL, and an application that
 *		does not know that its primary was superseded.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

/*
 * Alternates: for ten seconds there are transactions after which all copies are flushed, and for
 * ten there are none, because a flush corrects what was wrong.
 */
static bool
is_noisy(void)
{
	return (now_us() - run.started) / (10 * SEC) % 2 == 0;
}

/* "3,5,4": the outcome of ops from first on, if there are as many versions. */
static void
end_all(int first, int count, Outcome outcome, const char *versions)
{
	int commas = 0;

	for (const char *p = versions == NULL ? "" : versions; *p; p++)
		commas += *p == ',';
	for (int i = 0; i < count; i++)
	{
		int64_t version = 0;

		if (outcome == OUTCOME_DONE && commas == count - 1)
		{
			version = atoll(versions);
			versions = strchr(versions, ',');
			versions = versions == NULL ? "" : versions + 1;
		}
		op_end(first + i, outcome, version);
	}
}

static void
save_stretch(Client *c, int from, int count)
{
	int first = op_begin(FIRST_BULK + from, OP_SAVE, c->node, false, count);
	Outcome outcome;

	ops_by_kind[DO_BULK_SAVE]++;
	outcome = client_run(
		c,
		"SELECT string_agg(v::text, ',' ORDER BY i) FROM (SELECT i, session_save('b' || i,"
		" json_build_object('k', %d + i, 'v', %d + i)::jsonb, namespace => 'bulk') v"
		" FROM generate_series(%d, %d) i OFFSET 0) x",
		FIRST_BULK, first - from, from, from + count - 1);
	end_all(first, count, outcome, c->long_value);
}

/* Reads some keys of a stretch, at intervals. */
static void
look_at_stretch(Client *c, int from, int count)
{
	int which[60];
	int hits;

	for (int i = 0; i < 60; i++)
		which[i] = FIRST_BULK + from + i * count / 60;
	(void) read_keys(&c->redis, which, 60, true, &hits);
}

static void
delete_stretch(Client *c, int from, int count)
{
	int first = op_begin(FIRST_BULK + from, OP_DELETE, c->node, true, count);
	Outcome outcome;

	ops_by_kind[DO_BULK_DELETE]++;
	outcome = client_run(c,
						 "SELECT count(d) FILTER (WHERE d) FROM (SELECT session_delete('b' || i,"
						 " 'bulk') d FROM generate_series(%d, %d) i OFFSET 0) x; "
						 "SELECT string_agg(version::text, ',' ORDER BY substr(session_id, 2)::int)"
						 " FROM conversation_sessions WHERE namespace = 'bulk' AND"
						 " substr(session_id, 2)::int BETWEEN %d AND %d",
						 from, from + count - 1, from, from + count - 1);
	/* if some were dead already, it is not known which */
	if (outcome == OUTCOME_DONE && atoi(c->values[0]) != count)
		outcome = OUTCOME_PENDING;
	end_all(first, count, outcome, c->long_value);
	look_at_stretch(c, from, count);
}

/*
 * Many keys: saved by transactions that the ledger can hold, together more than a batch,
 * then deleted, or saved again, by one that it cannot.
 */
void *
bulk_writer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};
	int step = KEYS_BULK / 3;

	while (!run.stopping)
	{
		if (!is_noisy())
			pause_us(50 * MS);
		if (!is_noisy() || !client_follow(&c))
			continue;
		for (int from = 0; from < KEYS_BULK && c.pg != NULL; from += step)
			if (PQstatus(c.pg) == CONNECTION_OK)
				save_stretch(&c, from, step);
		pause_us(between(&c.random, 20 * MS, run.lease + 1500 * MS));
		if (!client_follow(&c))
			continue;
		if (chance(&c.random, 60))
			delete_stretch(&c, 100, 400);
		else if (chance(&c.random, 50))
			delete_stretch(&c, 200, 100);
		else
			save_stretch(&c, 0, KEYS_BULK);
		pause_us(between(&c.random, 20 * MS, 700 * MS));
	}
	client_end(&c);
	return NULL;
}

/*
 * A read by SQL of a session that should have a copy requests one; waits until it is there, if it
 * comes.
 */
bool
have_copy(Client *c, int key)
{
	int64_t until = now_us() + 1500 * MS;
	int hits = 0;

	while (now_us() < until && !run.stopping)
	{
		(void) client_run(c, "SELECT session_get('%s', '%s')", keys[key].id, keys[key].ns);
		if (read_keys(&c->redis, &key, 1, true, &hits) && hits > 0)
			return true;
		pause_us(20 * MS);
	}
	return false;
}

/* An ordinary change of a key. */
void
save_one(Client *c, int key)
{
	int op = op_begin(key, OP_SAVE, c->node, false, 1);
	Outcome outcome =
		client_run(c, "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => '%s')",
				   keys[key].id, key, op, keys[key].ns);

	op_end(op, outcome, outcome == OUTCOME_DONE ? atoll(c->values[0]) : 0);
}

/*
 * A transaction changes a session of a namespace that has no cache; before it ends, the
 * namespace has one, and the session a copy.
 */
static void
switch_once(Client *inside, Client *outside, int key)
{
	Outcome outcome;
	int64_t version;
	int64_t until;
	int op;

	save_one(outside, key);
	if (client_run(inside, "BEGIN") != OUTCOME_DONE)
		return;
	op = op_begin(key, OP_SAVE, inside->node, false, 1);
	outcome = client_run(
		inside, "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => 'switch')",
		keys[key].id, key, op);
	version = outcome == OUTCOME_DONE ? atoll(inside->values[0]) : 0;
	if (outcome == OUTCOME_DONE &&
		client_run(outside, "UPDATE session_namespaces SET cache = 'hot' WHERE name = 'switch'") ==
			OUTCOME_DONE)
		(void) have_copy(outside, key);
	if (outcome == OUTCOME_DONE)
		outcome = client_run(inside, "COMMIT");
	else if (outcome == OUTCOME_FAILED)
		(void) client_run(inside, "ROLLBACK");
	op_end(op, outcome, version);
	/* a copy that was left behind becomes visible when no lease can explain it any more */
	for (until = now_us() + run.lease + 1200 * MS; now_us() < until && !run.stopping;)
		pause_us(50 * MS);
	(void) client_run(outside, "UPDATE session_namespaces SET cache = 'off' WHERE name = 'switch'");
}

void *
switcher(void *arg)
{
	const Task *task = arg;
	Client inside = {.random = task->seed, .db = task->db};
	Client outside = {.random = task->seed, .db = task->db};
	int turn = 0;

	while (!run.stopping)
	{
		if (!is_noisy())
			pause_us(50 * MS);
		if (!is_noisy() || !client_follow(&inside) || !client_follow(&outside))
			continue;
		ops_by_kind[DO_SWITCH]++;
		switch_once(&inside, &outside, FIRST_SWITCH + turn++ % KEYS_SWITCH);
	}
	client_end(&inside);
	client_end(&outside);
	return NULL;
}

/*
 * A transaction deletes sessions of a namespace that has had no cache for longer than any lease
 * lasts; before it ends, the namespace has one, and the sessions copies.  So COMMIT must wait at
 * the fence, though nothing was cached when the rows were changed.
 */
static void
dark_once(Client *inside, Client *outside)
{
	int op[KEYS_DARK];
	int64_t version[KEYS_DARK];
	int n = 0;
	Outcome outcome = client_run(inside, "BEGIN");

	for (; n < KEYS_DARK && outcome == OUTCOME_DONE; n++)
	{
		const Key *k = &keys[FIRST_DARK + n];

		op[n] = op_begin(FIRST_DARK + n, OP_DELETE, inside->node, true, 1);
		op_call(op[n], "delete while the namespace gets a cache");
		outcome = client_run(inside,
							 "SELECT session_delete('%s', '%s'); SELECT version FROM "
							 "conversation_sessions WHERE namespace = '%s' AND session_id = '%s'",
							 k->id, k->ns, k->ns, k->id);
		version[n] = outcome == OUTCOME_DONE ? number(inside, 1) : 0;
		if (outcome == OUTCOME_DONE && inside->values[0][0] != 't')
			outcome = OUTCOME_FAILED;
	}
	if (outcome == OUTCOME_DONE &&
		client_run(outside, "UPDATE session_namespaces SET cache = 'hot' WHERE name = 'dark'") ==
			OUTCOME_DONE)
		for (int key = FIRST_DARK; key < FIRST_DARK + KEYS_DARK; key++)
			(void) have_copy(outside, key);
	if (outcome == OUTCOME_DONE)
		outcome = client_run(inside, "COMMIT");
	else
		(void) client_run(inside, "ROLLBACK");
	for (int i = 0; i < n; i++)
		op_end(op[i], outcome, version[i]);
	for (int key = FIRST_DARK; key < FIRST_DARK + n && outcome == OUTCOME_DONE; key++)
		look_again(outside, key);
}

/*
 * No other client may change a policy in this database, because then all policies are read again.
 */
void *
dark_switcher(void *arg)
{
	const Task *task = arg;
	Client inside = {.random = task->seed, .db = task->db};
	Client outside = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		int64_t until = now_us() + LONGEST_LEASE + 200 * MS;

		if (!client_follow(&inside) || !client_follow(&outside) ||
			client_run(&outside, "UPDATE session_namespaces SET cache = 'off' WHERE name = "
								 "'dark'") != OUTCOME_DONE)
			continue;
		for (int key = FIRST_DARK; key < FIRST_DARK + KEYS_DARK; key++)
			if (client_connect(&outside))
				save_one(&outside, key);
		/* it knows the policy from now on */
		(void) client_run(&inside, "SELECT session_get('x0', 'dark')");
		while (now_us() < until && !run.stopping)
			pause_us(50 * MS);
		if (run.stopping || !client_follow(&inside) || !client_follow(&outside))
			continue;
		ops_by_kind[DO_DARK]++;
		dark_once(&inside, &outside);
		pause_us(between(&outside.random, 100 * MS, run.lease));
	}
	client_end(&inside);
	client_end(&outside);
	return NULL;
}

/* Readers that miss read by SQL, which makes copies again. */
void *
filler(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		const Database *db = &dbs[c.db];
		int key = c.db == 0 && chance(&c.random, 30)
					  ? FIRST_BULK + (int) between(&c.random, 0, KEYS_BULK - 1)
					  : db->first + (int) between(&c.random, 0, 2 * db->half - 1);

		if (!client_follow(&c))
			continue;
		ops_by_kind[DO_FILL]++;
		(void) client_run(&c, "SELECT session_get('%s', '%s')", keys[key].id, keys[key].ns);
		pause_us(between(&c.random, 0, 6 * MS));
	}
	client_close(&c);
	return NULL;
}

/* Continues with the old primary for a few seconds after it was superseded. */
void *
zombie_writer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};
	int64_t until = now_us() + 5 * SEC;

	while (!run.stopping && now_us() < until && client_connect(&c))
	{
		int key = (int) between(&c.random, 0, KEYS_CLIENTS - 1);
		int op = op_begin(key, OP_SAVE, 0, false, 1);
		Outcome outcome;

		ops_by_kind[DO_ZOMBIE]++;
		outcome =
			client_run(&c, "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => '%s')",
					   keys[key].id, key, op, keys[key].ns);
		op_end(op, outcome, outcome == OUTCOME_DONE ? atoll(c.values[0]) : 0);
		pause_us(2 * MS);
	}
	client_close(&c);
	return NULL;
}
