/*
 * history.c
 *		What was done, and whether what was seen (seen.c) may be.
 *
 * All judging waits until the end, when it is known of every op how it came out.
 *
 * What is judged, key by key, with the ops in the order of their ranks:
 *
 *	any reader		no value of an op that failed or was rolled back, none of another key
 *	plain			not longer than a copy lives after it was overwritten; in health not
 *					longer than HEALTHY_LAG
 *	SQL				not at all after any op succeeded, unless a server was promoted
 *	strong			not at all after a fenced op succeeded; not longer than the lease and
 *					STRONG_LAG after any op did
 *	tails			the same, by the op of the last message; and no message in front of it of
 *					an op after which another removed all messages
 *
 * Left out, since it cannot be told: ops whose fate or version is unknown (the connection
 * died), but for being seen in spite of a failure.
 *
 * After a promotion the rows of the new primary, read before any client went there, are
 * its first ops (the base); a value of the old primary stands in the new one's order where
 * the base has it, and else before everything.  Until the new one was seen to own Redis
 * (taken_over_at) strong readers read what the old one writes, and only fences of the new
 * one count; for no longer than the longest lease, after which it waits no more.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nemesis.h"

#define HEALTHY_LAG SEC
#define STRONG_LAG (500 * MS)
#define ALLOWANCE (300 * MS) /* for timers that fire late */
#define COMPLAINTS 4         /* of one kind */
#define KINDS 24

/* An op while its key is judged. */
typedef struct Ranked
{
	int op;
	int node;
	int64_t version;
} Ranked;

/* The worst that was seen, and the op whose value it was. */
typedef struct Worst
{
	int64_t stale;
	int op;
} Worst;

static Op *ops;
static volatile int nops = 1;
static int violations = 0;
static int base_value[KEYS];
static int64_t base_version[KEYS];
static int base_op[KEYS];
static Worst worst_plain, worst_strong, worst_healthy;
static int64_t least_slack = INT64_MAX; /* between plain staleness and the copy's life */
static uint64_t outcomes[3];

void
history_init(void)
{
	/* touched only as it fills */
	ops = mmap(NULL, sizeof(Op) * (size_t) OPS_MOST, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ops == MAP_FAILED)
		die("no memory for the history");
}

/* How often each kind was found: a text up to its colon. */
static struct
{
	char kind[60];
	int found;
} kinds[KINDS];

static bool
is_worth_saying(const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int len = (int) strcspn(text, ":");
	bool say_it = false;
	char kind[60];

	snprintf(kind, sizeof(kind), "%.*s", len < 59 ? len : 59, text);
	pthread_mutex_lock(&lock);
	for (int i = 0; i < KINDS; i++)
		if (kinds[i].found == 0 || strcmp(kinds[i].kind, kind) == 0)
		{
			memcpy(kinds[i].kind, kind, sizeof(kind));
			say_it = ++kinds[i].found <= COMPLAINTS;
			break;
		}
	pthread_mutex_unlock(&lock);
	return say_it;
}

void
violation(const char *format, ...)
{
	va_list arguments;
	char text[400];

	__atomic_add_fetch(&violations, 1, __ATOMIC_SEQ_CST);
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (is_worth_saying(text))
		say("VIOLATION: %s", text);
}

/*
 * Records ops on `count` keys from `key` on that are about to be sent; returns the number of the
 * first.
 */
int
op_begin(int key, OpKind kind, int node, bool fenced, int count)
{
	int first = __atomic_fetch_add(&nops, count, __ATOMIC_SEQ_CST);

	if (first + count >= OPS_MOST)
		die("the history is full: fewer seconds, please");
	for (int i = 0; i < count; i++)
	{
		Op *op = &ops[first + i];

		op->key = key + i;
		op->kind = (uint8_t) kind;
		op->node = (uint8_t) node;
		op->fenced = fenced;
		op->what = kind == OP_SAVE ? "save" : "end";
		op->clears = kind == OP_DELETE;
		op->outcome = OUTCOME_PENDING;
		op->invoked = now_us();
	}
	return first;
}

void
op_end(int n, Outcome outcome, int64_t version)
{
	Op *op = &ops[n];

	op->version = version;
	op->completed = now_us();
	__atomic_store_n(&op->outcome, (uint8_t) outcome, __ATOMIC_SEQ_CST);
}

/* An op by its number; NULL if there is none. */
Op *
op_at(int n)
{
	return n > 0 && n < nops ? &ops[n] : NULL;
}

/* Gives it a name for messages. */
void
op_call(int n, const char *what)
{
	ops[n].what = what;
}

/* The rows of the new primary, before any client changed them. */
void
base_begin(void)
{
	for (int k = 0; k < KEYS; k++)
		base_value[k] = 0;
}

void
base_row(int key, int value, int64_t version)
{
	base_value[key] = value;
	base_version[key] = version;
	base_op[key] = op_begin(key, OP_DELETE, 1, false, 1);
	op_end(base_op[key], OUTCOME_DONE, version);
}

static int
by_rank(const void *a, const void *b)
{
	const Ranked *x = a;
	const Ranked *y = b;

	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	if (x->version != y->version)
		return x->version < y->version ? -1 : 1;
	return x->op < y->op ? -1 : x->op > y->op;
}

static double
seconds(int64_t us)
{
	return (double) us / 1e6;
}

static void
worse(Worst *worst, int64_t stale, int op)
{
	if (stale > worst->stale)
	{
		worst->stale = stale;
		worst->op = op;
	}
}

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* An op in words. */
static const char *
describe(int n, char *out, size_t size)
{
	const Op *op = &ops[n];

	snprintf(out, size, "op %d (%s, node %d, version %lld, from %.3f to %.3f s)", n, op->what,
			 op->node, (long long) op->version, seconds(op->invoked - run.started),
			 seconds(op->completed - run.started));
	return out;
}

/* When the new primary was first seen to own the Redis of the op's database; 0: never. */
static int64_t
taken_over_at(const Op *op)
{
	return dbs[keys[op->key].db].taken_over_at;
}

/*
 * A strong reader saw an op that was overwritten, by a fenced op (0: none) and at a time by
 * any (INT64_MAX: never).
 */
static void
judge_strong(const Ranked *r, int fence, int64_t any, bool lost)
{
	const Op *op = &ops[r->op];
	int64_t stale;
	char a[120];
	char b[120];

	if (fence != 0 && op->seen_strong > ops[fence].completed)
		violation("strong, %s: key %s shows %s, %.3f s after the fenced %s", ops[fence].what,
				  keys[op->key].shown, describe(r->op, a, sizeof(a)),
				  seconds(op->seen_strong - ops[fence].completed), describe(fence, b, sizeof(b)));
	if (lost && taken_over_at(op) != 0 && op->seen_strong > taken_over_at(op))
		violation("strong: key %s shows op %d, which the new primary never had, %.3f s after it "
				  "took Redis over",
				  keys[op->key].shown, r->op, seconds(op->seen_strong - taken_over_at(op)));
	if (any == INT64_MAX || lost)
		return;
	/* until then it has read what the old primary wrote */
	if (r->node == 1 && op->node == 0)
		any = taken_over_at(op) == 0 ? INT64_MAX : later(any, taken_over_at(op));
	if (any >= op->seen_strong)
		return;
	stale = op->seen_strong - any;
	worse(&worst_strong, stale, r->op);
	if (stale > run.lease + STRONG_LAG + ALLOWANCE)
		violation("strong: key %s shows op %d, overwritten %.3f s ago; lease %.3f s",
				  keys[op->key].shown, r->op, seconds(stale), seconds(run.lease));
}

static void
judge_plain(const Ranked *r, int64_t any, bool lost)
{
	const Op *op = &ops[r->op];
	int64_t life = keys[op->key].life;
	int64_t stale;

	if (any == INT64_MAX)
		return;
	if (lost || (r->node == 1 && op->node == 0))
		any = taken_over_at(op) == 0 ? INT64_MAX : later(any, taken_over_at(op));
	if (op->seen_plain > any)
	{
		stale = op->seen_plain - any;
		worse(&worst_plain, stale, r->op);
		if (life - stale < least_slack)
			least_slack = life - stale;
		if (stale > life + ALLOWANCE)
			violation("plain: key %s shows op %d, overwritten %.3f s ago; a copy lives %.3f s",
					  keys[op->key].shown, r->op, seconds(stale), seconds(life));
	}
	stale = op->seen_healthy - later(any, op->healthy_since);
	if (op->seen_healthy == 0 || any == INT64_MAX || stale <= 0)
		return;
	worse(&worst_healthy, stale, r->op);
	if (stale > HEALTHY_LAG + ALLOWANCE + 4 * run.worst_stall)
		violation("in health: key %s shows op %d, overwritten %.3f s ago", keys[op->key].shown,
				  r->op, seconds(stale));
}

/* Does a fence of this op bind strong readers? */
static bool
fence_counts(const Op *fence)
{
	if (!run.failover || run.promoted_at == 0)
		return fence->fenced;
	if (fence->node == 0) /* no fence of a zombie is guaranteed */
		return fence->fenced && fence->completed < run.promoted_at;
	return fence->fenced && taken_over_at(fence) != 0 &&
		   taken_over_at(fence) - run.promoted_at < LONGEST_LEASE - SEC;
}

static void
judge_key(Ranked *list, int n)
{
	int64_t any = INT64_MAX;
	int fence = 0;

	qsort(list, (size_t) n, sizeof(Ranked), by_rank);
	for (int i = n - 1; i >= 0; i--)
	{
		const Op *op = &ops[list[i].op];
		bool lost = list[i].node == 0 && run.promoted_at != 0 && base_op[op->key] != 0;

		if (i + 1 < n && list[i].node == list[i + 1].node &&
			list[i].version == list[i + 1].version && op->outcome == OUTCOME_DONE &&
			ops[list[i + 1].op].outcome == OUTCOME_DONE && list[i].op != base_op[op->key] &&
			list[i + 1].op != base_op[op->key])
			violation("table: ops %d (%s) and %d (%s) of key %s both made version %lld", list[i].op,
					  op->what, list[i + 1].op, ops[list[i + 1].op].what, keys[op->key].shown,
					  (long long) list[i].version);
		judge_strong(&list[i], fence, any, lost);
		if (op->seen_sql > any && run.promoted_at == 0)
			violation("SQL: key %s shows op %d, overwritten %.3f s before the statement began",
					  keys[op->key].shown, list[i].op, seconds(op->seen_sql - any));
		if (lost && ops[base_op[op->key]].completed < any)
			judge_plain(&list[i], ops[base_op[op->key]].completed, lost);
		else
			judge_plain(&list[i], any, lost);
		/*
		 * An op that may have failed does not certainly overwrite anything.  Neither does the base
		 * overwrite itself, nor the op whose value it is the later ones that were lost.
		 */
		if (op->outcome != OUTCOME_DONE || (list[i].node == 1 && op->node == 0) ||
			(list[i].op == base_op[op->key] && base_value[op->key] != 0))
			continue;
		if (op->completed < any)
			any = op->completed;
		if (fence_counts(op) && (fence == 0 || op->completed < ops[fence].completed))
			fence = list[i].op;
	}
}

/*
 * The ops of a tail in their order: is there a message that was removed before the last one came?
 */
static void
judge_messages(const Ranked *list, int n)
{
	int cleared = -1; /* the place of the last op that removed all */
	int *place = malloc(sizeof(int) * (size_t) (n + 1));
	char a[120];
	char b[120];

	for (int i = 0; i < n; i++)
	{
		const Op *op = &ops[list[i].op];
		int at = i;

		place[i] = list[i].op;
		if (op->clears && op->outcome == OUTCOME_DONE)
			cleared = i;
		if (op->oldest == 0)
			continue;
		while (at >= 0 && at > i - 1000 && place[at] != op->oldest)
			at--;
		/* not found: its rank is unknown, or it is not worth the search */
		if (at >= 0 && place[at] == op->oldest && at < cleared)
			violation("tail: %s begins with %s, which %s removed", keys[op->key].shown,
					  describe(op->oldest, a, sizeof(a)), describe(list[cleared].op, b, sizeof(b)));
	}
	free(place);
}

static void
judge_failed(int n)
{
	const Op *op = &ops[n];

	if (op->outcome == OUTCOME_FAILED &&
		(op->seen_plain != 0 || op->seen_strong != 0 || op->seen_sql != 0))
		violation("rolled back: key %s shows op %d, which was never committed", keys[op->key].shown,
				  n);
}

/* At the end of the run: returns the number of violations. */
int
history_judge(void)
{
	int count = nops;
	Ranked *list = malloc(sizeof(Ranked) * (size_t) count);
	int *first = calloc(KEYS + 1, sizeof(int));
	int *fill = calloc(KEYS, sizeof(int));
	char text[120];

	for (int n = 1; n < count; n++)
	{
		outcomes[ops[n].outcome]++;
		judge_failed(n);
		if (ops[n].outcome != OUTCOME_FAILED && ops[n].version > 0)
			first[ops[n].key + 1]++;
	}
	for (int k = 0; k < KEYS; k++)
		first[k + 1] += first[k];
	for (int n = 1; n < count; n++)
	{
		const Op *op = &ops[n];
		Ranked r = {n, op->node, op->version};

		if (op->outcome == OUTCOME_FAILED || op->version <= 0)
			continue;
		if (run.promoted_at != 0 && n == base_value[op->key] && op->node == 0)
		{
			r.node = 1;
			r.version = base_version[op->key];
		}
		list[first[op->key] + fill[op->key]++] = r;
	}
	for (int k = 0; k < KEYS; k++)
	{
		judge_key(list + first[k], fill[k]);
		/* the order in which the ops of two primaries came is not known */
		if (keys[k].tail && run.promoted_at == 0)
			judge_messages(list + first[k], fill[k]);
	}
	free(list);
	free(first);
	free(fill);
	say("history: %d ops: %llu done, %llu failed, %llu unknown", count - 1,
		(unsigned long long) outcomes[OUTCOME_DONE], (unsigned long long) outcomes[OUTCOME_FAILED],
		(unsigned long long) outcomes[OUTCOME_PENDING]);
	say("reads: %llu plain (%llu hits), %llu strong (%llu hits)",
		(unsigned long long) run.reads_plain, (unsigned long long) run.hits_plain,
		(unsigned long long) run.reads_strong, (unsigned long long) run.hits_strong);
	say("greatest staleness, strong: %.3f s (bound: lease %.3f + %.3f, allowance %.3f s)",
		seconds(worst_strong.stale), seconds(run.lease), seconds(STRONG_LAG), seconds(ALLOWANCE));
	say("greatest staleness, plain: %.3f s (bound: the copy's life, 5 to 10 s, allowance %.3f s; "
		"%.3f s were left of it)",
		seconds(worst_plain.stale), seconds(ALLOWANCE),
		least_slack == INT64_MAX ? 0 : seconds(least_slack));
	say("greatest staleness, plain, in the %.1f and %.1f s in health: %.3f s (bound %.3f s, allowance "
		"%.3f + 4 times our own worst stall of %.3f s)",
		seconds(dbs[0].healthy_for), seconds(dbs[1].healthy_for), seconds(worst_healthy.stale),
		seconds(HEALTHY_LAG), seconds(ALLOWANCE), seconds(run.worst_stall));
	if (worst_healthy.stale > HEALTHY_LAG / 2)
		say("  key %s, %s, seen at %.3f s", keys[ops[worst_healthy.op].key].shown,
			describe(worst_healthy.op, text, sizeof(text)),
			seconds(ops[worst_healthy.op].seen_healthy - run.started));
	for (int i = 0; i < KINDS && kinds[i].found > 0; i++)
		say("violations, %s: %d", kinds[i].kind, kinds[i].found);
	return violations;
}
