/*
 * catalog.h
 *		Where our tables are, acting as their owner, and prepared SQL on them.
 */
#ifndef SS_CATALOG_H
#define SS_CATALOG_H

#include "executor/spi.h"

typedef struct SsCatalog
{
	Oid extension;
	Oid schema;
	Oid sessions;        /* conversation_sessions */
	Oid namespaces;      /* session_namespaces */
	Oid history;         /* conversation_history */
	Oid members;         /* session_members */
	Oid events;          /* session_events */
	Oid ended;           /* conversation_history_ended */
	Oid samples;         /* session_samples */
	Oid orphans;         /* session_orphans */
	Oid claims;          /* session_cache_claims */
	Oid namespaces_pkey; /* its index on name */
	Oid owner;           /* of conversation_sessions: whom the functions act as */
	char *schema_name;   /* quoted, ready for SQL */
} SsCatalog;

/* What ss_sql_enter found, for ss_sql_leave to put back. */
typedef struct SsCaller
{
	Oid user;
	int sec_context;
	MemoryContext outer; /* the caller's context: results go there */
	int guc_nest;        /* where its search_path is kept; 0 when it was left in force */
	bool unfenced;       /* ss_skip_fence of an outer call, whose trigger may have made this one */
} SsCaller;

/*
 * The search_path of all our plans.  No role writes it in this spelling, so that it can be told
 * from the path of a function that sets one.
 */
#define SS_SEARCH_PATH "\"pg_catalog\", pg_temp"

/*
 * A statement on our tables, prepared once per backend.  In the text {sessions}
 * stands for a table of ours and {=} for OPERATOR(pg_catalog.=), so that no
 * search_path can give either another meaning.
 */
typedef struct SsPlan
{
	const char *sql;
	int nargs;
	Oid argtypes[16];
	/* filled by ss_plan_run */
	SPIPlanPtr plan;
	uint64 catalog_identity; /* prepared for this catalog */
	uint64 settled;          /* planned since this invalidation count */
} SsPlan;

typedef enum SsPlanMode
{
	SS_PLAN_READ,       /* the caller's snapshot; nothing is changed */
	SS_PLAN_WRITE,      /* sees all that this transaction may see now */
	SS_PLAN_LATEST,     /* as SS_PLAN_WRITE, but at every isolation level the latest */
	SS_PLAN_READ_LATEST /* as SS_PLAN_READ, but the latest */
} SsPlanMode;

extern bool ss_catalog_find(SsCatalog *catalog);
extern const SsCatalog *ss_catalog_cached(void);
extern bool ss_catalog_try_lock(const SsCatalog *catalog);
extern void ss_catalog_get(SsCatalog *catalog);
extern char *ss_catalog_damage(void);
extern char *ss_catalog_damage_of(const char *table);
extern bool ss_catalog_is_current(void);
extern void ss_sql_enter(SsCaller *caller);
extern void ss_sql_leave(SsCaller *caller);
extern bool ss_sql_acts_as_owner(void);
extern bool ss_catalog_has_owner_privs(Oid role);
extern bool ss_catalog_is_ours(Oid relid);
extern int ss_sql_set_path(void);
extern void ss_sql_reset_path(int guc_nest);
extern Datum ss_sql_value(HeapTuple tuple, TupleDesc desc, int column, const char *table);
extern Datum ss_sql_copy_out(const SsCaller *caller, Datum value, bool byval, int len);
extern uint64 ss_plan_run(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode,
						  long limit);
extern bool ss_plan_is_ours(const QueryDesc *query);

/*
 * A hint from rows/direct_check.c: the last change of a row ran no plan.  Then ss_sql_enter leaves the
 * search_path alone, and the first plan sets it.
 */
extern bool ss_sql_path_on_demand;

/*
 * True while rows end, or messages go, that no commit needs to wait for: by the purge, a quota or a
 * pop.  A call made by somebody's trigger on these is a call like any other: see ss_sql_enter.
 */
extern bool ss_skip_fence;

/* Called with the oid of a table of ours (or 0 for all) whose cache entry fell. */
typedef void (*SsCatalogCallback)(Oid relid);
extern void ss_catalog_on_invalidation(SsCatalogCallback hook);
/* The same, once, for a relation that is not ours; false when no more can be watched. */
extern bool ss_catalog_watch(Oid relid, SsCatalogCallback hook);

#endif
