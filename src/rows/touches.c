/*
 * touches.c
 *		Sliding reads, noted in shared memory instead of written.
 *
 * Words.  A note says: the row version of this session that ends at `base` now
 * ends at `expires`.  The base ties the note to what was read: whoever ends a
 * session (delete, plain SQL) gives its row another expires_at, so that notes no longer
 * match and are as good as gone, without any cleaning up.  Whoever prolongs it (save,
 * touch, purge, the keeper) takes the note over to the new version when that
 * is committed (ss_touch_rebase), since reads went on meanwhile.  A transaction notes reads of
 * versions that it made itself when it commits (touch_xact.c), so that a note is always on
 * a committed version.
 *
 * Every reader takes the later of expires_at and a matching note, so a noted
 * read is seen by all calls at once.  The keeper writes a note once it moves the
 * expiry by the slack, and otherwise only when the session would else end; what
 * a crash loses is therefore at most the slack and the keeper's next turn.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/expiry.h"
#include "rows/touch_slots.h"
#include "rows/touch_xact.h"
#include "rows/touches.h"
#include "shared.h"

int
ss_touch_partitions(void)
{
	return SS_SLOT_PARTITIONS;
}

/* Can reads be noted here?  Not without shared memory, not on a standby. */
bool
ss_touch_usable(void)
{
	return ss_slots_exist() && !RecoveryInProgress();
}

/*
 * When the row version that ends at expires_at really ends.  A transaction sees
 * what it touched itself before others do (touch_xact.c).
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
	/* a note that is being added right now belongs to a read that is not over */
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

/* Advance a note, never backwards.  The partition's lock is held in either mode. */
static void
advance(SsSlot *slot, int64 expires)
{
	uint64 old = pg_atomic_read_u64(&slot->expires);

	while ((int64) old < expires && !pg_atomic_compare_exchange_u64(&slot->expires, &old, expires))
		;
}

/* Make the slot a note on another version of the row, that says nothing yet. */
static void
restart(SsSlot *slot, int64 base, int64 ttl)
{
	slot->base = base;
	slot->ttl = ttl;
	slot->look_at = 0;
	slot->unmatched = false;
	pg_atomic_write_u64(&slot->expires, base);
}

/*
 * Note that the row version ending at `base` shall end at `expires`.  Where there is
 * a note on another version, that one stands, unless the caller insists (having
 * seen with a new snapshot which version is the present one).
 */
SsTouchResult
ss_touch_record(const SsKey *key, int64 base, int64 ttl, int64 expires, bool force)
{
	uint32 hash = ss_slot_hash(key);
	int partition = ss_slot_partition(hash);
	int64 slack = ss_slack(ttl);
	SsDb *db = ss_shared_my_db();
	SsSlot *slot;
	bool urgent;

	LWLockAcquire(ss_slot_lock(partition), LW_SHARED);
	slot = ss_slot_find(partition, hash, key);
	if (slot != NULL && (slot->base == base || !force))
	{
		SsTouchResult noted = SS_TOUCH_CONFLICT;

		if (slot->base == base)
		{
			int64 before = pg_atomic_read_u64(&slot->expires);

			advance(slot, expires);
			urgent = before - base < slack && expires - base >= slack;
			noted = urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
		}
		LWLockRelease(ss_slot_lock(partition));
		return noted;
	}
	LWLockRelease(ss_slot_lock(partition));

	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	slot = ss_slot_find(partition, hash, key);
	if (slot == NULL)
	{
		/* more databases than can be known have no keeper that would write it */
		if (db != NULL && ss_slot_reserve(partition, ss_shared_number(db)))
		{
			slot = ss_slot_take(partition, ss_shared_number(db), hash, key);
			restart(slot, base, ttl);
		}
	}
	else if (slot->base != base && force)
		restart(slot, base, ttl);
	if (slot == NULL || slot->base != base)
	{
		LWLockRelease(ss_slot_lock(partition));
		return slot == NULL ? SS_TOUCH_FULL : SS_TOUCH_CONFLICT;
	}
	advance(slot, expires);
	urgent = expires - base >= slack || ss_slots_pressed(partition, slot->member);
	LWLockRelease(ss_slot_lock(partition));
	return urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
}

/*
 * Reserve a slot for a note that this transaction makes when it commits, so that it cannot fail then.
 * Returns what the caller passes on to ss_touch_record_reserved() or ss_touch_unreserve(), one of which
 * it must call at the end of the transaction; SS_NO_RESERVATION if there is no free slot.
 */
int
ss_touch_reserve(const SsKey *key)
{
	int partition = ss_slot_partition(ss_slot_hash(key));
	SsDb *db = ss_shared_my_db();
	bool reserved;

	if (db == NULL)
		return SS_NO_RESERVATION;
	LWLockAcquire(ss_slot_lock(partition), LW_EXCLUSIVE);
	reserved = ss_slot_reserve(partition, ss_shared_number(db));
	LWLockRelease(ss_slot_lock(partition));
	return reserved ? ss_shared_number(db) : SS_NO_RESERVATION;
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
 * As ss_touch_record() with force, in a slot that was reserved; never SS_TOUCH_FULL.  The reservation is
 * used up, or returned if the session has a slot by now.
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
		restart(slot, base, ttl);
	}
	if (slot->base != base)
		restart(slot, base, ttl);
	advance(slot, expires);
	urgent = expires - base >= ss_slack(ttl) || ss_slots_pressed(partition, slot->member);
	LWLockRelease(ss_slot_lock(partition));
	return urgent ? SS_TOUCH_URGENT : SS_TOUCH_RECORDED;
}

/*
 * Is a note to be written?  When it moves the expiry by the slack, when the row
 * would end soon without it, or when its partition fills up.  "Soon" is half the
 * slack: long before, so that a subscriber hears of it in time.
 */
static bool
is_due(const SsSlot *slot, int64 now, bool all, bool pressed)
{
	int64 slack = ss_slack(slot->ttl);
	int64 expires = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->expires));

	/* before a stop also those that were postponed until now, but no others twice in a pass */
	if (slot->look_at > (all ? now + SS_TOUCH_POSTPONE : now))
		return false;
	return all || pressed || expires - slot->base >= slack || slot->base - now < slack / 2;
}

/*
 * Copy out notes of a database that are due, starting at *partition and leaving
 * there where to go on (SS_SLOT_PARTITIONS at the end).  A partition that has more than there is
 * room for is gone on with the next time: what was written is not due any more then.  `all` is
 * for the last time before the server stops: every note is due, as of the start of that pass.
 */
int
ss_touch_due(Oid database, int64 now, bool all, int *partition, SsTouch *out, int max)
{
	SsDb *db = ss_shared_my_db();
	int count = 0;

	for (; *partition < SS_SLOT_PARTITIONS && count < max; (*partition)++)
	{
		int p = *partition;
		bool pressed;
		int left;

		if (ss_slots_used(p) == 0)
			continue;
		LWLockAcquire(ss_slot_lock(p), LW_SHARED);
		pressed = db != NULL && ss_slots_pressed(p, ss_shared_number(db));
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
 * The row version that ended at `base` is now one that ends at `written`, with this
 * ttl, and that is committed.  What was noted meanwhile on the old version was a use
 * all the same, and goes over to the new one; what says nothing new is done with.
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
		/* the last use, with the lifetime that the session has now */
		int64 expires = (int64) pg_atomic_read_u64(&slot->expires) - slot->ttl + ttl;

		if (expires > written)
		{
			restart(slot, written, ttl);
			advance(slot, expires);
		}
		else
			ss_slot_release(partition, slot);
	}
	LWLockRelease(ss_slot_lock(partition));
}

/* The note was written, and that is committed. */
void
ss_touch_written(const SsTouch *touch)
{
	ss_touch_rebase(&touch->key, touch->base, touch->expires, touch->ttl);
}

/*
 * The note could not be written now.  Its row may be locked: then it waits.  Or the
 * table has another version of the row: whoever wrote that is perhaps about to take the note
 * over (ss_touch_rebase), and if it is still so at the next look, nobody will.
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
			slot->look_at = now + SS_TOUCH_POSTPONE;
		}
	}
	LWLockRelease(ss_slot_lock(partition));
}

/*
 * The note cannot be written.  If the session has ended, by what has been noted until now, nothing is
 * left to write; false when it goes on.
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

/* A read could not be noted for want of room: for metrics and health. */
void
ss_touch_dropped(void)
{
	SsDb *db = ss_shared_my_db();

	ss_count(SS_USES_DROPPED, 1);
	if (db != NULL)
		db->touch_dropped_at = ss_shared->touch_dropped_at = ss_monotonic();
}
