/*
 * tail.c
 *		Clients that append messages, and an administrator who changes histories by plain SQL.
 *
 * Every change leaves a message with its own op as the last of the history, or no message at all,
 * so that a tail shows which change it reflects (seen.c).  Each change is one implicit transaction
 * of several statements, sent at once.  The last statement draws the rank of the op from a
 * sequence while the transaction holds the row lock of the session, or the table lock.  Messages
 * are therefore changed only under that lock, and by plain SQL only where there is a row to lock.
 *
 * Fenced: the end of the session, amend, trim and an append with `keep` that remove messages, and
 * messages that are removed or altered by plain SQL.  Not fenced: append, pop, replace_tail.
 *
 * An append with an operation_id is sent again, whether its answer came or not, as long as the session
 * has the same history: it must have been carried out once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define RANK "SELECT nextval('rank')"
#define SESSION "namespace = 'talk' AND session_id = '%s'"
#define ITS_HISTORY \
	"h.history_id = (SELECT history_id FROM conversation_sessions WHERE " SESSION ")"
#define MESSAGE "'{\"k\": %d, \"v\": %d}'"
#define APPEND "SELECT session_append('%s', " MESSAGE ", namespace => 'talk'); "
/* An error where there is no row to lock. */
#define LOCK \
	"SELECT 1 / count(*) FROM (SELECT FROM conversation_sessions WHERE " SESSION " FOR UPDATE) s; "
/* An append to this history of a session that is alive, or an error. */
#define OPERATION                                                                      \
	"SELECT 1 / count(*) FROM (SELECT FROM conversation_sessions WHERE " SESSION       \
	" AND history_id = '%s' AND dead_until IS NULL AND expires_at > clock_timestamp()" \
	" FOR UPDATE) s; SELECT session_append('%s', " MESSAGE ", 'op %d', namespace => 'talk'); "
#define ALTER                                                                                 \
	"UPDATE conversation_history h SET message = '{\"k\": %d, \"v\": %d}' WHERE " ITS_HISTORY \
	" AND h.seq = (SELECT max(i.seq) FROM conversation_history i WHERE i.history_id = "       \
	"h.history_id AND (i.message ->> 'v')::int <> %d) RETURNING h.seq; "

#define TRUNCATE_EVERY (15 * SEC)

static volatile int64_t truncate_last[DBS];

/* An op has ended whose statements returned its rank last. */
static bool
finish(Client *c, int key, int op, Outcome outcome, bool changed)
{
	if (outcome == OUTCOME_DONE && !changed)
		outcome = OUTCOME_FAILED;
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, c->nvalues - 1) : 0);
	if (outcome == OUTCOME_DONE && op_at(op)->fenced)
		look_again(c, key);
	return outcome == OUTCOME_DONE;
}

static void
append(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	ops_by_kind[DO_APPEND]++;
	switch (between(&c->random, 0, 9))
	{
		case 0: /* a pop, and it does not show that one message is gone */
			outcome = client_run(c, "SELECT session_pop('%s', 1, 'talk'); " APPEND RANK, id, id,
								 key, op);
			break;
		case 1:
			outcome = client_run(c, APPEND "SELECT session_trim('%s', 2, 'talk'); " RANK, id, key,
								 op, id);
			if (outcome == OUTCOME_DONE && number(c, 1) > 0)
				op_at(op)->fenced = true;
			break;
		case 2: /* beside changes that a savepoint undoes */
			(void) client_run(c,
							  "BEGIN; " APPEND "SAVEPOINT s; SELECT session_pop('%s', 2, 'talk')",
							  id, key, op, id);
			(void) client_run(c, "ROLLBACK TO s");
			outcome = client_run(c, RANK "; COMMIT");
			if (outcome == OUTCOME_FAILED)
				(void) client_run(c, "ROLLBACK");
			break;
		default:
			outcome = client_run(c, APPEND RANK, id, key, op);
			break;
	}
	(void) finish(c, key, op, outcome, true);
}

/* An append that leaves two messages, of a session that has messages. */
static void
append_and_keep(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	op_call(op, "append with keep");
	outcome = client_run(c,
						 LOCK "SELECT count(*) FROM session_history('%s', 2, namespace => 'talk'); "
							  "SELECT session_append('%s', " MESSAGE
							  ", keep => 2, namespace => 'talk'); " RANK,
						 id, id, id, key, op);
	if (outcome == OUTCOME_DONE && number(c, 1) == 2)
		op_at(op)->fenced = true;
	(void) finish(c, key, op, outcome, true);
}

/* The last messages, or all, are replaced by one. */
static void
replace_tail(Client *c, int key)
{
	bool all = chance(&c->random, 30);
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	op_call(op, all ? "replace_tail of all" : "replace_tail");
	op_at(op)->clears = all;
	outcome = client_run(c,
						 "SELECT session_replace_tail('%s', %d, " MESSAGE
						 ", namespace => 'talk'); " RANK,
						 keys[key].id, all ? 1000000 : (int) between(&c->random, 1, 3), key, op);
	(void) finish(c, key, op, outcome, c->values[0][0] != '\0');
}

/* The last message is amended. */
static void
amend(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_SAVE, c->node, true, 1);
	Outcome outcome;

	op_call(op, "amend");
	outcome = client_run(c,
						 LOCK
						 "SELECT session_amend('%s', (SELECT max(seq) FROM session_history('%s', "
						 "1, namespace => 'talk')), " MESSAGE ", 'talk'); " RANK,
						 id, id, id, key, op);
	(void) finish(c, key, op, outcome, c->nvalues > 1 && c->values[1][0] == 't');
}

/* Was the message of an operation inserted more than once into a history? */
static void
check_once(Client *c, int key, int op, const char *history)
{
	if (client_run(c,
				   "SELECT count(*) FROM conversation_history WHERE history_id = '%s' AND message "
				   "->> 'v' = '%d'",
				   history, op) == OUTCOME_DONE &&
		number(c, 0) > 1)
		violation("repeated: the append %d to %s was carried out %lld times", op, keys[key].shown,
				  (long long) number(c, 0));
}

/* An append with an operation_id, which is sent twice. */
static void
append_twice(Client *c, int key)
{
	const char *id = keys[key].id;
	Outcome outcome;
	char history[64];
	int64_t seq;
	int op;

	if (client_run(c, "SELECT history_id FROM conversation_sessions WHERE " SESSION, id) !=
			OUTCOME_DONE ||
		c->values[0][0] == '\0')
		return;
	snprintf(history, sizeof(history), "%s", c->values[0]);
	op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	op_call(op, "append with an operation_id");
	ops_by_kind[DO_REPEAT]++;
	outcome = client_run(c, OPERATION RANK, id, history, id, key, op, op);
	seq = number(c, 1);
	if (outcome == OUTCOME_FAILED ||
		(outcome == OUTCOME_DONE && !finish(c, key, op, outcome, true)))
	{
		op_end(op, OUTCOME_FAILED, 0);
		return;
	}
	/* the client does not know, or has forgotten, that it was carried out */
	for (int64_t until = now_us() + 5 * SEC; !client_follow(c);)
		if (run.stopping || now_us() > until)
			return;
	if (client_run(c, OPERATION, id, history, id, key, op, op) != OUTCOME_DONE)
	{
		if (strcmp(c->state, "23505") == 0 || strcmp(c->state, "SST11") == 0)
			violation("repeated: the append %d to %s is refused: %s", op, keys[key].shown,
					  c->state);
		return;
	}
	if (outcome == OUTCOME_PENDING)
		op_end(op, OUTCOME_DONE, 0); /* its place in the order is not known */
	else if (number(c, 1) != seq && c->node == op_at(op)->node)
		violation("repeated: the append %d to %s returned %lld and then %lld", op, keys[key].shown,
				  (long long) seq, (long long) number(c, 1));
	check_once(c, key, op, history);
}

/* By the calls that do more than append. */
static void
by_call(Client *c, int key)
{
	static void (*const calls[])(Client *, int) = {append_and_keep, replace_tail, amend,
												   append_twice};

	ops_by_kind[DO_APPEND]++;
	calls[between(&c->random, 0, 3)](c, key);
}

/* An append of which nothing may ever be seen. */
static void
append_in_vain(Client *c, int key)
{
	int op = op_begin(key, OP_SAVE, c->node, false, 1);

	ops_by_kind[DO_APPEND]++;
	(void) client_run(c, "BEGIN; " APPEND, keys[key].id, key, op);
	(void) client_run(c, "ROLLBACK");
	op_end(op, OUTCOME_FAILED, 0);
}

/*
 * Messages are removed by plain SQL in a transaction that also appends one, before or afterwards.
 */
static void
append_and_remove(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_SAVE, c->node, true, 1);
	Outcome outcome;

	op_at(op)->clears = true;
	op_call(op, "append and DELETE of messages by hand");
	if (chance(&c->random, 70))
		outcome = client_run(c,
							 APPEND "DELETE FROM conversation_history h WHERE " ITS_HISTORY
									" AND (h.message ->> 'v')::int <> %d; " RANK,
							 id, key, op, id, op);
	else
		outcome = client_run(c,
							 LOCK "DELETE FROM conversation_history h WHERE " ITS_HISTORY
								  "; " APPEND RANK,
							 id, id, id, key, op);
	(void) finish(c, key, op, outcome, true);
}

/*
 * The last message is altered; or the one before the last, in a transaction that appends
 * the last: then both are the op's.
 */
static void
alter(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_SAVE, c->node, true, 1);
	Outcome outcome;

	if (chance(&c->random, 50))
	{
		op_call(op, "UPDATE of a message by hand");
		outcome = client_run(c, LOCK ALTER RANK, id, key, op, id, 0);
		(void) finish(c, key, op, outcome, c->nvalues > 1 && c->values[1][0] != '\0');
		return;
	}
	op_call(op, "append and UPDATE of a message by hand");
	outcome = client_run(c, APPEND ALTER RANK, id, key, op, key, op, id, op);
	op_at(op)->fenced = c->nvalues > 1 && c->values[1][0] != '\0';
	(void) finish(c, key, op, outcome, true);
}

/* All messages are removed; the session continues. */
static void
empty(Client *c, int key)
{
	const char *id = keys[key].id;
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	Outcome outcome = client_run(c,
								 LOCK "DELETE FROM conversation_history h WHERE " ITS_HISTORY
									  " RETURNING h.seq; " RANK,
								 id, id);

	(void) finish(c, key, op, outcome, c->nvalues > 1 && c->values[1][0] != '\0');
}

static void
by_hand(Client *c, int key)
{
	ops_by_kind[DO_TAIL_HAND]++;
	if (chance(&c->random, 60))
		append_and_remove(c, key);
	else if (chance(&c->random, 70))
		alter(c, key);
	else
		empty(c, key);
}

/* How a session ends: each returns a row for each change, then whether it ended, then the rank. */
static const struct
{
	const char *what;
	const char *sql; /* of the id, up to twice */
} ends[] = {{"delete", "SELECT 1; SELECT session_delete('%s', 'talk'); " RANK},
			{"delete after history_id = NULL by hand",
			 "UPDATE conversation_sessions SET history_id = NULL WHERE " SESSION
			 " AND dead_until IS NULL RETURNING version; "
			 "SELECT session_delete('%s', 'talk'); " RANK},
			{"DELETE of the session by hand",
			 "SELECT 1; DELETE FROM conversation_sessions WHERE " SESSION
			 " AND dead_until IS NULL RETURNING true; " RANK},
			{"dead_until set by hand",
			 "SELECT 1; UPDATE conversation_sessions SET dead_until = clock_timestamp() + '100 ms' "
			 "WHERE " SESSION " AND dead_until IS NULL RETURNING true; " RANK},
			{"take", "SELECT 1; SELECT session_take('%s', 'talk') IS NOT NULL; " RANK},
			{"touch with an expiry in the past",
			 "SELECT 1; SELECT session_touch('%s', namespace => 'talk', expires_at => "
			 "clock_timestamp() - interval '1 ms') IS NOT NULL; " RANK}};

static void
end_session(Client *c, int key)
{
	const char *id = keys[key].id;
	int ways = HAS_SCENE(SCENE_BURY) ? 3 : 2;
	int how = HAS_SCENE(SCENE_HAND) && chance(&c->random, 60) ? (int) between(&c->random, 1, ways)
															  : 0;
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	Outcome outcome;

	if (HAS_SCENE(SCENE_CALLS) && chance(&c->random, 30))
		how = (int) between(&c->random, 4, 5);
	ops_by_kind[DO_TAIL_END]++;
	op_call(op, ends[how].what);
	outcome = client_run(c, ends[how].sql, id, id);
	(void) finish(c, key, op, outcome, c->nvalues > 1 && c->values[1][0] == 't');
}

/* The histories of the whole database. */
static void
truncate_all(Client *c)
{
	const Database *db = &dbs[c->db];
	int tails = db->tails + db->turn_tails;
	int op = op_begin(db->first_tail, OP_DELETE, c->node, true, tails);
	Outcome outcome;

	ops_by_kind[DO_TRUNCATE]++;
	for (int i = 0; i < tails; i++)
		op_call(op + i, "TRUNCATE of histories");
	outcome = client_run(c, "SET lock_timeout = '1s'; TRUNCATE conversation_history; " RANK);
	for (int i = 0; i < tails; i++)
		op_end(op + i, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
	for (int i = 0; i < tails && outcome == OUTCOME_DONE; i++)
		look_again(c, db->first_tail + i);
	(void) client_run(c, "RESET lock_timeout");
}

/* After a TRUNCATE all copies are flushed, which corrects what was wrong: not often. */
static bool
is_time_to_truncate(int db)
{
	int64_t last = truncate_last[db];
	int64_t now = now_us();

	return HAS_SCENE(SCENE_HAND) && now > (last == 0 ? run.started : last) + TRUNCATE_EVERY &&
		   __atomic_compare_exchange_n(&truncate_last[db], &last, now, false, __ATOMIC_SEQ_CST,
									   __ATOMIC_SEQ_CST);
}

/* Changes histories until the run ends; follows the primary. */
void *
tail_writer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};
	const Database *db = &dbs[c.db];

	c.fence_all = chance(&c.random, 25);
	while (!run.stopping)
	{
		int64_t die = between(&c.random, 0, 99);
		int key = db->first_tail + (chance(&c.random, 80)
										? focus_of(now_us(), db->tails)
										: (int) between(&c.random, 0, db->tails - 1));

		if (!client_follow(&c))
			continue;
		if (is_time_to_truncate(c.db))
			truncate_all(&c);
		else if (die < 10)
			end_session(&c, key);
		else if (die < 16)
			append_in_vain(&c, key);
		else if (die < 50 && HAS_SCENE(SCENE_HAND))
			by_hand(&c, key);
		else if (die < 70 && HAS_SCENE(SCENE_CALLS))
			by_call(&c, key);
		else
			append(&c, key);
		/* a wrong tail that was left behind stays for some time before the next change */
		pause_us(between(&c.random, 0, 12 * MS));
	}
	client_end(&c);
	return NULL;
}
