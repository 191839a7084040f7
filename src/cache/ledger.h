/*
 * ledger.h
 *		The keys whose copy in Redis may be wrong right now.
 *
 * Pure C over one block of memory, without pointers in it: the extension puts it into
 * shared memory and guards each partition by a lock, the simulator calls it as it is.
 *
 * Words
 *	in doubt	a transaction that changed the key is between PRE_COMMIT and its end:
 *				others may see the old row or the new one
 *	dirty		that transaction has ended; the copy must be written anew or deleted
 *	wanted		nothing changed, but somebody reads the session, and the copy may be missing
 *	unlisted	a transaction whose keys are not in the ledger, for want of room
 *	ticket		a transaction's place in the order of those that entered their keys
 *	policy		a transaction that changes a namespace's policy so that sessions or copies of it
 *				end earlier; it has a number, and a flush of its namespaces covers it
 *	attached	a pusher works for the database and may run; without one, keys are in the
 *				ledger only while they are in doubt (R13)
 *	member		a database, as the ledger knows it: a number
 *	share		how many slots are kept for a member that has a pusher; see shares.c
 *
 * A transaction, in this order:
 *		ss_ledger_enter for each key, or ss_ledger_unlisted_begin;
 *		ss_ledger_ticket, a full barrier and then what may still be leased;
 *		if it is fenced: wait until ss_ledger_passes;
 *		commit or abort; ss_ledger_resolve for each key, or ss_ledger_unlisted_end.
 * The pusher publishes the end of a lease before it looks at the ledger.  So of the
 * two, one always sees the other.
 */
#ifndef SS_LEDGER_H
#define SS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/shares.h"
#include "rows/key.h"

/* The longest lease that the setting allows, and so the longest that a stranger may hold. */
#define SS_LEASE_LONGEST INT64_C(10000000)

#define SS_LEDGER_PARTITIONS 32
#define SS_NO_SLOT (-1)

/* What a transaction did to a key; flags. */
#define SS_CHANGED_EXPIRY 1   /* nothing but when it ends */
#define SS_CHANGED_DOCUMENT 2 /* what Redis holds, or whether it may hold it */
#define SS_CHANGED_FENCED 4   /* and the transaction waits until no copy can be seen */

/* Where a key stands in the pusher's work; see worklist.c. */
typedef enum SsListId
{
	SS_LIST_NONE,
	SS_LIST_DOUBT,   /* to be looked at when it gets old, or when its transaction ends */
	SS_LIST_URGENT,  /* its copy must be deleted now */
	SS_LIST_PRESENT, /* dirty, and Redis may hold a copy */
	SS_LIST_ABSENT,  /* dirty, and Redis holds none */
	SS_LIST_WANTED,  /* not dirty */
	SS_LISTS
} SsListId;

typedef struct SsLedgerSlot
{
	uint32_t hash;
	int32_t next; /* in its bucket's chain, or in the free list */
	int32_t next_changed;
	uint8_t member;
	bool used;
	bool changed; /* is in the partition's list of what the pusher has to look at */

	/* what transactions say */
	bool fenced; /* one of those in doubt waits */
	bool dirty;
	bool document;
	bool wanted;
	uint32_t doubt;      /* how many transactions */
	uint32_t generation; /* counts every entry and every end */
	uint32_t ended;      /* counts every end */
	int64_t since;       /* when it became in doubt or dirty; or when it is wanted */

	/* the pusher's own; nobody else reads or writes these while it is attached */
	bool absent; /* Redis surely holds no copy */
	bool refill; /* a copy was found to be missing that should be there */
	uint8_t list;
	int32_t list_prev;
	int32_t list_next;
	uint32_t taken; /* the generation that the present work is about, */
	uint32_t taken_ended;
	int64_t listed_at; /* when it was put on the list DOUBT */
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
	int32_t count[SS_MEMBERS]; /* of used slots */
} SsLedgerPartition;

typedef struct SsLedger
{
	int32_t slots;      /* a partition */
	int32_t buckets;    /* a partition; a power of two */
	SsShares shares;    /* written under the locks of all partitions, read under any */
	int64_t refused_at; /* atomic: when a key was last refused for want of room */
	SsLedgerPartition partitions[SS_LEDGER_PARTITIONS];
	/* then int32_t buckets[SS_LEDGER_PARTITIONS][buckets], then the slots, likewise */
} SsLedger;

/*
 * What a database's transactions and its pusher tell each other.  All of it is read
 * and written atomically.
 */
typedef struct SsControl
{
	int64_t lease_until;   /* by then any lease that the present pusher granted has surely ended */
	int64_t foreign_until; /* likewise for leases granted before, perhaps in another Redis (R9) */
	int64_t first_until;   /* what foreign_until was at the server's start */
	uint32_t promotion;    /* 1: foreign_until covers the promotion of this server */
	uint64_t tickets;      /* given out */
	uint64_t passed;       /* every ticket up to this one may pass the fence */
	uint64_t synced;       /* of every ticket up to this one, Redis has what was committed */
	uint64_t unlisted_begun;   /* transactions that began to be unlisted, */
	uint64_t unlisted_ended;   /* and that ended since */
	uint64_t policies_begun;   /* transactions that end sessions or copies by a policy (R14), */
	uint64_t policies_ended;   /* that ended since, */
	uint64_t policies_covered; /* and whose namespaces have no copies any more, but those after */
	uint32_t attached;
	uint8_t member;
} SsControl;

/* What the pusher learns of a slot. */
typedef struct SsLedgerView
{
	bool fenced;
	bool dirty;
	bool document;
	bool wanted;
	uint32_t doubt;
	uint32_t generation;
	uint32_t ended;
	int64_t since;
} SsLedgerView;

/* The one who links this guards the partitions. */
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
extern int64_t ss_ledger_refused_at(const SsLedger *ledger);

/* for transactions */
extern void ss_control_init(SsControl *control, int member, int64_t now);
extern void ss_control_promoted(SsControl *control, int64_t when);
extern void ss_control_never_leased(SsControl *control, int64_t promoted);
extern void ss_control_keep_lease(SsControl *control);
extern void ss_control_end_foreign(SsControl *control);
extern bool ss_control_may_be_leased(const SsControl *control, int64_t now);
extern bool ss_ledger_enter(SsLedger *ledger, const SsControl *control, const SsKey *key,
							uint32_t hash, int what, int64_t now);
extern void ss_ledger_unlisted_begin(SsControl *control);
extern void ss_ledger_unlisted_end(SsControl *control);
extern uint64_t ss_ledger_unlisted_ended(const SsControl *control);
extern uint64_t ss_ledger_policy_begin(SsControl *control);
extern void ss_ledger_policy_end(SsControl *control);
extern bool ss_ledger_policy_passes(const SsControl *control, uint64_t number, int64_t lease_until,
									int64_t now);
extern uint64_t ss_ledger_ticket(SsControl *control, int64_t *lease_until);
extern bool ss_ledger_passes(const SsControl *control, uint64_t ticket, int64_t lease_until,
							 int64_t now);
extern void ss_ledger_resolve(SsLedger *ledger, const SsControl *control, const SsKey *key,
							  uint32_t hash);
extern bool ss_ledger_want(SsLedger *ledger, const SsControl *control, const SsKey *key,
						   uint32_t hash, int64_t when);

/* for the pusher */
extern void ss_ledger_attach(SsLedger *ledger, SsControl *control, uint32_t database);
extern void ss_ledger_detach(SsLedger *ledger, SsControl *control, uint32_t database);
extern int ss_ledger_changed(SsLedger *ledger, uint32_t database, int *partition, int32_t *out,
							 int max);
extern void ss_ledger_read(SsLedger *ledger, int32_t slot, SsLedgerView *view);
extern bool ss_ledger_finish(SsLedger *ledger, int32_t slot, uint32_t generation, uint32_t ended);
extern bool ss_ledger_has(SsLedger *ledger, const SsKey *key, uint32_t hash);
extern uint32_t ss_key_hash(const SsKey *key);

#endif
