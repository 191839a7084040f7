/*
 * turns.c
 *		Calls that lock more than one session take turns while they lock.
 *
 * Who holds one row and waits for another can be waited for by one who does the same. No
 * order of the rows prevents it: an id that had no row has one a moment later, a session
 * that was given another id stands elsewhere, one that began anew belongs to somebody else. So those that do
 * it exclude each other, by locks taken before the first row:
 *
 *		two sessions (fork, absorb)		both ids; and against all of the next two
 *		many sessions of an owner		the owner
 *		many sessions of a namespace	each other, and the two above
 *
 * Once the rows are locked a call waits for nothing more, and whoever wants them may wait:
 * the turn ends with the call, not with the transaction.  (On ERROR it ends with that.)
 * Calls about one session hold one row, and never wait for any of these.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "rows/turns.h"

/* The fourth field of an advisory lock tag, see owners.c for another; SQL's own use 1 and 2. */
#define NAMESPACE_SPACE 0x5354
#define OWNER_SPACE 0x5355
#define SESSION_SPACE 0x5356

/* Name something of a namespace (0: itself) in one of our spaces of advisory locks. */
void
ss_turn_name(LOCKTAG *tag, const SsTarget *target, Datum name, uint16 space)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) target->policy.name,
									  strlen(target->policy.name), 0);

	if (name != (Datum) 0)
	{
		text *string = DatumGetTextPP(name);

		hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string),
								   hash);
	}
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, space);
}

static void
take(SsTurn *turn, const LOCKTAG *tag, LOCKMODE mode)
{
	turn->tag[turn->n] = *tag;
	turn->mode[turn->n] = mode;
	(void) LockAcquire(tag, mode, false, false);
	turn->n++;
}

/* Wait for the turn of a call about two sessions. */
void
ss_turn_pair(SsTurn *turn, const SsTarget *a, const SsTarget *b)
{
	LOCKTAG first;
	LOCKTAG second;
	LOCKTAG all;

	turn->n = 0;
	ss_turn_name(&first, a, a->id, SESSION_SPACE);
	ss_turn_name(&second, b, b->id, SESSION_SPACE);
	if (memcmp(&first, &second, sizeof(LOCKTAG)) > 0)
	{
		LOCKTAG swap = first;

		first = second;
		second = swap;
	}
	take(turn, &first, ExclusiveLock);
	/* (were their hashes one, it would be the same lock twice) */
	take(turn, &second, ExclusiveLock);
	/* last, so that nobody who is kept from his turn by it waits for two names as well */
	ss_turn_name(&all, a, (Datum) 0, NAMESPACE_SPACE);
	take(turn, &all, RowExclusiveLock);
}

/* Wait for the turn of a call about many sessions: those of an owner, or of everybody (0). */
void
ss_turn_many(SsTurn *turn, const SsTarget *target, Datum owner)
{
	LOCKTAG tag;

	turn->n = 0;
	ss_turn_name(&tag, target, (Datum) 0, NAMESPACE_SPACE);
	if (owner == (Datum) 0)
	{
		take(turn, &tag, ExclusiveLock);
		return;
	}
	take(turn, &tag, ShareLock);
	ss_turn_name(&tag, target, owner, OWNER_SPACE);
	take(turn, &tag, ExclusiveLock);
}

void
ss_turn_end(SsTurn *turn)
{
	while (turn->n > 0)
	{
		turn->n--;
		(void) LockRelease(&turn->tag[turn->n], turn->mode[turn->n], false);
	}
}
