/*
 * ledger.c
 *		Shared table of the keys whose copy in Redis may be out of date.
 *
 * See ledger.h for the terms and the order of calls.  Nothing here allocates memory or fails.
 * A transaction that finds no room learns so at PRE_COMMIT, when it can still become unlisted
 * (R11).
 *
 * Each partition has a list of the slots that changed since the pusher last read it, so that
 * reading the ledger costs what changed and not its size.
 */
#include <string.h>

#include "protocol/ledger.h"
#include "protocol/rules.h"

static int
slots_of_partition(int keys)
{
	/* with headroom, because hashing does not fill partitions evenly */
	return keys <= 0 ? 0 : keys / SS_LEDGER_PARTITIONS + keys / SS_LEDGER_PARTITIONS / 8 + 4;
}

static int
buckets_of_partition(int keys)
{
	int buckets = 1;

	while (buckets < slots_of_partition(keys))
		buckets *= 2;
	return buckets;
}

static size_t
aligned(size_t size)
{
	return (size + 63) & ~(size_t) 63;
}

/* Size in bytes of a ledger for this number of keys. */
size_t
ss_ledger_size(int keys)
{
	return aligned(sizeof(SsLedger)) +
		   aligned(sizeof(int32_t) * SS_LEDGER_PARTITIONS * (size_t) buckets_of_partition(keys)) +
		   sizeof(SsLedgerSlot) * SS_LEDGER_PARTITIONS * (size_t) slots_of_partition(keys);
}

static int32_t *
bucket(SsLedger *ledger, uint32_t hash)
{
	int32_t *all = (int32_t *) ((char *) ledger + aligned(sizeof(SsLedger)));
	size_t partition = hash % SS_LEDGER_PARTITIONS;

	return &all[partition * ledger->buckets +
				(hash / SS_LEDGER_PARTITIONS & (ledger->buckets - 1))];
}

/*
 * The slot with this number, which must be valid.  The caller may read and write its pusher
 * fields while attached, and `key` and `hash` while the slot cannot be freed.
 */
SsLedgerSlot *
ss_ledger_slot(SsLedger *ledger, int32_t slot)
{
	char *all = (char *) ledger + aligned(sizeof(SsLedger)) +
				aligned(sizeof(int32_t) * SS_LEDGER_PARTITIONS * (size_t) ledger->buckets);

	return (SsLedgerSlot *) all + slot;
}

static int
partition_of(const SsLedger *ledger, int32_t slot)
{
	return slot / ledger->slots;
}

/* Initializes a block of ss_ledger_size(keys) bytes.  Nobody else may access it yet. */
void
ss_ledger_init(SsLedger *ledger, int keys)
{
	memset(ledger, 0, ss_ledger_size(keys));
	ledger->slots = slots_of_partition(keys);
	ledger->buckets = buckets_of_partition(keys);
	memset(bucket(ledger, 0), 0xff,
		   sizeof(int32_t) * SS_LEDGER_PARTITIONS * (size_t) ledger->buckets);
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
	{
		SsLedgerPartition *partition = &ledger->partitions[p];
		int32_t first = p * ledger->slots;

		partition->free = ledger->slots > 0 ? first : SS_NO_SLOT;
		partition->first_changed = partition->last_changed = SS_NO_SLOT;
		for (int32_t i = 0; i < ledger->slots; i++)
			ss_ledger_slot(ledger, first + i)->next = i + 1 < ledger->slots ? first + i + 1
																			: SS_NO_SLOT;
	}
}

/* Number of slots. */
int
ss_ledger_room(const SsLedger *ledger)
{
	return ledger->slots * SS_LEDGER_PARTITIONS;
}

/* Number of slots in use; read without locks. */
int
ss_ledger_used(const SsLedger *ledger)
{
	int used = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		used += ledger->partitions[p].used;
	return used;
}

/*
 * Gives a member its share when it gets a pusher, and takes it away when the pusher ends.
 * Takes the locks of all partitions.
 */
void
ss_ledger_share(SsLedger *ledger, int member, bool has_pusher)
{
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		ss_ledger_lock(p);
	(void) ss_shares_set(&ledger->shares, ledger->slots, member, has_pusher);
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		ss_ledger_unlock(p);
}

/* Number of slots that are reserved for a member, whatever other members use. */
int
ss_ledger_share_of(const SsLedger *ledger, int member)
{
	return ss_shares_of(&ledger->shares, member) * SS_LEDGER_PARTITIONS;
}

/* Number of slots that a member uses; read without locks. */
int
ss_ledger_count(const SsLedger *ledger, int member)
{
	int count = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		count += __atomic_load_n(&ledger->partitions[p].count[member], __ATOMIC_RELAXED);
	return count;
}

/*
 * Number of slots that a member may use at present, including those that it uses; read without
 * locks.
 */
int
ss_ledger_allowed(const SsLedger *ledger, int member)
{
	int allowed = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
	{
		const SsLedgerPartition *partition = &ledger->partitions[p];
		int32_t used = __atomic_load_n(&partition->used, __ATOMIC_RELAXED);

		allowed += ss_shares_allowed(&ledger->shares, partition->count, ledger->slots - used,
									 member);
	}
	return allowed;
}

/* When a key was last refused because there was no room; 0 for never. */
SsMonotonic
ss_ledger_refused_at(const SsLedger *ledger)
{
	return __atomic_load_n(&ledger->refused_at, __ATOMIC_RELAXED);
}

/*
 * The slot of a key, or SS_NO_SLOT.  The lock of the partition is held, here and in the next
 * functions.
 */
static int32_t
find_slot(SsLedger *ledger, const SsKey *key, uint32_t hash)
{
	int32_t slot = ledger->buckets == 0 ? SS_NO_SLOT : *bucket(ledger, hash);

	while (slot != SS_NO_SLOT)
	{
		SsLedgerSlot *s = ss_ledger_slot(ledger, slot);

		if (s->hash == hash && ss_key_equal(&s->key, key))
			return slot;
		slot = s->next;
	}
	return SS_NO_SLOT;
}

/*
 * Takes a slot from the free list for a key that has none; SS_NO_SLOT if the member may not
 * have one more.
 */
static int32_t
allocate_slot(SsLedger *ledger, int member, const SsKey *key, uint32_t hash, SsMonotonic now)
{
	SsLedgerPartition *partition = &ledger->partitions[hash % SS_LEDGER_PARTITIONS];
	int32_t slot = partition->free;
	uint32_t generation;
	uint32_t ended;
	SsLedgerSlot *s;

	if (!ss_shares_may_take(&ledger->shares, partition->count, ledger->slots - partition->used,
							member))
		return SS_NO_SLOT;
	s = ss_ledger_slot(ledger, slot);
	partition->free = s->next;
	partition->used++;
	partition->count[member]++;
	/* generations survive the reuse of a slot, so that a stale reference is recognized */
	generation = s->generation;
	ended = s->ended;
	memset(s, 0, offsetof(SsLedgerSlot, key));
	ss_key_copy(&s->key, key);
	s->hash = hash;
	s->member = (uint8_t) member;
	s->used = true;
	s->generation = generation;
	s->ended = ended;
	s->since = now;
	s->list_prev = s->list_next = s->next_changed = SS_NO_SLOT;
	s->next = *bucket(ledger, hash);
	*bucket(ledger, hash) = slot;
	return slot;
}

/* Removes a slot from its bucket and puts it on the free list. */
static void
free_slot(SsLedger *ledger, int32_t slot)
{
	SsLedgerSlot *s = ss_ledger_slot(ledger, slot);
	SsLedgerPartition *partition = &ledger->partitions[s->hash % SS_LEDGER_PARTITIONS];
	int32_t *link = bucket(ledger, s->hash);

	while (*link != slot)
		link = &ss_ledger_slot(ledger, *link)->next;
	*link = s->next;
	s->used = false;
	s->generation++;
	s->next = partition->free;
	partition->free = slot;
	partition->used--;
	partition->count[s->member]--;
}

/*
 * Puts a slot on the list of those that the pusher has to read.  Without an attached pusher
 * there is nothing to do: ss_ledger_attach lists all slots that exist by then.
 */
static void
mark_changed(SsLedger *ledger, const SsControl *control, int32_t slot)
{
	SsLedgerSlot *s = ss_ledger_slot(ledger, slot);
	SsLedgerPartition *partition = &ledger->partitions[s->hash % SS_LEDGER_PARTITIONS];

	if (s->changed || !__atomic_load_n(&control->attached, __ATOMIC_SEQ_CST))
		return;
	s->changed = true;
	s->next_changed = SS_NO_SLOT;
	if (partition->last_changed == SS_NO_SLOT)
		partition->first_changed = slot;
	else
		ss_ledger_slot(ledger, partition->last_changed)->next_changed = slot;
	partition->last_changed = slot;
}

/*
 * At PRE_COMMIT: marks a key as in doubt; `what` are flags SS_CHANGED_.  Returns false when
 * there is no room.  The caller must then become unlisted; the keys that it has entered stay
 * and must be resolved.
 */
bool
ss_ledger_enter(SsLedger *ledger, const SsControl *control, const SsKey *key, uint32_t hash,
				int what, SsMonotonic now)
{
	int partition = hash % SS_LEDGER_PARTITIONS;
	SsLedgerSlot *s;
	int32_t slot;

	/* mutant of R21: keys are entered only while a pusher is attached */
	if (!SS_RULE(21) && !__atomic_load_n(&control->attached, __ATOMIC_SEQ_CST))
		return true;
	ss_ledger_lock(partition);
	slot = find_slot(ledger, key, hash);
	if (slot == SS_NO_SLOT)
		slot = allocate_slot(ledger, control->member, key, hash, now);
	if (slot != SS_NO_SLOT)
	{
		s = ss_ledger_slot(ledger, slot);
		if (s->doubt == 0 && !s->dirty)
			s->since = now;
		s->doubt++;
		s->generation++;
		if (what & SS_CHANGED_DOCUMENT)
			s->document = true;
		if (what & SS_CHANGED_FENCED)
			s->fenced = true;
		mark_changed(ledger, control, slot);
	}
	else
		__atomic_store_n(&ledger->refused_at, now, __ATOMIC_RELAXED);
	ss_ledger_unlock(partition);
	return slot != SS_NO_SLOT;
}

/*
 * The transaction has committed or aborted: its key is dirty.  Called once for each call of
 * ss_ledger_enter that returned true.  Without a pusher the key leaves the ledger, because the
 * next pusher starts with a flush.
 */
void
ss_ledger_resolve(SsLedger *ledger, const SsControl *control, const SsKey *key, uint32_t hash)
{
	int partition = hash % SS_LEDGER_PARTITIONS;
	SsLedgerSlot *s;
	int32_t slot;

	ss_ledger_lock(partition);
	slot = find_slot(ledger, key, hash);
	if (slot != SS_NO_SLOT && (s = ss_ledger_slot(ledger, slot))->doubt > 0)
	{
		s->doubt--;
		s->generation++;
		s->ended++;
		s->dirty = true;
		if (s->doubt == 0)
			s->fenced = false;
		if (!__atomic_load_n(&control->attached, __ATOMIC_SEQ_CST) && s->doubt == 0 && !s->changed)
			free_slot(ledger, slot);
		else
			mark_changed(ledger, control, slot);
	}
	ss_ledger_unlock(partition);
}

/*
 * A session was read that may deserve a copy and have none: the pusher shall check it, not
 * before `when`.  This is a hint, which is dropped if the ledger is half full, unless the
 * member uses less than half of its share.  Returns true if the pusher has something new to
 * do.
 */
bool
ss_ledger_want(SsLedger *ledger, const SsControl *control, const SsKey *key, uint32_t hash,
			   SsMonotonic when)
{
	int partition = hash % SS_LEDGER_PARTITIONS;
	const SsLedgerPartition *p = &ledger->partitions[partition];
	int32_t slot;
	bool fresh = false;

	if (!__atomic_load_n(&control->attached, __ATOMIC_SEQ_CST))
		return false;
	ss_ledger_lock(partition);
	slot = find_slot(ledger, key, hash);
	if (slot == SS_NO_SLOT &&
		(p->used < ledger->slots / 2 ||
		 p->count[control->member] < ss_shares_of(&ledger->shares, control->member) / 2))
	{
		slot = allocate_slot(ledger, control->member, key, hash, when);
		fresh = slot != SS_NO_SLOT;
	}
	if (slot != SS_NO_SLOT)
		ss_ledger_slot(ledger, slot)->wanted = true;
	if (fresh)
		mark_changed(ledger, control, slot);
	ss_ledger_unlock(partition);
	return fresh;
}

/*
 * A pusher starts: from now on keys stay until it has finished them, and it shall read each
 * key of its database that is there.
 */
void
ss_ledger_attach(SsLedger *ledger, SsControl *control, uint32_t database)
{
	__atomic_store_n(&control->attached, 1, __ATOMIC_SEQ_CST);
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
	{
		ss_ledger_lock(p);
		for (int32_t i = p * ledger->slots; i < (p + 1) * ledger->slots; i++)
		{
			SsLedgerSlot *s = ss_ledger_slot(ledger, i);

			if (!s->used || s->key.database != database)
				continue;
			/* what an earlier pusher knew about Redis is not known any more */
			s->absent = s->refill = false;
			s->list = SS_LIST_NONE;
			s->list_prev = s->list_next = SS_NO_SLOT;
			s->round = s->sync = s->order = 0; /* numbers of the earlier pusher's counters */
			mark_changed(ledger, control, i);
		}
		ss_ledger_unlock(p);
	}
}

/*
 * A pusher ends: removes the keys of its database that are not in doubt.  Its successor
 * flushes Redis instead.
 */
void
ss_ledger_detach(SsLedger *ledger, SsControl *control, uint32_t database)
{
	int32_t list[64];
	int partition = 0;

	__atomic_store_n(&control->attached, 0, __ATOMIC_SEQ_CST);
	while (ss_ledger_changed(ledger, database, &partition, list, 64) == 64)
		;
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
	{
		ss_ledger_lock(p);
		for (int32_t i = p * ledger->slots; i < (p + 1) * ledger->slots; i++)
		{
			SsLedgerSlot *s = ss_ledger_slot(ledger, i);

			if (s->used && s->key.database == database && s->doubt == 0 && !s->changed)
				free_slot(ledger, i);
		}
		ss_ledger_unlock(p);
	}
}

/*
 * Takes slots of this database off the lists of changed slots, starting at *partition, and
 * updates that for the next call.  Returns their number; less than max means that no more are
 * left.
 */
int
ss_ledger_changed(SsLedger *ledger, uint32_t database, int *partition, int32_t *out, int max)
{
	int count = 0;

	for (; *partition < SS_LEDGER_PARTITIONS; (*partition)++)
	{
		SsLedgerPartition *p = &ledger->partitions[*partition];
		int32_t last = SS_NO_SLOT;
		int32_t *link;

		ss_ledger_lock(*partition);
		link = &p->first_changed;
		while (*link != SS_NO_SLOT && count < max)
		{
			int32_t slot = *link;
			SsLedgerSlot *s = ss_ledger_slot(ledger, slot);

			if (s->key.database == database)
			{
				s->changed = false;
				*link = s->next_changed;
				out[count++] = slot;
				if (p->last_changed == slot)
					p->last_changed = last;
			}
			else
			{
				last = slot;
				link = &s->next_changed;
			}
		}
		ss_ledger_unlock(*partition);
		if (count == max)
			break;
	}
	return count;
}

/* Copies the part of a slot that transactions write. */
void
ss_ledger_read(SsLedger *ledger, int32_t slot, SsLedgerView *view)
{
	SsLedgerSlot *s = ss_ledger_slot(ledger, slot);
	int partition = partition_of(ledger, slot);

	ss_ledger_lock(partition);
	view->fenced = s->fenced;
	view->dirty = s->dirty;
	view->document = s->document;
	view->wanted = s->wanted;
	view->doubt = s->doubt;
	view->generation = s->generation;
	view->ended = s->ended;
	view->since = s->since;
	ss_ledger_unlock(partition);
}

/* Is a key in the ledger? */
bool
ss_ledger_has(SsLedger *ledger, const SsKey *key, uint32_t hash)
{
	int partition = hash % SS_LEDGER_PARTITIONS;
	bool has;

	ss_ledger_lock(partition);
	has = find_slot(ledger, key, hash) != SS_NO_SLOT;
	ss_ledger_unlock(partition);
	return has;
}

/*
 * Redis has what was committed when the key had this generation: removes the key unless
 * something happened since.  Returns true if it was removed.  Otherwise, if no transaction has
 * ended since, the key is not dirty any more.
 */
bool
ss_ledger_finish(SsLedger *ledger, int32_t slot, uint32_t generation, uint32_t ended)
{
	SsLedgerSlot *s = ss_ledger_slot(ledger, slot);
	int partition = partition_of(ledger, slot);
	bool done;

	ss_ledger_lock(partition);
	done = s->used && s->generation == generation && s->doubt == 0 && !s->changed;
	if (done)
		free_slot(ledger, slot);
	else if (s->used && s->ended == ended)
		s->dirty = false; /* others are about to change it, but none has ended */
	ss_ledger_unlock(partition);
	return done;
}
