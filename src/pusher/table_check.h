/*
 * table_check.h
 *		Checks that no change of sessions or histories can escape our triggers.
 */
#ifndef SS_TABLE_CHECK_H
#define SS_TABLE_CHECK_H

/* Whether the tables can be relied on to report changes. */
typedef enum SsTableState
{
	SS_TABLES_FINE,
	SS_TABLES_GONE,   /* the extension was dropped */
	SS_TABLES_LOCKED, /* locked exclusively by another session */
	SS_TABLES_BROKEN  /* changes may go unrecorded, for instance because a trigger is disabled */
} SsTableState;

/* Identifies the storage and triggers of the tables: if it differs, anything may have changed. */
typedef struct SsTableMark
{
	struct
	{
		Oid relation;
		Oid storage;
		uint64 triggers;
	} of[2]; /* sessions, history */
} SsTableMark;

extern SsTableState ss_tables_check(SsTableMark *mark, char *trouble, size_t size);
extern SsTableState ss_tables_lock(void);

#endif
