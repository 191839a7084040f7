/*
 * check.c
 *		Checks what readers of Redis are promised, from outside.
 *
 *	plain	a value that was committed, for at most the life of the copy after it was replaced
 *	strong	only if the lease exists: never after a fenced change, otherwise for at most a lease and
 *			half a second after it was replaced
 *
 * A key is checked after every change of its row, after everything that Redis does, and continually,
 * so that no moment is missed in which a reader could see something wrong.
 *
 * After a failover the rows of the new primary are the truth, from its promotion on.  What the old
 * one committed and the new one never had is visible to plain readers until Redis is taken over and
 * the copies have expired.  Until then strong readers, too, read what an old primary writes that was
 * not stopped.  Only the fences of the new primary are checked then, and only for the longest lease:
 * after that it cannot wait any longer for a Redis that it may not even reach.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define PLAIN_MARGIN SEC
#define STRONG_MARGIN (500 * MS)

void
violation(const char *format, ...)
{
	va_list arguments;

	if (w.violated)
		return;
	w.violated = true;
	totals.violations++;
	va_start(arguments, format);
	vsnprintf(w.complaint, sizeof(w.complaint), format, arguments);
	va_end(arguments);
	say("VIOLATION: %s", w.complaint);
}

static const Node *
judged(void)
{
	return &w.node[w.judged];
}

/* The last version of a row that had this value; -1: none. */
static int
find_version(const Row *row, int64_t value)
{
	int i = row->count - 1;

	while (i >= 0 && row->versions[i].value != value)
		i--;
	return i;
}

/* Since when a version is not current any more. */
static int64_t
stopped(const Row *row, int i)
{
	int64_t stop = row->versions[i].ends;

	if (stop < row->versions[i].at)
		stop = row->versions[i].at;
	if (i + 1 < row->count && row->versions[i + 1].at < stop)
		stop = row->versions[i + 1].at;
	return stop;
}

/* Was the row changed by a fenced transaction after this version and this time? */
static bool
fenced_after(const Row *row, int version, int64_t after)
{
	for (int i = version + 1; i < row->count; i++)
		if (row->versions[i].fenced && row->versions[i].at > after)
			return true;
	return false;
}

static bool
healthy(void)
{
	return !w.quiet && w.now - w.last_fault > 2 * w.config.lease_most + SEC;
}

static void
most(int64_t *record, int64_t value)
{
	if (value > *record)
		*record = value;
}

static void
check_plain(const RedisData *data, int key, int64_t value)
{
	const Row *row = &judged()->row[key];
	int version = find_version(row, value);
	bool ours = data->writer == writer_of(judged());
	int64_t stale;

	if (value > w.values || !w.committed[value])
		violation("plain: key %d shows %d, which was never committed", key, (int) value);
	else if (version < 0 && w.now > w.foreign_until && data == &w.redis.data)
		violation("plain: key %d shows %d, which was lost", key, (int) value);
	if (version < 0 || !ours || w.now <= w.foreign_until)
		return;
	stale = w.now - stopped(row, version);
	if (stale <= 0)
		return;
	most(&totals.plain_most, stale);
	if (healthy())
		most(&totals.healthy_plain_most, stale);
	if (stale > w.config.life + PLAIN_MARGIN)
		violation("plain: key %d shows %d, stale for %.3f s", key, (int) value,
				  (double) stale / 1e6);
}

static void
check_strong(const RedisData *data, int key, int64_t value)
{
	const Node *node = judged();
	const Row *row = &node->row[key];
	int version = find_version(row, value);
	bool ours = data->writer == writer_of(node);
	int64_t stale;

	totals.strong_hits++;
	if (!ours && (w.now >= node->promoted_at + SS_LEASE_LONGEST_US || w.stolen))
		return;
	if (fenced_after(row, version, ours ? INT64_MIN : node->promoted_at))
		violation("strong: key %d shows %d after a fenced change", key, (int) value);
	if (!ours)
		return;
	if (version < 0)
	{
		violation("strong: key %d shows %d, which was lost or never was", key, (int) value);
		return;
	}
	stale = w.now - stopped(row, version);
	if (stale <= 0)
		return;
	most(&totals.strong_most, stale);
	most(&totals.strong_excess, stale - w.config.lease_most);
	if (healthy())
		most(&totals.healthy_strong_most, stale);
	if (stale > w.config.lease_most + STRONG_MARGIN)
		violation("strong: key %d shows %d, stale for %.3f s, lease %.3f s", key, (int) value,
				  (double) stale / 1e6, (double) w.config.lease_most / 1e6);
}

/* A plain and a strong reader read a key. */
static void
check_key_in(const RedisData *data, int key)
{
	int64_t value = data_get(data, key, judged()->prefix[namespace_of(key)]);

	totals.reads++;
	if (value == 0)
		return;
	check_plain(data, key, value);
	if (data_leased(data))
		check_strong(data, key, value);
}

void
check_key(int key)
{
	if (w.violated)
		return;
	check_key_in(&w.elsewhere, key);
	if (!w.redis.up || w.redis.hung)
		return;
	if (w.foreign_until == NEVER && w.redis.data.writer == writer_of(judged()))
		w.foreign_until = w.now + w.config.life + PLAIN_MARGIN;
	check_key_in(&w.redis.data, key);
}

void
check_all(void)
{
	for (int key = 0; key < w.config.keys; key++)
		check_key(key);
}

/*
 * A lease was granted.  It must end by the time that its node has published, on which fences
 * rely, and its node must not know that it was superseded.  A reader would notice a violation
 * only in rare coincidences.
 */
void
check_lease(const Node *node, const RedisData *data)
{
	int64_t until = data->lease - w.redis.offset;
	int64_t published = node->control.lease_until > node->control.foreign_until
							? node->control.lease_until
							: node->control.foreign_until;

	if (SS_KNOCK_OUT != 0 || !node->up || w.holding)
		return;
	if (until > published)
		violation("lease: it lasts for %.3f s longer than was published",
				  (double) (until - published) / 1e6);
	if (node->proto.superseded)
		violation("lease: granted by a server that was superseded");
}

/*
 * A claim is about to be carried out, by the node itself or because an operator told it to.  A
 * copy that can know that it is one never claims by itself.  Of a server and a copy of its
 * block device the first to claim is the owner; the other one must detect that.
 */
void
check_claim(const Node *node, bool takeover)
{
	int number = (int) (node - w.node);

	takeover = takeover || !node->up; /* it was under way when its server crashed */
	if (!takeover && (node->copy == COPY_DATABASE || node->copy == COPY_FILES))
		violation("claimed by a copy of kind %d", node->copy);
	if (!takeover && node->copy == COPY_BLOCKS && node->witnessed)
		violation("claimed by a copy that has seen the original at work");
	w.stolen = node->copy == COPY_BLOCKS;
	if (!w.pair || node->owner.timeline != w.pair_timeline)
		return;
	if (!takeover && w.pair_claimant >= 0 && w.pair_claimant != number)
		violation("claimed by both of two originals");
	w.pair_claimant = number;
	if (w.stolen)
		w.foreign_until = NEVER;
}

/* When session_cache_sync returns, Redis has what was committed before the call. */
static void
check_sync(void)
{
	const Node *node = judged();
	int64_t unused;

	if (!node->up || w.nested || w.holding || !node->control.attached)
		return;
	if (!w.syncing)
	{
		w.syncing = chance(100000);
		if (w.syncing)
			w.sync_ticket = ss_control_ticket((SsControl *) &node->control, &unused);
		w.sync_since = w.now;
		return;
	}
	if (w.now - w.sync_since > 5 * SEC)
		w.syncing = false;
	if (node->control.synced < w.sync_ticket)
		return;
	w.syncing = false;
	/* the pusher may not know yet what Redis has lost */
	if (SS_KNOCK_OUT != 0 || w.now - w.forgot_at < 12 * SEC || !w.redis.up || w.redis.hung ||
		w.redis.data.writer != writer_of(node) || node->place != 0)
		return;
	totals.happened[HAPPENED_SYNC]++;
	for (int key = 0; key < w.config.keys; key++)
	{
		int64_t value = redis_get(key, node->prefix[namespace_of(key)]);
		int version = find_version(&node->row[key], value);

		if (value != 0 && (version < 0 || stopped(&node->row[key], version) <= w.sync_since))
			violation("sync: key %d shows %d, which was changed before the call", key, (int) value);
	}
}

void
check_reader(void)
{
	Node *node = &w.node[w.judged];
	const SsProto *p = &node->proto;
	int key = (int) between(0, w.config.keys - 1);

	if (!w.quiet)
		post(w.now + between(MS, 6 * MS), EVENT_READER, 0, 0, 0, NULL);
	if (p->stage != SS_STAGE_RUN || !p->connected || p->suspended || !redis_leased())
		w.last_fault = w.now; /* or the consequences of one */
	check_all();
	check_sync();
	if (chance(20000))
		operate();
	/* after a miss the reader calls PostgreSQL, which may want a copy */
	if (node->up && !w.quiet && node->on[namespace_of(key)] && row_now(node, key) != NULL &&
		node->place == 0 && redis_get(key, node->prefix[namespace_of(key)]) == 0 &&
		ss_ledger_want(node->ledger, &node->control, &w.key[key], w.hash[key], w.now))
		pusher_wake(node);
	if (w.holding && ((p->counts.steps > w.hold_steps && p->stage == SS_STAGE_RUN &&
					   !ss_proto_flushing(p) && !w.nested) ||
					  w.now > w.hold_until))
	{
		w.holding = false;
		/*
		 * a snapshot from before the step does not come back either, because its lease got longer as
		 * well
		 */
		w.redis.saved = w.redis.data;
	}
}

/* Is everything as it must be when there was no fault for some time? */
bool
check_recovered(bool filled)
{
	const Node *node = judged();

	if (!node->up || node->place != 0 || node->pusher.state == PUSHER_NONE ||
		node->proto.stage != SS_STAGE_RUN || !redis_leased() ||
		ss_ledger_count(node->ledger, MEMBER) != 0 ||
		node->control.unlisted_begun != node->control.unlisted_ended ||
		node->control.policies_begun != node->control.policies_ended ||
		node->control.policies_covered != node->control.policies_begun ||
		node->control.synced < node->control.tickets)
		return false;
	for (int i = 0; i < w.config.backends; i++)
		if (node->backend[i].state != BACKEND_IDLE)
			return false;
	for (int key = 0; key < w.config.keys; key++)
	{
		int64_t value = redis_get(key, node->prefix[namespace_of(key)]);
		const Version *version = row_now(node, key);

		if (value != 0 ? version == NULL || version->value != value : filled)
			return false;
	}
	return true;
}
