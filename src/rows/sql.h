/*
 * sql.h
 *		Prepared SQL on the extension's tables, run as the owner of the tables.
 */
#ifndef SS_SQL_H
#define SS_SQL_H

#include "executor/spi.h"

/* State of the caller, saved by ss_sql_enter and restored by ss_sql_leave. */
typedef struct SsCaller
{
	Oid user;
	int sec_context;
	MemoryContext outer; /* results are copied into this context */
	int guc_nest;        /* GUC nest level of the search_path; 0 if ss_sql_enter did not set it */
	bool skip_fence;     /* ss_skip_fence of the outer call, if a trigger made this one */
} SsCaller;

/*
 * The search_path under which all plans are prepared and run.  The needless quotes tell it from a
 * search_path that a function sets for itself.
 */
#define SS_SEARCH_PATH "\"pg_catalog\", pg_temp"

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
	Oid argtypes[16];
	const AttrNumber *columns; /* ended by SS_ROW_NONE; NULL if the text has no {columns} */
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

extern void ss_sql_enter(SsCaller *caller);
extern void ss_sql_leave(SsCaller *caller);
extern bool ss_sql_acts_as_owner(void);
extern int ss_sql_set_path(void);
extern void ss_sql_reset_path(int guc_nest);
extern Datum ss_sql_value(HeapTuple tuple, TupleDesc desc, int column, const char *table);
extern Datum ss_sql_copy_out(const SsCaller *caller, Datum value, bool byval, int len);
extern uint64 ss_plan_run(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode,
						  long limit);
extern bool ss_plan_is_ours(const QueryDesc *query);

/*
 * True if the last attempt to change a row did so without a plan (set by direct_check.c).  Then
 * ss_sql_enter leaves the search_path alone, and the first plan that is run sets it.
 */
extern bool ss_sql_path_on_demand;

/*
 * True while rows end, or messages are removed, for which no commit has to wait at the fence: by
 * the purge, a quota or a pop.  ss_sql_enter clears it for a nested call, which a trigger on these
 * rows may make.
 */
extern bool ss_skip_fence;

#endif
