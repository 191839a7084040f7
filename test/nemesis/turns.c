/*
 * turns.c
 *		Clients that hold turns of sessions, and go on when their turn is over.
 *
 * A client begins a turn with a short ttl, waiting for it or not, and changes the session.  It may
 * then sleep past its turn, or have its backend suspended (backend-stop), and changes the session with
 * the token nevertheless; it keeps tokens that are over, and uses them later.  A change is one
 * transaction that takes the session's row lock by a call with the token and draws its rank under it,
 * as in tail.c.  In a session all else is done without a turn, which is not checked: it is created by a
 * save, and ended.
 *
 * Each change leaves a value of its own in the document or a message of its own as the last, so that
 * readers of Redis and SQL judge it as any other (history.c).  One that was refused is an op that
 * failed: nobody may ever see it.  turn_log.c judges the tokens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define VALUE "'{\"k\": %2$d, \"v\": %3$d}'"
#define WITH ", namespace => 'turn', turn => %4$lld); "
#define APPEND "SELECT session_append('%1$s', " VALUE ", namespace => 'turn'); "
#define LAST_SEQ "(SELECT max(seq) FROM session_history('%1$s', 1, namespace => 'turn'))"
#define CLOCK "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint; "
#define RANKS                                                                                      \
	"; SELECT version FROM conversation_sessions WHERE namespace = 'turn' AND session_id = '%s'; " \
	"SELECT nextval('rank')"

/* A client, and the tokens that it keeps. */
typedef struct Holder
{
	Client c;
	int turn[KEYS_TURN]; /* the last of each session; 0: none */
} Holder;

/*
 * Calls with a token.  One that leaves no value is followed by one that does, without a token, so that
 * only the call can refuse it.
 */
static const struct
{
	const char *what;
	const char *sql; /* of the id, key, op, token */
	bool tail;
	bool fenced;
} changes[] = {{"save", "SELECT session_save('%1$s', " VALUE WITH, false, false},
			   {"merge", "SELECT session_merge('%1$s', " VALUE WITH, false, false},
			   {"append with a patch", "SELECT session_append('%1$s', '[]', patch => " VALUE WITH,
				false, false},
			   {"incr",
				"SELECT session_incr('%1$s', '{n}'" WITH "SELECT session_save('%1$s', " VALUE
				", namespace => 'turn'); ",
				false, false},
			   {"append", "SELECT session_append('%1$s', " VALUE WITH, true, false},
			   {"append with keep", "SELECT session_append('%1$s', " VALUE ", keep => 3" WITH, true,
				false},
			   {"pop", "SELECT session_pop('%1$s', 1" WITH APPEND, true, false},
			   {"pop from the start",
				"SELECT session_pop('%1$s', 1, from_start => true" WITH APPEND, true, false},
			   {"trim", "SELECT session_trim('%1$s', 3" WITH APPEND, true, false},
			   {"amend", "SELECT session_amend('%1$s', " LAST_SEQ ", " VALUE WITH, true, true},
			   {"replace_tail", "SELECT session_replace_tail('%1$s', 2, " VALUE WITH, true, false},
			   {"compact", "SELECT session_compact('%1$s', " LAST_SEQ ", " VALUE WITH APPEND, true,
				true}};

#define CHANGES (sizeof(changes) / sizeof(changes[0]))

/*
 * Runs statements with the token of a turn, in a transaction of their own; some in a savepoint, of
 * which a refusal leaves the transaction.  Sets use->asked, and in `answer` what the call returned.
 */
static Outcome
run_with(Client *c, TurnUse *use, const char *sql, char *answer, int64_t *version)
{
	bool inside = chance(&c->random, 30);
	const Turn *turn = turn_at(use->turn);
	Outcome outcome;

	use->session = turn->session;
	use->node = c->node;
	use->least = turn->least;
	use->most = turn->most;
	use->invoked = now_us();
	outcome = client_run(c, "%s" CLOCK "%s", inside ? "BEGIN; SAVEPOINT s; " : "", sql);
	use->asked = number(c, 0);
	snprintf(answer, sizeof(c->values[0]), "%s", c->nvalues > 1 ? c->values[1] : "");
	if (outcome == OUTCOME_DONE)
	{
		*version = number(c, c->nvalues - 2);
		use->rank = number(c, c->nvalues - 1);
	}
	if (inside && outcome != OUTCOME_PENDING)
	{
		char state[6];
		Outcome end;

		memcpy(state, c->state, sizeof(state));
		end = client_run(c, outcome == OUTCOME_DONE ? "COMMIT" : "ROLLBACK TO s; COMMIT");
		if (end == OUTCOME_FAILED)
			(void) client_run(c, "ROLLBACK");
		else
			memcpy(c->state, state, sizeof(state));
		if (outcome == OUTCOME_DONE)
			outcome = end;
	}
	use->completed = now_us();
	use->answered = wall_us();
	return outcome;
}

/* Was the token refused? */
static bool
is_refused(const Client *c, Outcome outcome)
{
	return outcome == OUTCOME_FAILED && strcmp(c->state, "SST12") == 0;
}

/* One change with a token, whether the turn is over or not. */
static void
change(Client *c, int number_of_turn)
{
	const Turn *turn = turn_at(number_of_turn);
	size_t how = (size_t) between(&c->random, 0, CHANGES - 1);
	bool tail = changes[how].tail;
	int key = (tail ? FIRST_TURN_TAIL : FIRST_TURN) + turn->session;
	TurnUse use = {.what = changes[how].what, .turn = number_of_turn};
	Outcome outcome;
	int64_t version = 0;
	char answer[64];
	char sql[800];
	size_t len;
	int op;

	if (!client_follow(c))
		return;
	ops_by_kind[DO_TURN_CHANGE]++;
	op = op_begin(key, OP_SAVE, c->node, changes[how].fenced || c->fence_all, 1);
	op_call(op, use.what);
	len = (size_t) snprintf(sql, sizeof(sql), changes[how].sql, keys[key].id, key, op,
							(long long) turn->token);
	/* the last statement has its own semicolon */
	snprintf(sql + len - 2, sizeof(sql) - len, RANKS, keys[key].id);
	outcome = run_with(c, &use, sql, answer, &version);
	if (outcome == OUTCOME_DONE || is_refused(c, outcome))
	{
		use.accepted = outcome == OUTCOME_DONE;
		turn_used(&use);
	}
	/* there was no message to amend, or none for a summary to stand in for */
	if (changes[how].fenced && (answer[0] == '\0' || answer[0] == 'f'))
	{
		op_at(op)->fenced = c->fence_all;
		if (strcmp(use.what, "amend") == 0 && outcome == OUTCOME_DONE)
			outcome = OUTCOME_FAILED;
	}
	op_end(op, outcome, outcome == OUTCOME_DONE ? (tail ? use.rank : version) : 0);
	if (outcome == OUTCOME_DONE && op_at(op)->fenced)
		look_again(c, key);
}

/* Renews a turn, or ends it. */
static void
renew_or_end(Client *c, int number_of_turn, int64_t ttl)
{
	Turn *turn = turn_at(number_of_turn);
	TurnUse use = {.what = ttl == 0 ? "end" : "renew", .turn = number_of_turn};
	const char *id;
	char sql[200];
	char answer[64];
	int64_t version = 0;
	int64_t called;
	Outcome outcome;

	if (!client_follow(c))
		return;
	id = keys[FIRST_TURN + turn->session].id;
	if (ttl == 0)
		snprintf(sql, sizeof(sql), "SELECT session_turn_end('%s', %lld, 'turn')", id,
				 (long long) turn->token);
	else
		snprintf(sql, sizeof(sql), "SELECT session_turn_renew('%s', %lld, '%lld ms', 'turn')", id,
				 (long long) turn->token, (long long) (ttl / MS));
	called = wall_us();
	outcome = run_with(c, &use, sql, answer, &version);
	use.rank = 0;
	use.accepted = outcome == OUTCOME_DONE && answer[0] == 't';
	if (outcome == OUTCOME_DONE)
		turn_used(&use);
	if (outcome == OUTCOME_FAILED || (outcome == OUTCOME_DONE && !use.accepted))
		return;
	if (use.node != turn->node)
	{
		/* a server that has taken over knows less of the turn; it is judged where it was given */
		turn->most = INT64_MAX;
		return;
	}
	if (outcome == OUTCOME_PENDING)
	{
		/* it may even be carried out later */
		turn->least = 0;
		if (ttl > 0)
			turn->most = INT64_MAX;
	}
	else if (ttl > 0)
	{
		turn->least = turn->least == 0 ? 0 : called + ttl;
		turn->most = turn->most == INT64_MAX ? INT64_MAX : use.answered + ttl;
	}
	else
	{
		turn->least = turn->least < called ? turn->least : called;
		turn->ended = use.completed;
	}
}

/* Begins a turn, and waits for it so long; returns its number, or 0. */
static int
begin(Client *c, int session, int64_t wait)
{
	Turn turn = {.session = session, .ended = INT64_MAX, .node = c->node};
	int64_t ttl = chance(&c->random, 85) ? between(&c->random, 10, 100)
										 : between(&c->random, 200, 1000);

	ops_by_kind[DO_TURN]++;
	turn.invoked = now_us();
	if (client_run(c, "SELECT session_turn_begin('%s', '%lld ms', '%lld ms', 'holder', 'turn')",
				   keys[FIRST_TURN + session].id, (long long) ttl,
				   (long long) wait) != OUTCOME_DONE ||
		c->values[0][0] == '\0')
		return 0;
	turn.completed = now_us();
	turn.token = number(c, 0);
	turn.least = turn.most = turn.token + ttl * MS;
	return turn_begun(&turn);
}

/* Begins a turn at the time at which the one that is held will have passed, as others do. */
static int
begin_later(Client *c, int session)
{
	int64_t until;

	if (client_run(c,
				   "SELECT (extract(epoch FROM until) * 1000000)::bigint FROM session_turn('%s', "
				   "'turn')",
				   keys[FIRST_TURN + session].id) != OUTCOME_DONE)
		return 0;
	until = number(c, 0);
	pause_us(until == 0 || until > wall_us() + 200 * MS ? 0 : until - wall_us());
	return begin(c, session, 0);
}

/* Creates the session, if there is none. */
static void
create(Client *c, int session)
{
	int key = FIRST_TURN + session;
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome =
		client_run(c,
				   "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', if_version => 0, "
				   "namespace => 'turn')",
				   keys[key].id, key, op);

	op_call(op, "creation");
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
}

/* Changes the document without a turn, and keeps the row lock for a while: turns pass meanwhile. */
static void
keep_lock(Client *c, int session)
{
	int key = FIRST_TURN + session;
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	TurnUse use = {.what = "save without a turn", .session = session, .node = c->node};
	Outcome outcome =
		client_run(c,
				   "BEGIN; SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', if_version => -1, "
				   "namespace => 'turn')" RANKS "; SELECT pg_sleep(0.%03d); " CLOCK "COMMIT",
				   keys[key].id, key, op, keys[key].id, (int) between(&c->random, 10, 90));

	op_call(op, use.what);
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
	if (outcome == OUTCOME_FAILED)
		(void) client_run(c, "ROLLBACK");
	if (outcome != OUTCOME_DONE)
		return;
	use.accepted = true;
	use.rank = number(c, 2);
	use.locked = number(c, 4);
	turn_used(&use);
}

/* Ends the session, and with it the turn. */
static void
end_session(Client *c, int session)
{
	const char *id = keys[FIRST_TURN + session].id;
	int document = op_begin(FIRST_TURN + session, OP_DELETE, c->node, true, 1);
	int tail = op_begin(FIRST_TURN_TAIL + session, OP_DELETE, c->node, true, 1);
	int64_t wall = wall_us();
	const char *how = chance(&c->random, 50) ? "session_delete('%s', 'turn')"
											 : "session_take('%s', 'turn') IS NOT NULL";
	char call[80];
	Outcome outcome;

	snprintf(call, sizeof(call), how, id);
	outcome = client_run(c, "SELECT %s" RANKS, call, id);
	if (outcome == OUTCOME_DONE && c->values[0][0] != 't')
		outcome = OUTCOME_FAILED;
	op_end(document, outcome, outcome == OUTCOME_DONE ? number(c, 1) : 0);
	op_end(tail, outcome, outcome == OUTCOME_DONE ? number(c, 2) : 0);
	turn_session_ended(session, document, wall);
	if (outcome != OUTCOME_DONE)
		return;
	look_again(c, FIRST_TURN + session);
	look_again(c, FIRST_TURN_TAIL + session);
}

/* A turn from its begin to its end, or for longer. */
static void
hold(Holder *h, int session)
{
	Client *c = &h->c;
	int turn = begin(c, session, chance(&c->random, 60) ? 0 : between(&c->random, 30, 500));

	for (int tries = 0; turn == 0 && tries < 3 && !run.stopping; tries++)
		turn = begin_later(c, session);
	if (turn == 0)
	{
		create(c, session);
		return;
	}
	for (int64_t n = between(&c->random, 0, 4); n > 0 && !run.stopping; n--)
	{
		change(c, turn);
		pause_us(between(&c->random, 0, 10 * MS));
	}
	if (chance(&c->random, 8))
	{
		/* the same id, and another session */
		end_session(c, session);
		create(c, session);
		change(c, turn);
	}
	if (chance(&c->random, 25))
		renew_or_end(c, turn, between(&c->random, 20, 200) * MS);
	if (chance(&c->random, 50))
	{
		/* stalled, at times not for long enough */
		pause_us(turn_at(turn)->least - wall_us() + between(&c->random, -5, 150) * MS);
		change(c, turn);
		change(c, turn);
	}
	if (chance(&c->random, 15))
		renew_or_end(c, turn, between(&c->random, 20, 200) * MS);
	if (chance(&c->random, 70))
		renew_or_end(c, turn, 0);
	h->turn[session] = turn;
}

/* Begins turns until the run ends; follows the primary. */
void *
turn_holder(void *arg)
{
	const Task *task = arg;
	Holder h = {.c = {.random = task->seed, .db = task->db}};
	Client *c = &h.c;

	c->fence_all = chance(&c->random, 25);
	while (!run.stopping)
	{
		int session = chance(&c->random, 75) ? focus_of(now_us(), KEYS_TURN)
											 : (int) between(&c->random, 0, KEYS_TURN - 1);

		if (!client_follow(c))
			continue;
		if (chance(&c->random, 2))
			end_session(c, session);
		else if (chance(&c->random, 6))
			keep_lock(c, session);
		else if (h.turn[session] != 0 && chance(&c->random, 25))
			change(c, h.turn[session]);
		else
			hold(&h, session);
		pause_us(between(&c->random, 0, 6 * MS));
	}
	client_end(c);
	return NULL;
}

/* Reads documents and tails by SQL, which also makes copies of them. */
void *
turn_reader(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		bool tail = chance(&c.random, 50);
		int key = (tail ? FIRST_TURN_TAIL : FIRST_TURN) +
				  (int) between(&c.random, 0, KEYS_TURN - 1);
		int64_t start;

		if (!client_follow(&c))
			continue;
		start = now_us();
		if (client_run(&c, "SELECT session_%s('%s', 'turn')", tail ? "tail" : "get",
					   keys[key].id) == OUTCOME_DONE &&
			c.long_value != NULL && c.long_value[0] != '\0')
			(void) note_read(key, c.long_value, READER_SQL, start, 0);
		pause_us(between(&c.random, 0, 5 * MS));
	}
	client_end(&c);
	return NULL;
}
