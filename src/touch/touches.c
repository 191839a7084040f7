/*
 * touches.c
 *		Pending touches: sliding reads recorded in shared memory instead of the row.
 *
 * A pending touch states that the row version of a session whose expires_at is `base` now ends at
 * another time.  The base ties the touch to the version that was read.  A statement that ends a
 * session (a delete, plain SQL) gives its row another expires_at, so its touch no longer matches
 * and has no effect, without being removed.  Code that prolongs a session (a save, a touch, the
 * purge, the keeper) moves the touch to the new version once that is committed (ss_touch_rebase), because
 * reads went on meanwhile.  A transaction records touches of versions that it wrote itself when it
 * commits (touch_xact.c), so the base is always a committed version.
 *
 * Between the read of a row and the record of the touch, the keeper may write an older touch.  So the
 * touch of a version that may have been replaced is not recorded; the row is read again
 * (ss_touch_record).  A touch that is recorded only at commit pins its slot before (ss_touch_pin).
 *
 * Every reader takes the later of expires_at and a matching touch (ss_touch_effective in
 * touch_xact.c), so all calls see a recorded read at once.  The keeper writes a touch once it moves
 * the expiry by the slack, and otherwise only when the session would end without it.  A crash
 * therefore loses at most the slack and one cycle of the keeper.
 *
 * Locking: the slots are in touch_slots.c, which describes the locks of its partitions.  No
 * function here holds more than one of them, nor anything else meanwhile.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/expiry.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "touch/touch_slots.h"
#include "touch/touches.h"

/* Can touches be recorded?  Not without shared memory, and not on a standby. */
bool
ss_touch_usable(void)
{
	return ss_slots_exist() && !RecoveryInProgress();
}

/*
 * Raise the expiry of a touch, never lower it.  Caller holds the partition's lock in either mode.
 */
static void
raise_expiry(SsSlot *slot, TimestampTz expires_at)
{
	uint64 old = pg_atomic_read_u64(&slot->expires);

	while ((TimestampTz) old < expires_at &&
		   !pg_atomic_compare_exchange_u64(&slot->expires, &old, expires_at))
		;
}

/*
 * Make a slot the touch of another row version, with no effect yet.  Caller holds the partition's
 * lock exclusively.
 */
static void
reset_slot(SsSlot *slot, TimestampTz base, int64 ttl_us)
{
	slot->base = base;
	slot->ttl_us = ttl_us;
	slot->check_at = 0;
	slot->unmatched = false;
	pg_atomic_write_u64(&slot->expires, base);
}

/*
 * Record that the row version of a slot ends at expires_at, and close the slot, which is open
 * exclusively.
 */
static SsTouchResult
raise_and_close(SsSlotRef *ref, TimestampTz expires_at)
{
	bool urgent;

	raise_expiry(ref->slot, expires_at);
	urgent = expires_at - ref->slot->base >= ss_slack(ref->slot->ttl_us) ||
			 ss_slots_pressed(ref->partition, ref->slot->member);
	ss_slot_close(ref);
	return urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
}

/*
 * Record a touch in the open slot of its row version, which other readers may raise at the same
 * time.  It is urgent only when it is this touch that moves the expiry by the slack.
 */
static SsTouchResult
raise_shared(SsSlot *slot, const SsTouch *touch)
{
	int64 slack_us = ss_slack(touch->ttl_us);
	TimestampTz before = pg_atomic_read_u64(&slot->expires);

	raise_expiry(slot, touch->expires_at);
	return before - touch->base < slack_us && touch->expires_at - touch->base >= slack_us
			   ? SS_TOUCH_URGENT
			   : SS_TOUCH_RECORDED;
}

/* Add a slot for a session that has none; its place is open exclusively.  False if there is none. */
static bool
add_slot(SsSlotRef *ref, const SsTouch *touch)
{
	/* a database beyond the number that is supported has no keeper, which would write the touch */
	SsDb *db = ss_database_mine();

	if (db == NULL || !ss_slot_add(ref, ss_database_number(db)))
		return false;
	reset_slot(ref->slot, touch->base, touch->ttl_us);
	return true;
}

/*
 * Record that the row version ending at touch->base shall end at touch->expires_at.
 *
 * The caller saw this version in a snapshot that was taken at read->read_at or later.
 * SS_TOUCH_CONFLICT, and nothing is recorded, if it may have been replaced since: if the session has a
 * touch of another version, or if it has none and one may have been removed since then, because it was
 * written.  The caller then reads the row again.  The next attempt replaces that other touch, unless
 * that, too, has been replaced, and goes by the number of slots removed, so that a clock that was set
 * back causes no delay.
 *
 * If `read` is NULL, nobody else can replace the version, and other touches are replaced.
 */
SsTouchResult
ss_touch_record(const SsKey *key, const SsTouch *touch, SsTouchRead *read)
{
	SsSlotRef ref;
	SsTouchResult result;

	/* most reads find a touch of the version that they read */
	ss_slot_open(&ref, key, LW_SHARED);
	if (ref.slot != NULL && ref.slot->base == touch->base)
	{
		result = raise_shared(ref.slot, touch);
		ss_slot_close(&ref);
		return result;
	}
	ss_slot_close(&ref);

	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	if (ref.slot == NULL)
	{
		result = SS_TOUCH_FULL;
		if (read != NULL && ss_slots_removed_since(&ref, read->read_at) &&
			read->removals != ss_slots_removals(&ref))
		{
			read->removals = ss_slots_removals(&ref);
			result = SS_TOUCH_CONFLICT;
		}
		if (result == SS_TOUCH_CONFLICT || !add_slot(&ref, touch))
		{
			ss_slot_close(&ref);
			return result;
		}
	}
	else if (ref.slot->base != touch->base)
	{
		if (read != NULL && read->replaced != ref.slot->base)
		{
			read->replaced = ref.slot->base;
			ss_slot_close(&ref);
			return SS_TOUCH_CONFLICT;
		}
		reset_slot(ref.slot, touch->base, touch->ttl_us);
	}
	return raise_and_close(&ref, touch->expires_at);
}

/*
 * Pin the slot of a touch that this transaction records when it commits, so that it cannot fail then.
 * The slot is added if the session has none, and not removed while it is pinned.  Then a transaction
 * that prolongs the session meanwhile moves it to the new row version (ss_touch_rebase).  The caller saw
 * the version in a snapshot that was taken at read_at or later.  False if there is no free slot, or the
 * version may have been replaced since.  If true, the caller must call ss_touch_unpin() at the end of
 * the transaction.
 */
bool
ss_touch_pin(const SsKey *key, const SsTouch *touch, TimestampTz read_at)
{
	SsSlotRef ref;
	bool pinned;

	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	pinned = ref.slot != NULL ? ref.slot->base == touch->base
							  : !ss_slots_removed_since(&ref, read_at) && add_slot(&ref, touch);
	if (pinned)
		ref.slot->pins++;
	ss_slot_close(&ref);
	return pinned;
}

/*
 * Unpin a slot and record the touch; touch is NULL if the transaction has not committed.  If the slot
 * belongs to another row version by now, the session ends at the time of the touch plus the ttl of that
 * version, unless that has a fixed expiry.  Does memory writes only.
 */
SsTouchResult
ss_touch_unpin(const SsKey *key, const SsTouch *touch)
{
	SsSlotRef ref;
	SsSlot *slot;
	TimestampTz end;

	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	slot = ref.slot;
	if (slot == NULL || slot->pins == 0)
	{
		/* the touches of the database were removed */
		ss_slot_close(&ref);
		return SS_TOUCH_FULL;
	}
	slot->pins--;
	end = slot->base;
	if (touch != NULL && slot->ttl_us != SS_FIXED)
		end = touch->base == slot->base ? touch->expires_at
										: touch->expires_at - touch->ttl_us + slot->ttl_us;
	if (end > slot->base)
		return raise_and_close(&ref, end);
	if (slot->pins == 0 && (TimestampTz) pg_atomic_read_u64(&slot->expires) <= slot->base)
		ss_slot_remove(&ref);
	ss_slot_close(&ref);
	return SS_TOUCH_RECORDED;
}

/*
 * Is a touch due to be written?  It is if it moves the expiry by the slack, if the row would end
 * soon without it, or if its partition fills up.  "Soon" is half the slack, well before the end,
 * so that a logical replication subscriber learns of it in time.
 */
static bool
is_due(const SsSlot *slot, TimestampTz now, bool all, bool pressed)
{
	int64 slack_us = ss_slack(slot->ttl_us);
	TimestampTz expires_at = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->expires));

	/* a pinned slot may have no touch yet */
	if (expires_at <= slot->base)
		return false;
	/* with `all`, ignore earlier postponements, but not those made during this pass */
	if (slot->check_at > (all ? now + SS_TOUCH_POSTPONE_US : now))
		return false;
	return all || pressed || expires_at - slot->base >= slack_us || slot->base - now < slack_us / 2;
}

/*
 * Copy up to max due touches of a database, beginning at *partition.  On return *partition is
 * where to continue, SS_TOUCH_PARTITIONS at the end.  If a partition has more due touches than fit,
 * the rest of them is left for the next pass over the partitions.  `all` is for the last passes
 * before the server stops: every touch is due, with `now` being the start of the pass.
 */
int
ss_touch_due(Oid database, TimestampTz now, bool all, int *partition, SsDueTouch *out, int max)
{
	SsDb *db = ss_database_mine();
	int count = 0;

	for (; *partition < SS_TOUCH_PARTITIONS && count < max; (*partition)++)
	{
		SsSlotScan scan;
		SsSlot *slot;
		bool pressed;

		if (!ss_slot_scan_begin(&scan, *partition))
			continue;
		pressed = db != NULL && ss_slots_pressed(*partition, ss_database_number(db));
		while (count < max && (slot = ss_slot_scan_next(&scan)) != NULL)
		{
			if (slot->key.database != database || !is_due(slot, now, all, pressed))
				continue;
			ss_key_copy(&out[count].key, &slot->key);
			out[count].touch.base = slot->base;
			out[count].touch.ttl_us = slot->ttl_us;
			out[count].touch.expires_at = pg_atomic_read_u64(&slot->expires);
			count++;
		}
		ss_slot_scan_end(&scan);
	}
	return count;
}

/*
 * The row version that ended at touch->base was replaced by one that ends at touch->expires_at and
 * has touch->ttl_us, and that is committed.  If the old version was touched meanwhile, move its touch
 * to the new one; if it does not end later than that, or the new one has a fixed expiry, remove it, or
 * leave the slot without effect if it is pinned.
 */
void
ss_touch_rebase(const SsKey *key, const SsTouch *touch)
{
	SsSlotRef ref;
	TimestampTz before;
	TimestampTz end;

	if (!ss_slot_find(&ref, key, touch->base, LW_EXCLUSIVE))
		return;
	before = pg_atomic_read_u64(&ref.slot->expires);
	/* the time of the last read plus the new ttl */
	end = before - ref.slot->ttl_us + touch->ttl_us;
	if (before > ref.slot->base && end > touch->expires_at && touch->ttl_us != SS_FIXED)
	{
		reset_slot(ref.slot, touch->expires_at, touch->ttl_us);
		raise_expiry(ref.slot, end);
	}
	else if (ref.slot->pins > 0)
		reset_slot(ref.slot, touch->expires_at, touch->ttl_us);
	else
		ss_slot_remove(&ref);
	ss_slot_close(&ref);
}

/* A touch was written to the row, and that is committed. */
void
ss_touch_written(const SsDueTouch *due)
{
	ss_touch_rebase(&due->key, &due->touch);
}

/*
 * A touch could not be written now; check it again after SS_TOUCH_POSTPONE_US.  If its row was
 * locked, it is kept.  If the table has another version of the row, the transaction that wrote
 * it may be about to move the touch (ss_touch_rebase); if it still does not match at the next
 * check, it is removed.
 */
void
ss_touch_postpone(const SsDueTouch *due, TimestampTz now, bool locked)
{
	SsSlotRef ref;

	if (!ss_slot_find(&ref, &due->key, due->touch.base, LW_EXCLUSIVE))
		return;
	if (!locked && ref.slot->unmatched && ref.slot->pins == 0)
		ss_slot_remove(&ref);
	else
	{
		ref.slot->unmatched = !locked;
		ref.slot->check_at = now + SS_TOUCH_POSTPONE_US;
	}
	ss_slot_close(&ref);
}

/*
 * A touch cannot be written.  Returns true if nothing is left to write: the session has ended by
 * all reads recorded until now, and the touch is removed unless it is pinned, or there is no such touch
 * any more.
 */
bool
ss_touch_ended(const SsDueTouch *due, TimestampTz now)
{
	SsSlotRef ref;
	bool ended;

	if (!ss_slot_find(&ref, &due->key, due->touch.base, LW_EXCLUSIVE))
		return true;
	ended = (TimestampTz) pg_atomic_read_u64(&ref.slot->expires) <= now;
	if (ended && ref.slot->pins == 0)
		ss_slot_remove(&ref);
	ss_slot_close(&ref);
	return ended;
}

/* Record for metrics and health that a touch was lost because there was no free slot. */
void
ss_touch_dropped(void)
{
	SsDb *db = ss_database_mine();

	ss_counter_add(SS_TOUCHES_DROPPED, 1);
	if (db != NULL)
		db->touch_dropped_at = ss_databases->touch_dropped_at = ss_monotonic();
}
