/*
 * subscription.h
 *		Determines which of our tables are targets of logical replication.
 */
#ifndef SS_SUBSCRIPTION_H
#define SS_SUBSCRIPTION_H

/* Tables that logical replication may fill. */
typedef enum SsTable
{
	SS_TABLE_SESSIONS,
	SS_TABLE_HISTORY,
	SS_TABLE_MEMBERS,
	SS_TABLE_OPERATIONS,
	SS_TABLE_ENDED,
	SS_TABLE_EVENTS,
	SS_TABLE_SAMPLES,
	SS_TABLE_COUNTERS,
	SS_TABLES
} SsTable;

extern const char *ss_table_name(SsTable table);
extern bool ss_subscribed(SsTable table);

#endif
