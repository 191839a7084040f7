/*
 * turn_log.c
 *		What was done with the tokens of turns, and whether it may be.
 *
 * What is judged, for each session and node, unless said otherwise:
 *
 *	tokens		a begin that was sent after another one was answered, on whichever node, returned a
 *				higher token, and no token was given twice
 *	holders		no turn began while another was surely held: before its ttl had passed, the client
 *				called session_turn_end(), or the session was ended
 *	order		of the changes that were accepted, in the order of their ranks, none has a lower
 *				token than one before it
 *	late		no call was accepted that was sent after the turn was surely over: another begin was
 *				answered, or session_turn_end(), or an end of the session; or when the clock of the
 *				server, read before the call, was beyond its ttl
 *	lock		no change was accepted whose turn had passed when another one, with a lower rank, still
 *				had the row lock
 *	refused		no call was refused that was answered while the turn was surely held
 *
 * Left out, since it cannot be told: begins and changes without an answer.  A standby that takes over
 * may not have what happened to a turn, so a turn is judged where it was given, but for its ttl.
 *
 * A token is the time of the server at which the turn began, or later, so that the turn cannot last
 * longer than token plus ttl; and as no token was ever given ahead of the clock, not shorter either.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "nemesis.h"

#define TURNS_MOST 400000
#define USES_MOST 2000000
#define ENDS_MOST 100000
#define NEVER INT64_MAX

typedef struct SessionEnd
{
	int session;
	int op;
	int64_t wall; /* when it was called */
} SessionEnd;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Turn turns[TURNS_MOST]; /* touched only as they fill */
static TurnUse uses[USES_MOST];
static SessionEnd ends[ENDS_MOST];
static int nturns = 1, nuses = 0, nends = 0;

/* Records a turn that was given; returns its number, or 0. */
int
turn_begun(const Turn *turn)
{
	int n = 0;

	pthread_mutex_lock(&lock);
	if (nturns < TURNS_MOST)
	{
		n = nturns++;
		turns[n] = *turn;
	}
	pthread_mutex_unlock(&lock);
	return n;
}

/* Only the client that began it may change it. */
Turn *
turn_at(int turn)
{
	return &turns[turn];
}

void
turn_used(const TurnUse *use)
{
	pthread_mutex_lock(&lock);
	if (nuses < USES_MOST)
		uses[nuses++] = *use;
	pthread_mutex_unlock(&lock);
}

/* An op that ended a session, perhaps, was called at this wall time. */
void
turn_session_ended(int session, int op, int64_t wall)
{
	pthread_mutex_lock(&lock);
	if (nends == ENDS_MOST)
		die("too many ends of sessions with turns: fewer seconds, please");
	ends[nends++] = (SessionEnd){session, op, wall};
	pthread_mutex_unlock(&lock);
}

static double
seconds(int64_t since)
{
	return (double) since / 1e6;
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static const char *
name_of(const Turn *turn)
{
	return keys[FIRST_TURN + turn->session].id;
}

static int
compare(int64_t a, int64_t b)
{
	return a < b ? -1 : a > b;
}

/* By session and token. */
static int
by_token(const void *a, const void *b)
{
	const Turn *x = *(Turn *const *) a;
	const Turn *y = *(Turn *const *) b;

	return x->session != y->session ? compare(x->session, y->session) : compare(x->token, y->token);
}

/* Changes by session, node and rank; all else comes first. */
static int
by_rank(const void *a, const void *b)
{
	const TurnUse *x = a;
	const TurnUse *y = b;

	if (x->session != y->session)
		return compare(x->session, y->session);
	return x->node != y->node ? compare(x->node, y->node) : compare(x->rank, y->rank);
}

/* The ends of its session that a turn did not survive, or may not have. */
static void
find_ends(Turn *turn)
{
	turn->gone = turn->cut = NEVER;
	for (int i = 0; i < nends; i++)
	{
		const Op *op = op_at(ends[i].op);

		if (ends[i].session != turn->session || op->node != turn->node ||
			op->outcome == OUTCOME_FAILED)
			continue;
		if (op->outcome == OUTCOME_PENDING || op->completed > turn->invoked)
			turn->cut = earlier(turn->cut, ends[i].wall);
		if (op->outcome == OUTCOME_DONE && op->invoked > turn->completed)
			turn->gone = earlier(turn->gone, op->completed);
	}
}

/* Sets of each turn when a later one was known, and judges tokens and holders. */
static void
judge_begins(Turn **list, int n)
{
	int64_t answered = NEVER;                   /* of a higher token, of the session */
	int64_t superseded[NODES] = {NEVER, NEVER}; /* the same by node */
	const Turn *later[NODES] = {NULL, NULL};    /* the next higher token */

	for (int i = n - 1; i >= 0; i--)
	{
		Turn *t = list[i];
		const Turn *next;

		if (i == n - 1 || list[i + 1]->session != t->session)
		{
			answered = NEVER;
			for (int node = 0; node < NODES; node++)
			{
				superseded[node] = NEVER;
				later[node] = NULL;
			}
		}
		find_ends(t);
		next = later[t->node];
		if (next != NULL && next->token == t->token)
			violation("turns, tokens: %s was given %lld twice", name_of(t), (long long) t->token);
		if (answered < t->invoked)
			violation("turns, tokens: %s was given %lld %.3f s after a higher one", name_of(t),
					  (long long) t->token, seconds(t->invoked - answered));
		if (next != NULL && next->token < earlier(t->least, t->cut))
			violation("turns, holders: %s was given %lld, %.3f s before the end of the turn %lld",
					  name_of(t), (long long) next->token,
					  seconds(earlier(t->least, t->cut) - next->token), (long long) t->token);
		t->superseded = superseded[t->node];
		answered = earlier(answered, t->completed);
		superseded[t->node] = earlier(superseded[t->node], t->completed);
		later[t->node] = t;
	}
}

/* Was a call accepted whose turn was over, or refused whose turn was not?  True: it was over. */
static bool
judge_use(const TurnUse *use)
{
	const Turn *t = &turns[use->turn];
	bool here = use->node == t->node;
	const char *why = NULL;

	if (use->asked >= use->most)
		why = "its time";
	else if (here && use->invoked > t->superseded)
		why = "another was given";
	else if (here && use->invoked > t->ended)
		why = "it was ended";
	else if (here && use->invoked > t->gone)
		why = "the session was ended";
	if (why != NULL && use->accepted)
		violation(
			"turns, late: %s of %s was accepted with the token %lld after %s, %.3f s after it "
			"was given",
			use->what, name_of(t), (long long) t->token, why, seconds(use->invoked - t->completed));
	if (!use->accepted && here && use->answered < earlier(use->least, t->cut) &&
		use->invoked < t->ended)
		violation("turns, refused: %s of %s was refused with the token %lld, %.3f s before its end",
				  use->what, name_of(t), (long long) t->token,
				  seconds(earlier(use->least, t->cut) - use->answered));
	return why != NULL;
}

/*
 * Calls of a session and node, by rank: each got the row lock when those before it had released it.  Returns
 * how many were accepted; adds to *late those that were sent when their turn was over.
 */
static int
judge_uses(const TurnUse *list, int n, int *late)
{
	const TurnUse *last = NULL; /* the last change with a token */
	int64_t locked = 0;         /* the row was locked by one before it */
	int accepted = 0;

	for (int i = 0; i < n; i++)
	{
		const TurnUse *use = &list[i];
		const Turn *t = &turns[use->turn];

		if (use->locked > locked)
			locked = use->locked;
		if (use->turn == 0)
			continue;
		*late += judge_use(use);
		accepted += use->accepted;
		if (use->rank == 0)
			continue;
		if (use->most <= locked)
			violation(
				"turns, lock: %s of %s got the row lock %.3f s after the end of the turn %lld",
				use->what, name_of(t), seconds(locked - use->most), (long long) t->token);
		if (last != NULL && turns[last->turn].token > t->token)
			violation("turns, order: %s of %s with the token %lld came after %s with %lld",
					  use->what, name_of(t), (long long) t->token, last->what,
					  (long long) turns[last->turn].token);
		last = use;
	}
	return accepted;
}

/* Everything is over. */
void
turns_judge(void)
{
	Turn **list = malloc(sizeof(Turn *) * (size_t) nturns);
	int accepted = 0, refused = 0, late = 0;

	if (list == NULL || nturns == 1)
	{
		free(list);
		return;
	}
	for (int i = 1; i < nturns; i++)
		list[i - 1] = &turns[i];
	qsort(list, (size_t) (nturns - 1), sizeof(Turn *), by_token);
	judge_begins(list, nturns - 1);
	qsort(uses, (size_t) nuses, sizeof(TurnUse), by_rank);
	for (int i = 0, n; i < nuses; i += n)
	{
		for (n = 1; i + n < nuses && uses[i + n].session == uses[i].session &&
					uses[i + n].node == uses[i].node;)
			n++;
		accepted += judge_uses(uses + i, n, &late);
	}
	for (int i = 0; i < nuses; i++)
		refused += !uses[i].accepted;
	say("turns: %d, %d ends of sessions; %d calls accepted, %d refused; %d were sent when the turn "
		"was surely over",
		nturns - 1, nends, accepted, refused, late);
	free(list);
}
