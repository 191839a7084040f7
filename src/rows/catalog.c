/*
 * catalog.c
 *		Where our tables are, acting as their owner, and prepared SQL on them.
 *
 * The extension may live in any schema of any name, so its tables are found
 * through pg_extension, never through the search_path, and remembered until an
 * invalidation says that one of them, or a schema, changed.
 *
 * All SQL on our tables runs between ss_sql_enter and ss_sql_leave: as the
 * owner of the tables, in a security-restricted context, past row-level
 * policies.  The caller was checked before (api/args.c).  There is no PG_TRY:
 * on ERROR the (sub)transaction's abort puts user, context and search_path back,
 * and SPI ends with it.
 *
 * Every plan is made and run under SS_SEARCH_PATH, and so is whatever a plan reaches: the
 * caller's search_path names nothing while a call acts as the owner.  What else is
 * needed for that is in rows/foreign_code.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "rows/catalog.h"
#include "rows/foreign_code.h"
#include "rows/schema.h"

bool ss_skip_fence =
	false; /* an error leaves it to cache/xact_keys.c, at the end of the (sub)transaction */

bool ss_sql_path_on_demand = false;

static SsCatalog current;
static bool current_valid = false;
static SsCatalog sought;         /* what ss_catalog_find has found so far */
static bool seeking = false;     /* it is looking, or an error ended that */
static List *children = NIL;     /* tables that inherit from ours */
static uint64 identity = 1;      /* changes when the tables become others */
static uint64 invalidations = 1; /* counts what may have made a plan stale */
static SsCatalogCallback hooks[8];
static int nhooks = 0;
static struct
{
	Oid relid;
	SsCatalogCallback hook;
} watched[32]; /* relations that are not ours */
static int nwatched = 0;

static bool
is_of(const SsCatalog *catalog, Oid relid)
{
	return relid == catalog->sessions || relid == catalog->history || relid == catalog->events ||
		   relid == catalog->ended || relid == catalog->members || relid == catalog->namespaces ||
		   relid == catalog->samples || relid == catalog->orphans || relid == catalog->claims;
}

bool
ss_catalog_watch(Oid relid, SsCatalogCallback hook)
{
	for (int i = 0; i < nwatched; i++)
		if (watched[i].relid == relid)
			return true;
	if (nwatched == (int) lengthof(watched))
		return false;
	watched[nwatched].relid = relid;
	watched[nwatched++].hook = hook;
	return true;
}

/* It is called once: it watches again if it still wants to know. */
static void
tell_watcher(Oid relid)
{
	for (int i = 0; i < nwatched; i++)
		if (watched[i].relid == relid)
		{
			SsCatalogCallback hook = watched[i].hook;

			watched[i] = watched[--nwatched];
			hook(relid);
			return;
		}
}

static void
relcache_callback(Datum arg, Oid relid)
{
	bool ours = relid == InvalidOid || is_of(&current, relid) || is_of(&sought, relid);

	tell_watcher(relid);
	/* a table of ours may have been looked at, and not be known to be ours yet */
	if (seeking)
		invalidations++;
	if (!ours && !list_member_oid(children, relid))
		return;
	current_valid = false;
	invalidations++;
	if (!ours)
		return;
	for (int i = 0; i < nhooks; i++)
		hooks[i](relid);
}

static void
syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	current_valid = false;
	invalidations++;
}

/* Have a function called when the cache entry of one of our tables falls. */
void
ss_catalog_on_invalidation(SsCatalogCallback hook)
{
	Assert(nhooks < (int) lengthof(hooks));
	hooks[nhooks++] = hook;
}

/* The extension and its schema; false when it is not installed here. */
static bool
find_extension(SsCatalog *catalog)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("session_store"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		catalog->extension = form->oid;
		catalog->schema = form->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(catalog->schema);
}

/* The owner of a relation, or InvalidOid when it is gone. */
static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Find the extension in this database.  False when it is not there (or is in
 * the middle of being installed or dropped).
 */
bool
ss_catalog_find(SsCatalog *catalog)
{
	static bool registered = false;
	SsCatalog found;
	char *name;
	uint64 seen;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, syscache_callback, (Datum) 0);
		registered = true;
	}
	AcceptInvalidationMessages();
	if (current_valid)
	{
		*catalog = current;
		return true;
	}

	seen = invalidations;
	seeking = true;
	memset(&sought, 0, sizeof(sought));
	list_free(children);
	children = NIL;
	if (!find_extension(&sought))
	{
		seeking = false;
		return false;
	}
	sought.sessions = ss_schema_check(sought.schema, "conversation_sessions", &children);
	sought.namespaces = ss_schema_check(sought.schema, "session_namespaces", &children);
	sought.history = ss_schema_check(sought.schema, "conversation_history", &children);
	sought.members = ss_schema_check(sought.schema, "session_members", &children);
	sought.ended = ss_schema_check(sought.schema, "conversation_history_ended", &children);
	sought.events = get_relname_relid("session_events", sought.schema);
	sought.samples = get_relname_relid("session_samples", sought.schema);
	sought.orphans = get_relname_relid("session_orphans", sought.schema);
	sought.claims = get_relname_relid("session_cache_claims", sought.schema);
	sought.namespaces_pkey = get_relname_relid("session_namespaces_pkey", sought.schema);
	sought.owner = relation_owner(sought.sessions);
	name = get_namespace_name(sought.schema);
	if (!OidIsValid(sought.namespaces_pkey) || !OidIsValid(sought.owner) || name == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: the primary key of session_namespaces is "
							   "missing")));
	found = sought;
	found.schema_name = MemoryContextStrdup(TopMemoryContext, quote_identifier(name));

	/*
	 * Plans outlive an invalidation unless the tables became others.  The old
	 * name may still be in the hands of an outer call: it is left to the
	 * context rather than freed, which costs a few bytes per rename.
	 */
	if (current.schema_name != NULL && strcmp(current.schema_name, found.schema_name) == 0)
	{
		pfree(found.schema_name);
		found.schema_name = current.schema_name;
	}
	if (found.sessions != current.sessions || found.namespaces != current.namespaces ||
		found.history != current.history || found.members != current.members ||
		found.owner != current.owner || found.schema_name != current.schema_name)
		identity++;
	current = found;
	seeking = false;
	/* what was invalidated while we looked is looked at again the next time */
	current_valid = seen == invalidations;
	*catalog = current;
	return true;
}

/*
 * For a worker: hold the extension against DROP EXTENSION until the transaction
 * ends, without waiting; false when somebody is about to drop it.  DROP locks the
 * extension before anything in it, so that whoever got this lock can take others in
 * any order and never be part of a deadlock with it.
 */
bool
ss_catalog_try_lock(const SsCatalog *catalog)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, catalog->extension, 0);
	return LockAcquire(&tag, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* What is wrong with our tables, for session_health, which must work when nothing does. */
char *
ss_catalog_damage(void)
{
	SsCatalog catalog = {0};

	return find_extension(&catalog) ? ss_schema_damage(catalog.schema) : NULL;
}

/* The same of a table that calls can do without. */
char *
ss_catalog_damage_of(const char *table)
{
	SsCatalog catalog = {0};

	return find_extension(&catalog) ? ss_schema_damage_of(catalog.schema, table) : NULL;
}

/* As ss_catalog_find, for callers that cannot do without. */
void
ss_catalog_get(SsCatalog *catalog)
{
	if (!ss_catalog_find(catalog))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is not installed in this database"),
						errhint("Run CREATE EXTENSION session_store.")));
}

/* The marks that ss_sql_enter leaves on the security context. */
#define ACTING_CONTEXT (SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS)

/* Does a role have all rights of the tables' owner?  Superusers do. */
bool
ss_catalog_has_owner_privs(Oid role)
{
	return has_privs_of_role(role, current.owner);
}

/*
 * Does the code that runs now run with the rights of the tables' owner because a call of ours
 * lent it these?  (Or with those of another role that has them: foreign keys are checked as the
 * owner of the table that they are about.)
 */
bool
ss_sql_acts_as_owner(void)
{
	SsCatalog catalog;
	Oid user;
	int sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	if ((sec_context & ACTING_CONTEXT) != ACTING_CONTEXT)
		return false;
	/* a parallel worker inherits the marks, but has not looked for the tables */
	if (!OidIsValid(current.owner) && IsParallelWorker() && IsTransactionState())
		(void) ss_catalog_find(&catalog);
	return user == current.owner || ss_catalog_has_owner_privs(user);
}

/* Is it one of our tables? */
bool
ss_catalog_is_ours(Oid relid)
{
	return is_of(&current, relid);
}

/* Put SS_SEARCH_PATH in force; returns what to reset, or 0 when it is in force already. */
int
ss_sql_set_path(void)
{
	int guc_nest;

	if (strcmp(namespace_search_path, SS_SEARCH_PATH) == 0)
		return 0;
	guc_nest = NewGUCNestLevel();
	(void) set_config_option("search_path", SS_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return guc_nest;
}

void
ss_sql_reset_path(int guc_nest)
{
	if (guc_nest > 0)
		AtEOXact_GUC(true, guc_nest);
}

/* Become the owner of the tables, and connect to SPI. */
void
ss_sql_enter(SsCaller *caller)
{
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	caller->outer = CurrentMemoryContext;
	caller->unfenced = ss_skip_fence;
	ss_skip_fence = false;
	GetUserIdAndSecContext(&caller->user, &caller->sec_context);
	SetUserIdAndSecContext(catalog.owner,
						   caller->sec_context | SECURITY_LOCAL_USERID_CHANGE | ACTING_CONTEXT);
	caller->guc_nest = ss_sql_path_on_demand ? 0 : ss_sql_set_path();
	SPI_connect();
}

/* Be the caller again. */
void
ss_sql_leave(SsCaller *caller)
{
	SPI_finish();
	ss_sql_reset_path(caller->guc_nest);
	SetUserIdAndSecContext(caller->user, caller->sec_context);
	MemoryContextSwitchTo(caller->outer);
	ss_skip_fence = caller->unfenced;
}

/*
 * A value of a column of ours that is NOT NULL.  The shape of the tables was checked (schema.c), so a
 * null is an error here only for what that cannot know; who dereferenced it would crash.
 */
Datum
ss_sql_value(HeapTuple tuple, TupleDesc desc, int column, const char *table)
{
	bool null;
	Datum value = SPI_getbinval(tuple, desc, column, &null);

	if (null)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: column %s of %s has a null in it",
							   SPI_fname(desc, column), table)));
	return value;
}

/* Copy a value out of SPI's memory into the caller's. */
Datum
ss_sql_copy_out(const SsCaller *caller, Datum value, bool byval, int len)
{
	MemoryContext old = MemoryContextSwitchTo(caller->outer);
	Datum copy = datumCopy(value, byval, len);

	MemoryContextSwitchTo(old);
	return copy;
}

/* Expand {sessions} and {=}; see catalog.h. */
static char *
expand(const char *sql)
{
	static const struct
	{
		const char *word;
		const char *name;
	} names[] = {{"sessions", "conversation_sessions"},
				 {"namespaces", "session_namespaces"},
				 {"history", "conversation_history"},
				 {"ended", "conversation_history_ended"},
				 {"members", "session_members"},
				 {"events", "session_events"},
				 {"samples", "session_samples"},
				 {"orphans", "session_orphans"},
				 {"effective", "session_effective_expiry"},
				 {"contains", "session_contains"},
				 {"claims", "session_cache_claims"}};
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = sql; *p; p++)
	{
		const char *end;
		int len;
		bool known = false;

		if (*p != '{' || (end = strchr(p, '}')) == NULL || p[1] == '}')
		{
			appendStringInfoChar(&out, *p);
			continue;
		}
		len = (int) (end - p - 1);
		for (int i = 0; i < (int) lengthof(names) && !known; i++)
			if (strlen(names[i].word) == len && strncmp(names[i].word, p + 1, len) == 0)
			{
				appendStringInfo(&out, "%s.%s", current.schema_name, names[i].name);
				known = true;
			}
		if (!known)
			appendStringInfo(&out, "OPERATOR(pg_catalog.%.*s)", len, p + 1);
		p = end;
	}
	return out.data;
}

/* Prepare a plan for the present catalog, dropping one made for an earlier. */
static void
prepare(SsPlan *plan)
{
	SPIPlanPtr fresh;

	/* the old plan may be running further up: it is left rather than freed */
	plan->plan = NULL;
	fresh = SPI_prepare_cursor(expand(plan->sql), plan->nargs, plan->argtypes,
							   CURSOR_OPT_GENERIC_PLAN);
	if (fresh == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", plan->sql, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(fresh) != 0)
		elog(ERROR, "could not keep the plan of \"%s\"", plan->sql);
	plan->plan = fresh;
	plan->catalog_identity = identity;
	plan->settled = 0;
}

/*
 * The path is always the same, but the first temporary object of a session makes another of it,
 * and plans are made again: count it as an invalidation.
 */
static void
note_temp_schema(void)
{
	static Oid last = InvalidOid;
	Oid schema;
	Oid toast;

	GetTempNamespaceState(&schema, &toast);
	if (schema == last)
		return;
	last = schema;
	invalidations++;
}

/* The text of the plan that ss_plan_run runs; a kept plan is never freed, so its text is its alone. */
static const char *own_text = NULL;

/* Is it a statement of ss_plan_run, and not of code that such a statement calls? */
bool
ss_plan_is_ours(const QueryDesc *query)
{
	return own_text != NULL && query->sourceText == own_text;
}

/*
 * A table was invalidated while a statement ran, at its own locks perhaps, so that it was planned
 * without the settings below: have it planned once more the next time, with them.
 */
static void
make_again(CachedPlanSource *source)
{
	source->is_valid = false;
	if (source->gplan != NULL)
		source->gplan->is_valid = false;
}

/* What was found last, perhaps out of date; for those who may be wrong. */
const SsCatalog *
ss_catalog_cached(void)
{
	return &current;
}

/* Was none of our tables altered since their columns were looked at? */
bool
ss_catalog_is_current(void)
{
	return current_valid;
}

/*
 * Run a prepared statement; SPI_tuptable and the count of rows tell the result.
 *
 * A generic plan that was made while the table was tiny would be a sequential
 * scan, and would stay one while the table grows.  Every statement of ours has
 * an index that serves it, so the planner is told so whenever it may plan anew:
 * on the first run after anything invalidated the table.  The settings are not
 * touched on any other run, for that would cost as much as the statement.
 */
uint64
ss_plan_run(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode, long limit)
{
	int path_nest = ss_sql_set_path();
	const char *outer_text = own_text;
	CachedPlanSource *source;
	ErrorContextCallback context;
	SsCatalog catalog;
	uint64 seen;
	int nest = -1;
	int rc;

	note_temp_schema();
	seen = invalidations;
	ss_foreign_code_watch(&context);

	if (plan->plan == NULL || plan->catalog_identity != identity)
		prepare(plan);
	if (plan->settled != invalidations)
	{
		nest = NewGUCNestLevel();
		(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
		(void) set_config_option("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}

	source = linitial(SPI_plan_get_plan_sources(plan->plan));
	own_text = source->query_string;
	if (mode == SS_PLAN_LATEST || mode == SS_PLAN_READ_LATEST)
		rc = SPI_execute_snapshot(plan->plan, values, nulls, GetLatestSnapshot(), InvalidSnapshot,
								  mode == SS_PLAN_READ_LATEST, true, limit);
	else
		rc = SPI_execute_plan(plan->plan, values, nulls, mode == SS_PLAN_READ, limit);
	own_text = outer_text;

	if (nest >= 0)
	{
		AtEOXact_GUC(true, nest);
		plan->settled = seen;
	}
	else if (seen != invalidations)
		make_again(source);
	error_context_stack = context.previous;
	ss_sql_reset_path(path_nest);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", plan->sql, SPI_result_code_string(rc));
	/* that it waited for a lock, and found a table altered, must be known before the result is read */
	if (!current_valid)
		ss_catalog_get(&catalog);
	return SPI_processed;
}
