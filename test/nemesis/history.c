/*
 * history.c
 *		What was done and seen, and whether that may be.
 *
 * Readers leave with each op when it was last seen, and no more: for a value that
 * was overwritten, the later a read began, the worse.  So all judging can wait until the end,
 * when it is known of every op how it came out.
 *
 * What is judged, key by key, with the ops in the order of their ranks:
 *
 *	any reader		no value of an op that failed or was rolled back, none of another key
 *	plain			not longer than a copy lives after it was overwritten; in health not
 *					longer than HEALTHY_LAG
 *	strong			not at all after a fenced op succeeded; not longer than the lease and
 *					STRONG_LAG after any op did
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
#define LONGEST_LEASE (10 * SEC)
#define COMPLAINTS 12

/* An op on its way through the judgement of its key. */
typedef struct Ranked
{
	int op;
	int node;
	int64_t version;
} Ranked;

/* The worst that was seen, and which op's value it was. */
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

void
violation(const char *format, ...)
{
	va_list arguments;
	char text[400];

	if (__atomic_add_fetch(&violations, 1, __ATOMIC_SEQ_CST) > COMPLAINTS)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	say("VIOLATION: %s", text);
}

/* Ops on `count` keys from `key` on, about to be sent; the number of the first. */
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

static void
raise_to(int64_t *at, int64_t value)
{
	int64_t old = __atomic_load_n(at, __ATOMIC_RELAXED);

	while (old < value &&
		   !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* A reader, who began at `start`, has found this under a key. */
void
note_read(int key, const char *text, bool strong, int64_t start, int64_t healthy_since)
{
	int of = -1;
	int n = -1;
	Op *op;

	if (sscanf(text, "{\"k\": %d, \"v\": %d}", &of, &n) != 2 || n <= 0 || n >= nops)
	{
		violation("%s: key %s shows what nobody wrote: %.60s", strong ? "strong" : "plain",
				  keys[key].name, text);
		return;
	}
	op = &ops[n];
	if (of != key || op->key != key || op->kind != OP_SAVE)
	{
		violation("%s: key %s shows op %d, of another key", strong ? "strong" : "plain",
				  keys[key].name, n);
		return;
	}
	raise_to(strong ? &op->seen_strong : &op->seen_plain, start);
	if (healthy_since != 0)
	{
		/* the two may come from different reads at a change of phase: then it is too lenient */
		raise_to(&op->seen_healthy, start);
		raise_to(&op->healthy_since, healthy_since);
	}
}

/* The rows of the new primary, before anybody changed them. */
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

	snprintf(out, size, "op %d (%s, node %d, version %lld, from %.3f to %.3f s)", n,
			 op->kind == OP_SAVE ? "save" : "end", op->node, (long long) op->version,
			 seconds(op->invoked - run.started), seconds(op->completed - run.started));
	return out;
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
		violation("strong: key %s shows %s, %.3f s after the fenced %s", keys[op->key].name,
				  describe(r->op, a, sizeof(a)), seconds(op->seen_strong - ops[fence].completed),
				  describe(fence, b, sizeof(b)));
	if (lost && run.taken_over_at != 0 && op->seen_strong > run.taken_over_at)
		violation("strong: key %s shows op %d, which the new primary never had, %.3f s after it "
				  "took Redis over",
				  keys[op->key].name, r->op, seconds(op->seen_strong - run.taken_over_at));
	if (any == INT64_MAX || lost)
		return;
	/* until then he has read what the old primary wrote */
	if (r->node == 1 && op->node == 0)
		any = run.taken_over_at == 0 ? INT64_MAX : later(any, run.taken_over_at);
	if (any >= op->seen_strong)
		return;
	stale = op->seen_strong - any;
	worse(&worst_strong, stale, r->op);
	if (stale > run.lease + STRONG_LAG + ALLOWANCE)
		violation("strong: key %s shows op %d, overwritten %.3f s ago; lease %.3f s",
				  keys[op->key].name, r->op, seconds(stale), seconds(run.lease));
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
		any = run.taken_over_at == 0 ? INT64_MAX : later(any, run.taken_over_at);
	if (op->seen_plain > any)
	{
		stale = op->seen_plain - any;
		worse(&worst_plain, stale, r->op);
		if (life - stale < least_slack)
			least_slack = life - stale;
		if (stale > life + ALLOWANCE)
			violation("plain: key %s shows op %d, overwritten %.3f s ago; a copy lives %.3f s",
					  keys[op->key].name, r->op, seconds(stale), seconds(life));
	}
	stale = op->seen_healthy - later(any, op->healthy_since);
	if (op->seen_healthy == 0 || any == INT64_MAX || stale <= 0)
		return;
	worse(&worst_healthy, stale, r->op);
	if (stale > HEALTHY_LAG + ALLOWANCE + 4 * run.worst_stall)
		violation("in health: key %s shows op %d, overwritten %.3f s ago", keys[op->key].name,
				  r->op, seconds(stale));
}

/* Does a fence of this op bind strong readers? */
static bool
fence_counts(const Op *fence)
{
	if (!run.failover || run.promoted_at == 0)
		return fence->fenced;
	if (fence->node == 0) /* a zombie's fences, nobody has promised */
		return fence->fenced && fence->completed < run.promoted_at;
	return fence->fenced && run.taken_over_at != 0 &&
		   run.taken_over_at - run.promoted_at < LONGEST_LEASE - SEC;
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
			violation("table: ops %d and %d of key %s both made version %lld", list[i].op,
					  list[i + 1].op, keys[op->key].name, (long long) list[i].version);
		judge_strong(&list[i], fence, any, lost);
		if (lost && ops[base_op[op->key]].completed < any)
			judge_plain(&list[i], ops[base_op[op->key]].completed, lost);
		else
			judge_plain(&list[i], any, lost);
		/*
		 * An op that may have failed overwrites nothing for sure.  Neither does the base
		 * overwrite itself, nor the op whose value it is what came later and got lost.
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

static void
judge_failed(int n)
{
	const Op *op = &ops[n];

	if (op->outcome == OUTCOME_FAILED && (op->seen_plain != 0 || op->seen_strong != 0))
		violation("key %s shows op %d, which was never committed", keys[op->key].name, n);
}

/* Everything is over.  The number of violations. */
int
history_judge(void)
{
	int count = nops;
	Ranked *list = malloc(sizeof(Ranked) * (size_t) count);
	int *first = calloc(KEYS + 1, sizeof(int));
	int *fill = calloc(KEYS, sizeof(int));

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
		judge_key(list + first[k], fill[k]);
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
	say("greatest staleness, plain, in the %.1f s in health: %.3f s (bound %.3f s, allowance %.3f "
		"+ 4 times our own worst stall of %.3f s)",
		seconds(run.healthy_for), seconds(worst_healthy.stale), seconds(HEALTHY_LAG),
		seconds(ALLOWANCE), seconds(run.worst_stall));
	return violations;
}
