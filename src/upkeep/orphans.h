/*
 * orphans.h
 *		Messages, members and operations that belong to no session.
 */
#ifndef SS_ORPHANS_H
#define SS_ORPHANS_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* The stages of a pass, in order: the table whose rows are visited. */
typedef enum SsOrphanStage
{
	SS_ORPHANS_RECORDED, /* session_orphans: remove those that are due, forget those that are none */
	SS_ORPHANS_HISTORY,  /* conversation_history: record orphans */
	SS_ORPHANS_MEMBERS,  /* session_members: record orphans */
	SS_ORPHANS_OPERATIONS, /* session_operations: record orphans */
	SS_ORPHANS_DONE
} SsOrphanStage;

/* A pass over all conversations, in steps; all zero before the first. */
typedef struct SsOrphanPass
{
	SsOrphanStage stage;
	bool begun;
	pg_uuid_t at;  /* conversations up to this one were visited in this stage */
	bool only_old; /* nothing was added since the last pass: visit recorded orphans only */
	bool wait;     /* wait for the lock that a removal needs, as long as lock_timeout allows */
	bool locked;   /* out: the step has locked conversation_sessions, to remove some */
	bool left;     /* out: a table has a subscription, so nothing was visited */
	bool refused;  /* out: another transaction holds a conflicting lock */
} SsOrphanPass;

extern int64 ss_orphans_count_changes(void);
extern void ss_orphans_step(SsOrphanPass *pass, int limit);
extern int64 ss_orphans_count(TimestampTz *oldest);

#endif
