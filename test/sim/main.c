/*
 * main.c
 *		The simulator of the cache's protocol: arguments, seeds, summary.
 *
 *		sim [--seeds N] [--first S] [--verbose SEED] [--expect-violation]
 *
 * To build:
 *		gcc -std=gnu99 -O2 -Wall -Wextra -Isrc -o sim test/sim/[a-z]*.c src/protocol/[a-z]*.c
 * and a mutant without rule n: the same with -DSS_KNOCK_OUT=n.  run.sh does all of it.
 *
 * A seed is a world of its own; --verbose tells the story of one.  With
 * --expect-violation it is an error if no reader of any seed saw anything wrong; it stops
 * when enough of them did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define RECOVERY_MOST (60 * SEC)
#define ENOUGH 10 /* a mutant that was caught this often needs no more seeds */
#define START (1000000 * SEC)

static const char *const rule_names[] = {
	"(all rules kept)",
	"a fence waits",
	"a key in doubt is never filled",
	"absolute deadlines and lease ends",
	"lease_until before the scan",
	"batches are chained",
	"flush before leasing again",
	"keys are entered at PRE_COMMIT",
	"rows are read after the keys are taken",
	"a foreign lease is alive after a start",
	"a lease leaves nothing behind",
	"unlisted transactions",
	"times in Redis' clock",
	"changes are recorded whatever the cache rule",
	"a policy waits for its namespace",
	"a claim is recorded before it is made",
	"a copy does not claim",
	"nor does a server that finds a later claim",
	"only our last Redis ends the wait for old leases",
	"a standby is remembered",
	"nor does a server that has seen its original",
	"keys are entered while no pusher is attached",
	"what was resolved before is flushed",
};

static const char *const happened_names[HAPPENED_KINDS] = {"hang",
														   "cut",
														   "late delivery",
														   "partition",
														   "answers swallowed",
														   "killed, empty",
														   "killed, old snapshot",
														   "FLUSHALL",
														   "key evicted",
														   "lease evicted",
														   "guard lost",
														   "clock forward",
														   "clock back",
														   "worker stalls",
														   "worker crash",
														   "worker leaves",
														   "server crash",
														   "failover",
														   "cache switched",
														   "prefix changed",
														   "lease changed",
														   "suspended",
														   "partial flush",
														   "starts elsewhere",
														   "moves",
														   "copies",
														   "backend stalls",
														   "preempted",
														   "connect failed",
														   "rows unreadable",
														   "aborts",
														   "unlisted",
														   "TRUNCATE",
														   "policies",
														   "fence by ack",
														   "fence by time",
														   "LATE",
														   "LOST",
														   "claims",
														   "leases",
														   "syncs",
														   "not recorded"};

/* Chooses session names; with one_partition all of them are in one partition of the ledger. */
static void
name_keys(void)
{
	for (int key = 0; key < w.config.keys; key++)
		for (int suffix = 0;; suffix++)
		{
			SsKey *k = &w.key[key];

			k->database = DATABASE;
			k->nslen = 1;
			k->bytes[0] = (char) ('a' + namespace_of(key));
			k->idlen = (uint8_t) snprintf(&k->bytes[1], 20, "%d.%d", key, suffix);
			w.hash[key] = ss_key_hash(k);
			if (!w.config.one_partition || w.hash[key] % SS_LEDGER_PARTITIONS == 7)
				break;
		}
}

static void
begin(uint64_t seed)
{
	uint8_t *committed = w.committed;
	int64_t room = w.committed_room;
	Packet **queue = w.redis.queue;
	int queue_room = w.redis.room;
	Node *first = &w.node[0];

	for (int i = 0; i < 2; i++)
		node_free(&w.node[i]);
	memset(&w, 0, sizeof(w));
	if (room > 0)
		memset(committed, 0, room);
	w.committed = committed;
	w.committed_room = room;
	w.redis.queue = queue;
	w.redis.room = queue_room;
	w.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	w.running = -1;
	w.now = START; /* far from 0, which in Redis' clock would mean: no lease */
	w.forgot_at = w.last_fault = 0;
	config_draw(seed);
	name_keys();
	w.redis.offset = between(-3600 * SEC, 3600 * SEC);
	redis_start();
	first->owner.system = SYSTEM;
	first->owner.database = DATABASE;
	first->owner.timeline = 1;
	first->me.system = SYSTEM;
	first->me.database = DATABASE;
	strcpy(first->me.directory, "0");
	for (int ns = 0; ns < NAMESPACES; ns++)
		first->on[ns] = true;
	node_start(first);
	post(w.now + between(MS, 5 * MS), EVENT_READER, 0, 0, 0, NULL);
	post(w.now + spread(50 * MS, 2 * SEC), EVENT_FAULT, 0, 0, 0, NULL);
	post(w.now + SEC, EVENT_SAVE, 0, 0, 0, NULL);
}

/* There are no more faults, so everything must recover. */
static void
recover(void)
{
	const SsProto *p = &w.node[w.judged].proto;
	int64_t since = w.now;
	uint64_t flushes;
	bool filled;

	while (w.holding && !w.violated)
		run_until(w.now + 20 * MS);
	fault_end_all();
	while (!check_recovered(false) && !w.violated && w.now - since < RECOVERY_MOST)
	{
		run_until(w.now + 20 * MS);
		operate();
	}
	if (!check_recovered(false))
	{
		const Node *node = &w.node[w.judged];

		violation("no recovery: stage %d, refusal %d, lease %d, ledger %d, unlisted %d, synced %d",
				  node->proto.stage, node->proto.refusal, redis_leased(),
				  ss_ledger_count(node->ledger, MEMBER),
				  (int) (node->control.unlisted_begun - node->control.unlisted_ended),
				  (int) (node->control.tickets - node->control.synced));
		return;
	}
	if (w.now - since > totals.recovery_most)
		totals.recovery_most = w.now - since;
	since = w.now;
	flushes = p->counts.flushes;
	filled = backend_save_all(&w.node[w.judged]);
	while (!check_recovered(filled && p->counts.flushes == flushes) && !w.violated &&
		   w.now - since < 5 * SEC)
		run_until(w.now + 5 * MS);
	/* a step of Redis' clock may have been noticed only now */
	if (!check_recovered(filled && p->counts.flushes == flushes))
		violation("the last changes did not reach Redis");
}

/* Runs one world; false if there was a violation. */
static bool
run_seed(uint64_t seed)
{
	begin(seed);
	run_until(w.now + w.config.duration);
	if (!w.violated && (SS_KNOCK_OUT == 0 || SS_KNOCK_OUT >= 15))
		recover();
	events_clear();
	redis_drop_queue();
	if (w.config.life > totals.plain_bound)
		totals.plain_bound = w.config.life;
	if (w.config.lease_most > totals.strong_bound)
		totals.strong_bound = w.config.lease_most;
	return !w.violated;
}

static double
seconds(int64_t time)
{
	return (double) time / 1e6;
}

static void
summarize(int seeds)
{
	printf("%d seeds, %d violations; %.1f million events, %llu commits, %llu reads, %llu of them "
		   "strong hits\n",
		   seeds, (int) totals.violations, (double) totals.events / 1e6,
		   (unsigned long long) totals.commits, (unsigned long long) totals.reads,
		   (unsigned long long) totals.strong_hits);
	printf("staleness at most: plain %.3f s (copies live up to %.3f s), strong %.3f s (leases up "
		   "to %.3f s; at most %+.3f s beyond the lease, %+.3f s are allowed)\n",
		   seconds(totals.plain_most), seconds(totals.plain_bound), seconds(totals.strong_most),
		   seconds(totals.strong_bound), seconds(totals.strong_excess), 0.5);
	printf("long after any fault: plain %.3f s, strong %.3f s; recovery took at most %.3f s\n",
		   seconds(totals.healthy_plain_most), seconds(totals.healthy_strong_most),
		   seconds(totals.recovery_most));
	for (int i = 0; i < HAPPENED_KINDS; i++)
		printf("%s%s %llu",
			   i == 0       ? ""
			   : i % 9 == 0 ? ",\n"
							: ", ",
			   happened_names[i], (unsigned long long) totals.happened[i]);
	printf("\n");
}

int
main(int argc, char **argv)
{
	int seeds = 1000;
	uint64_t first = 1;
	bool expect_violation = false;
	int caught = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			seeds = atoi(argv[++i]);
		else if (strcmp(argv[i], "--first") == 0 && i + 1 < argc)
			first = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--verbose") == 0 && i + 1 < argc)
		{
			first = strtoull(argv[++i], NULL, 10);
			seeds = 1;
			verbose = true;
		}
		else if (strcmp(argv[i], "--expect-violation") == 0)
			expect_violation = true;
		else
		{
			fprintf(stderr, "usage: sim [--seeds N] [--first S] [--verbose SEED] "
							"[--expect-violation]\n");
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < seeds; i++)
		if (!run_seed(first + i))
		{
			caught++;
			if (expect_violation && caught == ENOUGH)
				seeds = i + 1;
			if (!expect_violation || verbose)
				printf("seed %llu at %.6f s: %s\n", (unsigned long long) (first + i),
					   seconds(w.now - START), w.complaint);
		}
	if (expect_violation)
		printf("R%d %s: caught in %d of %d seeds\n", SS_KNOCK_OUT, rule_names[SS_KNOCK_OUT], caught,
			   seeds);
	else
		summarize(seeds);
	for (int i = 0; i < 2; i++)
		node_free(&w.node[i]);
	events_clear();
	free(w.committed);
	free(w.redis.queue);
	return expect_violation ? caught == 0 : caught > 0;
}
