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
 * Every reader takes the later of expires_at and a matching touch (ss_touch_effective in
 * touch_xact.c), so all calls see a recorded read at once.  The keeper writes a touch once it moves the expiry by the slack, and otherwise
 * only when the session would end without it.  A crash therefore loses at most the slack and one
 * cycle of the keeper.
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

/* Record a touch in a slot of its row version that is open exclusively, and close it. */
static SsTouchResult
raise_and_close(SsSlotRef *ref, const SsTouch *touch)
{
	bool urgent;

	Assert(ref->slot->base == touch->base);
	raise_expiry(ref->slot, touch->expires_at);
	urgent = touch->expires_at - touch->base >= ss_slack(touch->ttl_us) ||
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

/*
 * Record that the row version ending at touch->base shall end at touch->expires_at.  A touch of
 * another version stays as it is, unless the caller forces it, having seen in a new snapshot which
 * version is the current one.
 */
SsTouchResult
ss_touch_record(const SsKey *key, const SsTouch *touch, bool force)
{
	SsSlotRef ref;
	SsTouchResult result;
	SsDb *db;
	int member;

	/* most reads find a touch of the version that they read */
	ss_slot_open(&ref, key, LW_SHARED);
	if (ref.slot != NULL && (ref.slot->base == touch->base || !force))
	{
		result = ref.slot->base == touch->base ? raise_shared(ref.slot, touch) : SS_TOUCH_CONFLICT;
		ss_slot_close(&ref);
		return result;
	}
	ss_slot_close(&ref);

	/* a database beyond the number that is supported has no keeper, which would write the touch */
	db = ss_database_mine();
	member = db == NULL ? -1 : ss_database_number(db);
	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	if (ref.slot == NULL)
	{
		if (member < 0 || !ss_slot_reserve(&ref, member))
		{
			ss_slot_close(&ref);
			return SS_TOUCH_FULL;
		}
		ss_slot_add(&ref, member);
		reset_slot(ref.slot, touch->base, touch->ttl_us);
	}
	else if (ref.slot->base != touch->base)
	{
		if (!force)
		{
			ss_slot_close(&ref);
			return SS_TOUCH_CONFLICT;
		}
		reset_slot(ref.slot, touch->base, touch->ttl_us);
	}
	return raise_and_close(&ref, touch);
}

/*
 * Reserve a slot for a touch that this transaction records when it commits, so that it cannot fail
 * then.  Returns what the caller passes on to ss_touch_record_reserved() or ss_touch_unreserve(),
 * one of which it must call at the end of the transaction; SS_NO_RESERVATION if there is no free
 * slot.
 */
int
ss_touch_reserve(const SsKey *key)
{
	SsDb *db = ss_database_mine();
	SsSlotRef ref;
	bool reserved;

	if (db == NULL)
		return SS_NO_RESERVATION;
	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	reserved = ss_slot_reserve(&ref, ss_database_number(db));
	ss_slot_close(&ref);
	return reserved ? ss_database_number(db) : SS_NO_RESERVATION;
}

/* Return a reservation.  Does memory writes only, so it is safe in an abort callback. */
void
ss_touch_unreserve(const SsKey *key, int reservation)
{
	SsSlotRef ref;

	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	ss_slot_unreserve(&ref, reservation);
	ss_slot_close(&ref);
}

/*
 * As ss_touch_record() with force, in a slot that was reserved; never SS_TOUCH_FULL.  The
 * reservation is used up, or returned if the session has a slot by now.
 */
SsTouchResult
ss_touch_record_reserved(const SsKey *key, const SsTouch *touch, int reservation)
{
	SsSlotRef ref;
	bool is_new;

	ss_slot_open(&ref, key, LW_EXCLUSIVE);
	is_new = ref.slot == NULL;
	if (is_new)
		ss_slot_add(&ref, reservation);
	else
		ss_slot_unreserve(&ref, reservation);
	if (is_new || ref.slot->base != touch->base)
		reset_slot(ref.slot, touch->base, touch->ttl_us);
	return raise_and_close(&ref, touch);
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
 * to the new one; remove it if it does not end later than that, or if the new one has a fixed expiry.
 */
void
ss_touch_rebase(const SsKey *key, const SsTouch *touch)
{
	SsSlotRef ref;
	TimestampTz end;

	if (!ss_slot_find(&ref, key, touch->base, LW_EXCLUSIVE))
		return;
	/* the time of the last read plus the new ttl */
	end = (TimestampTz) pg_atomic_read_u64(&ref.slot->expires) - ref.slot->ttl_us + touch->ttl_us;
	if (end > touch->expires_at && touch->ttl_us != SS_FIXED)
	{
		reset_slot(ref.slot, touch->expires_at, touch->ttl_us);
		raise_expiry(ref.slot, end);
	}
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
	if (!locked && ref.slot->unmatched)
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
 * all reads recorded until now, and the touch is removed, or there is no such touch any more.
 */
bool
ss_touch_ended(const SsDueTouch *due, TimestampTz now)
{
	SsSlotRef ref;
	bool ended;

	if (!ss_slot_find(&ref, &due->key, due->touch.base, LW_EXCLUSIVE))
		return true;
	ended = (TimestampTz) pg_atomic_read_u64(&ref.slot->expires) <= now;
	if (ended)
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
