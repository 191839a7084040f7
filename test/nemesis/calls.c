/*
 * calls.c
 *		Clients that take tokens, give sessions an expiry in the past and patch documents while they
 *		append; and readers by SQL, of many sessions at once and of windows.
 *
 * What is judged beyond the rules of history.c: a value is taken by one client at most, and it is the
 * latest one, as for a reader by SQL.  A primary that takes over may not have what was taken, so each
 * node is judged alone.
 */
#include <stdio.h>
#include <string.h>

#include "nemesis.h"

#define MANY 6

#define VERSION \
	"SELECT version FROM conversation_sessions WHERE namespace = '%s' AND session_id = '%s'"
/* An error unless the session is alive; locks it. */
#define LOCK_ALIVE                                                                            \
	"SELECT 1 / count(*) FROM (SELECT FROM conversation_sessions WHERE namespace = '%s' AND " \
	"session_id = '%s' AND dead_until IS NULL AND expires_at > clock_timestamp() FOR UPDATE) s; "

/* Gets the document and ends the session. */
void
take_one(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	int64_t start = now_us();
	Outcome outcome = client_run(c, "SELECT session_take('%s', '%s'); " VERSION, k->id, k->ns,
								 k->ns, k->id);
	Op *taken;

	op_call(op, "take");
	if (outcome == OUTCOME_DONE && c->values[0][0] == '\0')
		outcome = OUTCOME_FAILED;
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 1) : 0);
	if (outcome != OUTCOME_DONE)
		return;
	look_again(c, key);
	taken = note_read(key, c->values[0], READER_SQL, start, 0);
	if (taken != NULL &&
		(__atomic_fetch_or(&taken->taken, (uint8_t) (1 << c->node), __ATOMIC_SEQ_CST) &
		 1 << c->node) != 0)
		violation("taken twice: key %s, %s, by node %d", k->shown, c->values[0], c->node);
}

/*
 * Ends the session by an expiry in the past, of a document that nobody may ever see.  That is no
 * change of the version, so the document is saved first.
 */
void
expire_one(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	const char *how = chance(&c->random, 50) ? "session_touch('%s'" : "session_save('%s', '{}'";
	char sql[200];
	Outcome outcome;

	op_call(op, "expiry in the past");
	snprintf(sql, sizeof(sql), how, k->id);
	outcome = client_run(
		c,
		LOCK_ALIVE
		"SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace "
		"=> '%s'); SELECT %s, expires_at => clock_timestamp() - interval '1 ms', namespace => '%s'); " VERSION
		"; SELECT session_touch('%s', namespace => '%s')",
		k->ns, k->id, k->id, key, op, k->ns, sql, k->ns, k->ns, k->id, k->id, k->ns);
	if (outcome == OUTCOME_DONE && c->values[4][0] != '\0')
		violation("expired: key %s was touched after its end", k->shown);
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 3) : 0);
	if (outcome == OUTCOME_DONE)
		look_again(c, key);
}

/* Changes the document by an append, of a message or of none. */
void
patch_one(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	op_call(op, "append with a patch");
	outcome = client_run(c,
						 "SELECT session_append('%s', '%s', patch => '{\"k\": %d, \"v\": %d}', "
						 "keep => 2, namespace => '%s'); " VERSION,
						 k->id, chance(&c->random, 50) ? "[]" : "{\"m\": 1}", key, op, k->ns, k->ns,
						 k->id);
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 1) : 0);
	if (c->fence_all && outcome == OUTCOME_DONE)
		look_again(c, key);
}

/* Several sessions by one call; and two elements that are none. */
static void
read_many(Client *c)
{
	const Database *db = &dbs[c->db];
	int first = db->first + (chance(&c->random, 50) ? db->half : 0);
	int which[MANY];
	char ids[200] = "";
	int64_t start;
	char *at;
	int n = 0;

	for (int i = 0; i < MANY; i++)
	{
		which[i] = first + (int) between(&c->random, 0, db->half - 1);
		snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "'%s', ", keys[which[i]].id);
	}
	start = now_us();
	if (client_run(c,
				   "SELECT string_agg(coalesce(session_data::text, '-'), '|' ORDER BY ordinality) "
				   "FROM session_get_many(ARRAY[%s'absent', NULL], '%s') WITH ORDINALITY",
				   ids, keys[first].ns) != OUTCOME_DONE)
		return;
	for (char *text = strtok_r(c->long_value, "|", &at); text != NULL;
		 text = strtok_r(NULL, "|", &at), n++)
		if (n < MANY && strcmp(text, "-") != 0)
			(void) note_read(which[n], text, READER_SQL, start, 0);
		else if (n >= MANY && strcmp(text, "-") != 0)
			violation("get_many: an absent session has the document %.60s", text);
	if (n != MANY + 2)
		violation("get_many: %d rows for %d elements", n, MANY + 2);
}

/* A window is what a copy of the tail would be. */
static void
read_window(Client *c)
{
	const Database *db = &dbs[c->db];
	int key = db->first_tail + (int) between(&c->random, 0, db->tails - 1);
	int64_t start = now_us();

	if (client_run(c,
				   "SELECT jsonb_agg(message ORDER BY ordinality) FROM session_window('%s', "
				   "max_messages => %d, namespace => 'talk') WITH ORDINALITY",
				   keys[key].id, TAIL_SIZE) == OUTCOME_DONE &&
		c->long_value != NULL && c->long_value[0] != '\0')
		(void) note_read(key, c->long_value, READER_SQL, start, 0);
}

void *
sql_reader(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		if (!client_follow(&c))
			continue;
		ops_by_kind[DO_READ_MANY]++;
		if (HAS_SCENE(SCENE_TAILS) && chance(&c.random, 40))
			read_window(&c);
		else
			read_many(&c);
		pause_us(between(&c.random, 0, 8 * MS));
	}
	client_end(&c);
	return NULL;
}
