/*
 * ledger.h
 *		Shared table of the keys whose copy in Redis may be out of date.
 *
 * Pure C over one block of memory that contains no pointers.  The extension puts it into
 * shared memory and protects each partition by an LWLock; the simulator calls it directly.
 *
 * Terms
 *	in doubt	a transaction that changed the key is between PRE_COMMIT and its end, so that
 *				others may see the old row or the new one
 *	dirty		that transaction has ended; the copy must be rewritten or deleted
 *	wanted		nothing changed, but the session was read and its copy may be missing
 *	unlisted	a transaction whose keys are not all in the ledger, because they did not fit or are
 *				not known, as with TRUNCATE (R11)
 *	ticket		a transaction's position in the order of those that have entered their keys
 *	policy		a transaction that changes the policy of a namespace so that sessions or copies
 *				end earlier.  It has a number; a flush of its namespaces covers it (R14)
 *	attached	a pusher works for the database and may write to Redis.  Without one, keys are
 *				in the ledger only while they are in doubt (R13)
 *	member		a database, identified by a small number
 *	share		the number of slots reserved for a member that has a pusher; see shares.c
 *
 * A transaction calls, in this order:
 *		ss_ledger_enter for each key, or ss_control_unlisted_begin;
 *		ss_control_ticket, which is a full barrier and then reads until when a lease may last;
 *		if it is fenced, ss_control_passes until that returns true;
 *		after commit or abort, ss_ledger_resolve for each key, or ss_control_unlisted_end.
 * The pusher publishes the end of the next lease before it reads the ledger (R4).  So either the
 * transaction sees the lease, or the pusher sees the keys.
 */
#ifndef SS_LEDGER_H
#define SS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/key.h"
#include "protocol/control.h"
#include "protocol/shares.h"

#define SS_LEDGER_PARTITIONS 32
#define SS_NO_SLOT (-1)

/* What a transaction did to a key; flags. */
#define SS_CHANGED_EXPIRY 1   /* only the expiry of the session */
#define SS_CHANGED_DOCUMENT 2 /* what Redis holds, or whether it may hold it */
#define SS_CHANGED_FENCED 4   /* and the transaction waits until no copy is visible */

/* The list of the pusher on which a key stands; see worklist.c. */
typedef enum SsListId
{
	SS_LIST_NONE,
	SS_LIST_DOUBT,   /* in doubt; checked when it gets old or is resolved */
	SS_LIST_URGENT,  /* the copy must be deleted now */
	SS_LIST_PRESENT, /* dirty, and Redis may hold a copy */
	SS_LIST_ABSENT,  /* dirty, and Redis holds none */
	SS_LIST_WANTED,  /* not dirty */
	SS_LISTS
} SsListId;

typedef struct SsLedgerSlot
{
	uint32_t hash;
	int32_t next; /* in the chain of its bucket, or in the free list */
	int32_t next_changed;
	uint8_t member;
	bool used;
	bool changed; /* on the partition's list of slots that the pusher has to read */

	/* Written by transactions, under the lock of the partition. */
	bool fenced; /* one of the transactions in doubt waits at the fence */
	bool dirty;
	bool document;
	bool wanted;
	uint32_t doubt;      /* number of transactions that have it in doubt */
	uint32_t generation; /* incremented by each entry and each end */
	uint32_t ended;      /* incremented by each end */
	SsMonotonic since;   /* when it became in doubt or dirty, or from when on it is wanted */

	/* Private to the pusher while it is attached; needs no lock. */
	bool absent; /* Redis certainly holds no copy */
	bool refill; /* the copy was missing although it should exist */
	uint8_t list;
	int32_t list_prev;
	int32_t list_next;
	uint32_t taken; /* the generation that the operation under way is about */
	uint32_t taken_ended;
	SsMonotonic listed_at; /* when it was put on the list DOUBT */
	uint32_t round;
	uint32_t sync;
	uint32_t order;

	SsKey key;
} SsLedgerSlot;

typedef struct SsLedgerPartition
{
	int32_t used;
	int32_t free;
	int32_t first_changed;
	int32_t last_changed;
	int32_t count[SS_MEMBERS]; /* used slots, by member */
} SsLedgerPartition;

typedef struct SsLedger
{
	int32_t slots;          /* per partition */
	int32_t buckets;        /* per partition; a power of two */
	SsShares shares;        /* written under the locks of all partitions, read under any */
	SsMonotonic refused_at; /* atomic: when a key was last refused because there was no room */
	SsLedgerPartition partitions[SS_LEDGER_PARTITIONS];
	/* Followed by int32_t buckets[SS_LEDGER_PARTITIONS][buckets] and by the slots, by partition. */
} SsLedger;

/* A copy of the part of a slot that transactions write. */
typedef struct SsLedgerView
{
	bool fenced;
	bool dirty;
	bool document;
	bool wanted;
	uint32_t doubt;
	uint32_t generation;
	uint32_t ended;
	SsMonotonic since;
} SsLedgerView;

/*
 * Lock and unlock a partition; provided by the program that links this file.  Called with no
 * other partition locked, except by ss_ledger_share, which locks all of them in ascending
 * order.
 */
extern void ss_ledger_lock(int partition);
extern void ss_ledger_unlock(int partition);

extern size_t ss_ledger_size(int keys);
extern void ss_ledger_init(SsLedger *ledger, int keys);
extern int ss_ledger_room(const SsLedger *ledger);
extern int ss_ledger_used(const SsLedger *ledger);
extern SsLedgerSlot *ss_ledger_slot(SsLedger *ledger, int32_t slot);
extern void ss_ledger_share(SsLedger *ledger, int member, bool has_pusher);
extern int ss_ledger_share_of(const SsLedger *ledger, int member);
extern int ss_ledger_count(const SsLedger *ledger, int member);
extern int ss_ledger_allowed(const SsLedger *ledger, int member);
extern SsMonotonic ss_ledger_refused_at(const SsLedger *ledger);

/* For transactions */
extern bool ss_ledger_enter(SsLedger *ledger, const SsControl *control, const SsKey *key,
							uint32_t hash, int what, SsMonotonic now);
extern void ss_ledger_resolve(SsLedger *ledger, const SsControl *control, const SsKey *key,
							  uint32_t hash);
extern bool ss_ledger_want(SsLedger *ledger, const SsControl *control, const SsKey *key,
						   uint32_t hash, SsMonotonic when);

/* For the pusher */
extern void ss_ledger_attach(SsLedger *ledger, SsControl *control, uint32_t database);
extern void ss_ledger_detach(SsLedger *ledger, SsControl *control, uint32_t database);
extern int ss_ledger_changed(SsLedger *ledger, uint32_t database, int *partition, int32_t *out,
							 int max);
extern void ss_ledger_read(SsLedger *ledger, int32_t slot, SsLedgerView *view);
extern bool ss_ledger_finish(SsLedger *ledger, int32_t slot, uint32_t generation, uint32_t ended);
extern bool ss_ledger_has(SsLedger *ledger, const SsKey *key, uint32_t hash);

#endif
