/*
 * sql.h
 *		Prepared SQL on the extension's tables, run as the owner of the tables.
 */
#ifndef SS_SQL_H
#define SS_SQL_H

#include "executor/spi.h"

#include "table/acts_as_owner.h"

/* State of the caller, saved by ss_sql_enter and restored by ss_sql_leave. */
typedef struct SsCaller
{
	Oid user;
	int sec_context;
	MemoryContext outer; /* results are copied into this context */
	int guc_nest;        /* GUC nest level of the search_path; 0 if ss_sql_enter did not set it */
} SsCaller;

/*
 * What the triggers that a statement fires have to know of it.  They ask ss_plan_fired_with
 * (plan_marks.c), which answers for the rows that this statement itself changes: not for what
 * triggers, rules and foreign keys add to it.
 */
typedef enum SsPlanFlag
{
	/* no commit has to wait at the fence for the sessions that it ends */
	SS_PLAN_SKIPS_FENCE = 1,
	/* no commit has to wait at the fence for the messages that it removes */
	SS_PLAN_POPS_MESSAGES = 2,
	/* it removes messages whose session has ended, so they are in no copy */
	SS_PLAN_PURGES_MESSAGES = 4
} SsPlanFlag;

/*
 * A statement, prepared once per backend.  In its text {sessions} stands for a table of the
 * extension (see expand in sql.c for the others) and {=} for OPERATOR(pg_catalog.=), so that the
 * meaning of neither depends on a search_path.
 *
 * For columns of conversation_sessions there are also
 *
 *		{columns}	the names of the plan's columns
 *		{values}	their parameters, where parameter n is column n of the table
 *		{set}		both, as the SET list of an UPDATE
 *		{$name}		the parameter of one column
 */
typedef struct SsPlan
{
	const char *sql;
	int nargs;
	Oid argtypes[24];
	const AttrNumber *columns; /* ended by SS_ROW_NONE; NULL if the text has no {columns} */
	int flags;                 /* SsPlanFlag */
	/* set by ss_plan_run */
	SPIPlanPtr plan;
	uint64 catalog_identity; /* ss_catalog_identity() when it was prepared */
	uint64 planned_at;       /* plan_generation() when it was last planned; 0 if it was not */
} SsPlan;

typedef enum SsPlanMode
{
	SS_PLAN_READ,       /* read-only, in the caller's snapshot */
	SS_PLAN_WRITE,      /* in the transaction's snapshot, a new one in READ COMMITTED */
	SS_PLAN_LATEST,     /* as SS_PLAN_WRITE, in a new snapshot at every isolation level */
	SS_PLAN_READ_LATEST /* read-only, in a new snapshot at every isolation level */
} SsPlanMode;

/*
 * Condition of an UPDATE or DELETE: its rows are those at the places in two arrays, the ctids and, in
 * the same order, the tableoids.  A ctid alone may be that of another row in a child table.
 *
 * The planner takes both arrays for short, so the rows are read by ctid, and the table is compared by
 * a hash table.
 */
#define SS_SQL_AT(ctids, tableoids)                                                      \
	"ctid {=} ANY (" ctids ") AND ((ctid, tableoid) {=} ANY (SELECT c, t FROM ROWS FROM" \
	" (pg_catalog.unnest(" ctids "), pg_catalog.unnest(" tableoids ")) AS place (c, t))) IS TRUE"

/* The same for the rows of a WITH query, whose columns `at` and `part` are their ctid and tableoid. */
#define SS_SQL_AT_ROWS_OF(query) \
	SS_SQL_AT("ARRAY(SELECT at FROM " query ")", "ARRAY(SELECT part FROM " query ")")

extern void ss_sql_enter(SsCaller *caller);
extern void ss_sql_leave(SsCaller *caller);
extern void ss_sql_set_path_on_demand(bool on_demand);
extern int ss_sql_set_path(void);
extern void ss_sql_reset_path(int guc_nest);
extern Datum ss_sql_value(HeapTuple tuple, TupleDesc desc, int column, const char *table);
extern Datum ss_sql_copy_out(const SsCaller *caller, Datum value, bool byval, int len);
extern uint64 ss_plan_run(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode,
						  long limit);
extern const SsPlan *ss_plan_of(const QueryDesc *query);

#endif
