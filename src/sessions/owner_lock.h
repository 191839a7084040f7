/*
 * owner_lock.h
 *		Advisory locks on an owner or a namespace.
 */
#ifndef SS_OWNER_LOCK_H
#define SS_OWNER_LOCK_H

#include "row/session.h"
#include "storage/lock.h"

/*
 * What a lock protects: the fourth field of its tag.  The SQL functions for advisory locks use 1 and
 * 2 there, so applications cannot take our locks by chance.
 */
typedef enum SsOwnerLock
{
	SS_LOCK_QUOTA = 0x5353,  /* counting an owner's sessions and adding one */
	SS_LOCK_DELETE = 0x5354, /* ending an owner's sessions */
	SS_LOCK_CLEAR = 0x5355,  /* ending the sessions of a namespace; without an owner */
	SS_LOCK_FORGET = 0x5356  /* forgetting owners of a namespace, until the commit; likewise */
} SsOwnerLock;

extern void ss_owner_lock_tag(LOCKTAG *tag, const SsTarget *target, Datum owner, SsOwnerLock what);

#endif
