/*
 * standing.c
 *		Decides from this database's own records whether it may claim a Redis by itself.
 *
 * Before each claim the pusher writes a row into the table session_cache_claims: who it is (system
 * identifier, database OID, data directory, timeline), where that Redis is, and the epoch and token
 * of the claim.  The row is WAL-logged, dumped and copied like any other, so a copy of a database
 * can tell from it that it is a copy:
 *
 *	which database starts with the row	system	OID		directory	timeline	standing
 *	the database that wrote it			same	same	same		same		OWNER
 *	a promoted standby					same	same	other		later		PROMOTED
 *	.. or a former primary, promoted	same	same	same		later		PROMOTED
 *	PITR in the same data directory		same	same	same		later		RESTORED
 *	base backup restored, file copy		same	same	other		any			COPY_DIRECTORY
 *	CREATE DATABASE .. TEMPLATE			same	other							COPY_DATABASE
 *	dump restored, pg_upgrade			other									COPY_SERVER
 *	a database without any row												NEW
 *
 * A standby and a restored backup differ in the signal file with which the server was started
 * (identity.c).  A copy of the block device looks like the owner here; epoch and token distinguish
 * the two as soon as one of them has claimed (guard.c).
 *
 * Writing a row replaces all others, so usually there is one.  There may be more after a data-only
 * restore.  A row also contains the marks (token and epoch) of the claims before it.
 */
#include <string.h>

#include "protocol/rules.h"
#include "protocol/standing.h"

/* Were two claims made by the same database of the same server? */
static bool
same_database(const SsClaim *a, const SsClaim *b)
{
	return a->system == b->system && a->database == b->database;
}

/* The standing that follows from one claim. */
static SsStanding
judge(const SsClaim *claim, const SsClaim *me, bool was_standby)
{
	bool same_directory = strcmp(claim->directory, me->directory) == 0;

	if (claim->system != me->system)
		return SS_STANDING_COPY_SERVER;
	if (claim->database != me->database)
		return SS_STANDING_COPY_DATABASE;
	if (same_directory && claim->timeline == me->timeline)
		return SS_STANDING_OWNER;
	if (was_standby && SS_RULE(19) && claim->timeline < me->timeline)
		return SS_STANDING_PROMOTED;
	return same_directory ? SS_STANDING_RESTORED : SS_STANDING_COPY_DIRECTORY;
}

/*
 * Fills in *record from the n claims found in this database.  The closest claim decides, and
 * of several equally close ones the one with the highest epoch.  `me` is who we are; its marks
 * are ignored.
 */
void
ss_standing_judge(const SsClaim *claims, int n, const SsClaim *me, bool was_standby,
				  SsRecord *record)
{
	memset(record, 0, sizeof(*record));
	record->standing = was_standby ? SS_STANDING_PROMOTED : SS_STANDING_NEW;
	record->database = me->database;
	for (int i = 0; i < n; i++)
	{
		SsStanding standing = judge(&claims[i], me, was_standby);

		if (i > 0 &&
			(standing > record->standing ||
			 (standing == record->standing && claims[i].marks[0].epoch <= record->marks[0].epoch)))
			continue;
		record->standing = standing;
		record->database = claims[i].database;
		record->moved = claims[i].moved;
		record->elsewhere = strcmp(claims[i].redis, me->redis) != 0;
		/* the marks of others only say which epoch our claim must exceed */
		memset(record->marks, 0, sizeof(record->marks));
		if (same_database(&claims[i], me))
			memcpy(record->marks, claims[i].marks, sizeof(record->marks));
		else
			record->marks[0].epoch = claims[i].marks[0].epoch;
	}
}

/* Does this standing wait for session_cache_takeover(), whatever Redis says? */
bool
ss_standing_is_copy(SsStanding standing)
{
	return standing >= SS_STANDING_RESTORED && SS_RULE(16);
}

/* Is this the token of a claim of ours? */
bool
ss_record_has(const SsRecord *record, uint64_t token)
{
	for (int i = 0; i < SS_CLAIM_MARKS; i++)
		if (token != 0 && record->marks[i].token == token)
			return true;
	return false;
}

/*
 * Is this certainly not the token of a claim of ours?  The record contains the last claims
 * without a gap, so a claim that is not among them and not older than all of them is
 * another's.  An older one may be ours, in a Redis that was restored from an old backup.
 */
bool
ss_record_excludes(const SsRecord *record, uint64_t token, uint64_t epoch)
{
	const SsClaimMark *oldest = &record->marks[SS_CLAIM_MARKS - 1];

	return !ss_record_has(record, token) && (oldest->token == 0 || epoch >= oldest->epoch);
}

/* Adds a claim as the newest.  A claim that is repeated with another epoch keeps its position. */
void
ss_record_add(SsRecord *record, uint64_t token, uint64_t epoch)
{
	if (record->marks[0].token != token)
		memmove(&record->marks[1], &record->marks[0],
				sizeof(record->marks[0]) * (SS_CLAIM_MARKS - 1));
	record->marks[0].token = token;
	record->marks[0].epoch = epoch;
}
