/*
 * touches.c
 *		Pending touches: sliding reads recorded in shared memory instead of the row.
 *
 * A pending touch states that the row version of a session whose expires_at is `base` now ends at
 * `expires`.  The base ties the touch to the version that was read.  A statement that ends a
 * session (a delete, plain SQL) gives its row another expires_at, so its touch no longer matches
 * and has no effect, without being removed.  Code that prolongs a session (a save, a touch, the purge, the
 * keeper) moves the touch to the new version once that is committed (ss_touch_rebase), because
 * reads went on meanwhile.  A transaction records touches of versions that it wrote itself when it
 * commits (touch_xact.c), so the base is always a committed version.
 *
 * Every reader takes the later of expires_at and a matching touch, so all calls see a recorded
 * read at once.  The keeper writes a touch once it moves the expiry by the slack, and otherwise
 * only when the session would end without it.  A crash therefore loses at most the slack and one
 * cycle of the keeper.
 *
 * Locking: the slots are in touch_slots.c, which describes the locks of its partitions.  No
 * function here holds more than one of them, nor anything else meanwhile.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "counters.h"
#include "databases.h"
#include "rows/expiry.h"
#include "rows/touch_slots.h"
#include "rows/touch_xact.h"
#include "rows/touches.h"

/* The number of partitions, over which ss_touch_due iterates. */
int
ss_touch_partitions(void)
{
	return SS_SLOT_PARTITIONS;
}

/* Can touches be recorded?  Not without shared memory, and not on a standby. */
bool
ss_touch_usable(void)
{
	return ss_slots_exist() && !RecoveryInProgress();
}

/*
 * When the row version with this expires_at really ends: pending touches are taken into account,
 * those of the current transaction that others do not see yet (touch_xact.c) included.
 */
int64
ss_touch_effective(const SsKey *key, int64 expires_at)
{
	uint32 hash;
	int partition;
	SsSlot *slot;
	int64 effective = expires_at;

	if (!ss_slots_exist())
		return expires_at;
	hash = ss_slot_hash(key);
	partition = ss_slot_partition(hash);
	/*
	 * no lock is needed to see that there is none: a touch being added belongs to a read in
	 * progress
	 */
	if (ss_slot_maybe(hash))
	{
		LWLockAcquire(ss_slot_lock(partition), LW_SHARED);
		slot = ss_slot_find(partition, hash, key);
		if (slot != NULL && slot->base == expires_at)
			effective = Max(expires_at, (int64) pg_atomic_read_u64(&slot->expires));
		LWLockRelease(ss_slot_lock(partition));
	}
	return ss_touch_xact_effective(key, expires_at, effective);
}

/*
 * Raise the expiry of a touch, never lower it.  Caller holds the partition's lock in either mode.
 */
static void
raise_expiry(SsSlot *slot, int64 expires)
{
	uint64 old = pg_atomic_read_u64(&slot->expires);

	while ((int64) old < expires && !pg_atomic_compare_exchange_u64(&slot->expires, &old, expires))
		;
}

/*
 * Make a slot the touch of another row version, with no effect yet.  Caller holds the partition's
 * lock exclusively.
 */
static void
reset_slot(SsSlot *slot, int64 base, int64 ttl)
{
	slot->base = base;
	slot->ttl = ttl;
	slot->check_at = 0;
	slot->unmatched = false;
	pg_atomic_write_u64(&slot->expires, base);
}

/*
 * Record that the row version ending at `base` shall end at `expires`.  A touch of another version
 * stays as it is, unless the caller forces it, having seen in a new snapshot which version is the
 * current one.
 */
SsTouchResult
ss_touch_record(const SsKey *key, int64 base, int64 ttl, int64 expires, bool force)
{
	uint32 hash = ss_slot_hash(key);
	int partition = ss_slot_partition(hash);
	int64 slack = ss_slack(ttl);
	SsDb *db = ss_database_mine();
	SsSlot *slot;
	bool urgent;

	LWLockAcquire(ss_slot_lock(partition), LW_SHARED);
	slot = ss_slot_find(partition, hash, key);
	if (slot != NULL && (slot->base == base || !force))
	{
		SsTouchResult result = SS_TOUCH_CONFLICT;

		if (slot->base == base)
		{
			int64 before = pg_atomic_read_u64(&slot->expires);

			raise_expiry(slot, expires);
			urgent = before - base < slack && expires - base >= slack;
			result = urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
		}
		LWLockRelease(ss_slot_lock(partition));
		return result;
	}
	LWLockRelease(ss_slot_lock(partition));

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, key);
	if (slot == NULL)
	{
		/* a database beyond the number that is supported has no keeper, which would write it */
		if (db != NULL && ss_slot_reserve(partition, ss_database_number(db)))
		{
			slot = ss_slot_take(partition, ss_database_number(db), hash, key);
			reset_slot(slot, base, ttl);
		}
	}
	else if (slot->base != base && force)
		reset_slot(slot, base, ttl);
	if (slot == NULL || slot->base != base)
	{
		LWLockRelease(ss_slot_lock(partition));
		return slot == NULL ? SS_TOUCH_FULL : SS_TOUCH_CONFLICT;
	}
	raise_expiry(slot, expires);
	urgent = expires - base >= slack || ss_slots_pressed(partition, slot->member);
	LWLockRelease(ss_slot_lock(partition));
	return urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
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
	int partition = ss_slot_partition(ss_slot_hash(key));
	SsDb *db = ss_database_mine();
	bool reserved;

	if (db == NULL)
		return SS_NO_RESERVATION;
	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	reserved = ss_slot_reserve(partition, ss_database_number(db));
	LWLockRelease(ss_slot_lock(partition));
	return reserved ? ss_database_number(db) : SS_NO_RESERVATION;
}

/* Return a reservation.  Does memory writes only, so it is safe in an abort callback. */
void
ss_touch_unreserve(const SsKey *key, int reservation)
{
	int partition = ss_slot_partition(ss_slot_hash(key));

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	ss_slot_unreserve(partition, reservation);
	LWLockRelease(ss_slot_lock(partition));
}

/*
 * As ss_touch_record() with force, in a slot that was reserved; never SS_TOUCH_FULL.  The
 * reservation is used up, or returned if the session has a slot by now.
 */
SsTouchResult
ss_touch_record_reserved(const SsKey *key, int64 base, int64 ttl, int64 expires, int reservation)
{
	uint32 hash = ss_slot_hash(key);
	int partition = ss_slot_partition(hash);
	SsSlot *slot;
	bool urgent;

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, key);
	if (slot != NULL)
		ss_slot_unreserve(partition, reservation);
	else
	{
		slot = ss_slot_take(partition, reservation, hash, key);
		reset_slot(slot, base, ttl);
	}
	if (slot->base != base)
		reset_slot(slot, base, ttl);
	raise_expiry(slot, expires);
	urgent = expires - base >= ss_slack(ttl) || ss_slots_pressed(partition, slot->member);
	LWLockRelease(ss_slot_lock(partition));
	return urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
}

/*
 * Is a touch due to be written?  It is if it moves the expiry by the slack, if the row would end
 * soon without it, or if its partition fills up.  "Soon" is half the slack, well before the end,
 * so that a logical replication subscriber learns of it in time.
 */
static bool
is_due(const SsSlot *slot, int64 now, bool all, bool pressed)
{
	int64 slack = ss_slack(slot->ttl);
	int64 expires = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->expires));

	/* with `all`, ignore earlier postponements, but not those made during this pass */
	if (slot->check_at > (all ? now + SS_TOUCH_POSTPONE : now))
		return false;
	return all || pressed || expires - slot->base >= slack || slot->base - now < slack / 2;
}

/*
 * Copy up to max due touches of a database, beginning at *partition.  On return *partition is
 * where to continue, SS_SLOT_PARTITIONS at the end.  If a partition has more due touches than fit,
 * the rest of them is left for the next pass over the partitions.  `all` is for the last passes
 * before the server stops: every touch is due, with `now` being the start of the pass.
 */
int
ss_touch_due(Oid database, int64 now, bool all, int *partition, SsTouch *out, int max)
{
	SsDb *db = ss_database_mine();
	int count = 0;

	for (; *partition < SS_SLOT_PARTITIONS && count < max; (*partition)++)
	{
		int p = *partition;
		bool pressed;
		int left;

		if (ss_slots_used(p) == 0)
			continue;
		LWLockAcquire(ss_slot_lock(p), LW_SHARED);
		pressed = db != NULL && ss_slots_pressed(p, ss_database_number(db));
		left = ss_slots_used(p);
		for (int i = 0; i < ss_slots_each() && count < max && left > 0; i++)
		{
			SsSlot *slot = ss_slot_at(p, i);

			if (!slot->used)
				continue;
			left--;
			if (slot->key.database != database || !is_due(slot, now, all, pressed))
				continue;
			ss_key_copy(&out[count].key, &slot->key);
			out[count].base = slot->base;
			out[count].ttl = slot->ttl;
			out[count].expires = pg_atomic_read_u64(&slot->expires);
			count++;
		}
		LWLockRelease(ss_slot_lock(p));
	}
	return count;
}

/*
 * The row version that ended at `base` was replaced by one that ends at `written` and has this
 * ttl, and that is committed.  If the old version was touched meanwhile, move the touch to the new
 * one; remove it if it does not end later than that.
 */
void
ss_touch_rebase(const SsKey *key, int64 base, int64 written, int64 ttl)
{
	uint32 hash;
	int partition;
	SsSlot *slot;

	if (!ss_slots_exist())
		return;
	hash = ss_slot_hash(key);
	partition = ss_slot_partition(hash);
	if (!ss_slot_maybe(hash))
		return;
	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, key);
	if (slot != NULL && slot->base == base)
	{
		/* the time of the last read plus the new ttl */
		int64 expires = (int64) pg_atomic_read_u64(&slot->expires) - slot->ttl + ttl;

		if (expires > written)
		{
			reset_slot(slot, written, ttl);
			raise_expiry(slot, expires);
		}
		else
			ss_slot_release(partition, slot);
	}
	LWLockRelease(ss_slot_lock(partition));
}

/* A touch was written to the row, and that is committed. */
void
ss_touch_written(const SsTouch *touch)
{
	ss_touch_rebase(&touch->key, touch->base, touch->expires, touch->ttl);
}

/*
 * A touch could not be written now; check it again after SS_TOUCH_POSTPONE.  If its row was
 * locked, it is kept.  If the table has another version of the row, the transaction that wrote
 * it may be about to move the touch (ss_touch_rebase); if it still does not match at the next
 * check, it is removed.
 */
void
ss_touch_postpone(const SsTouch *touch, int64 now, bool locked)
{
	uint32 hash = ss_slot_hash(&touch->key);
	int partition = ss_slot_partition(hash);
	SsSlot *slot;

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, &touch->key);
	if (slot != NULL && slot->base == touch->base)
	{
		if (!locked && slot->unmatched)
			ss_slot_release(partition, slot);
		else
		{
			slot->unmatched = !locked;
			slot->check_at = now + SS_TOUCH_POSTPONE;
		}
	}
	LWLockRelease(ss_slot_lock(partition));
}

/*
 * A touch cannot be written.  Returns true if nothing is left to write: the session has ended by
 * all reads recorded until now, and the touch is removed, or there is no such touch any more.
 */
bool
ss_touch_ended(const SsTouch *touch, int64 now)
{
	uint32 hash = ss_slot_hash(&touch->key);
	int partition = ss_slot_partition(hash);
	SsSlot *slot;
	bool ended = true;

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, &touch->key);
	if (slot != NULL && slot->base == touch->base)
	{
		ended = (int64) pg_atomic_read_u64(&slot->expires) <= now;
		if (ended)
			ss_slot_release(partition, slot);
	}
	LWLockRelease(ss_slot_lock(partition));
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
