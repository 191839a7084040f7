/*
 * owner_lock.h
 *		Advisory locks on an owner, or on a whole namespace.
 */
#ifndef SS_OWNER_LOCK_H
#define SS_OWNER_LOCK_H

#include "rows/sessions.h"
#include "storage/lock.h"

/* What is locked: the fourth field of an advisory lock tag; SQL's own use 1 and 2. */
typedef enum SsOwnerLock
{
	SS_LOCK_QUOTA = 0x5353,  /* counting an owner's sessions, and adding one */
	SS_LOCK_DELETE = 0x5354, /* ending an owner's sessions */
	SS_LOCK_CLEAR = 0x5355   /* ending those of a namespace; there is no owner */
} SsOwnerLock;

extern void ss_owner_lock_tag(LOCKTAG *tag, const SsTarget *target, Datum owner, SsOwnerLock what);

#endif
