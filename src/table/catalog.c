/*
 * catalog.c
 *		Cached OIDs of the extension, its schema and its tables.
 *
 * The extension can be installed in any schema, so its tables are found through pg_extension,
 * never through search_path.  The result is cached until an invalidation reports that one of the
 * tables, or a schema, changed.  Finding the tables includes the check that they still have the
 * columns that code in C relies on (schema.c).
 *
 * This is also the only place that registers callbacks for changes of tables and roles, in
 * ss_catalog_find.  They do no more than set flags and counters.  Another cache that such a change
 * makes stale has an SsMemo, which compares the counters.
 *
 * Nothing here locks a table.  A caller that needs a table to stay as it was found locks it first
 * and then asks ss_catalog_is_current(): with the lock held, what is current remains so.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "table/catalog.h"
#include "table/schema.h"

/* State of this backend. */
static struct
{
	bool registered;   /* the callbacks of invalidations are */
	SsCatalog current; /* the last complete result */
	bool is_current;
	/* of the search in ss_catalog_find; an error leaves searching set, which is harmless */
	SsCatalog sought;
	bool searching;
	List *children;       /* OIDs of tables that inherit from ours, in TopMemoryContext */
	uint64 identity;      /* see ss_catalog_identity */
	uint64 invalidations; /* see ss_catalog_invalidations */
	/* counters of the changes of each SsSource; see ss_catalog_changes */
	uint64 table_changes;
	uint64 role_changes;
	uint64 watched_changes;
	bool saw_children; /* this transaction, which may drop some, has asked for them */
	/* relations that are not ours, until their next invalidation */
	int nwatched;
	Oid watched[32];
} state = {
	.identity = 1,
	.invalidations = 1,
	.table_changes = 1,
	.role_changes = 1,
	.watched_changes = 1,
};

/* Is a relation one of the tables in a result? */
static bool
is_of(const SsCatalog *catalog, Oid relid)
{
	return relid == catalog->sessions || relid == catalog->history || relid == catalog->events ||
		   relid == catalog->ended || relid == catalog->members || relid == catalog->operations ||
		   relid == catalog->namespaces || relid == catalog->counters ||
		   relid == catalog->samples || relid == catalog->orphans || relid == catalog->claims;
}

/*
 * Count the next invalidation of a relation that is not ours as a change of SS_WATCHED_TABLES, once.
 * Returns false, and does nothing, if too many relations are watched already.
 */
bool
ss_catalog_watch(Oid relid)
{
	for (int i = 0; i < state.nwatched; i++)
		if (state.watched[i] == relid)
			return true;
	if (state.nwatched == (int) lengthof(state.watched))
		return false;
	state.watched[state.nwatched++] = relid;
	return true;
}

/*
 * Do tables inherit from a table?  pg_class may say so long after the last of them was dropped.  That
 * they are dropped is a change of SS_WATCHED_TABLES, and a new one is a change of the table itself.
 */
bool
ss_catalog_has_children(Relation rel)
{
	List *children;
	ListCell *cell;
	bool found;

	if (!rel->rd_rel->relhassubclass)
		return false;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		state.saw_children = true;
	children = find_inheritance_children(RelationGetRelid(rel), NoLock);
	found = children != NIL;
	/* if too many are watched, the answer stays valid until the table itself is changed */
	foreach (cell, children)
		(void) ss_catalog_watch(lfirst_oid(cell));
	list_free(children);
	return found;
}

/*
 * When a transaction is rolled back or prepared, or a subtransaction rolled back (xact.c): a child
 * that it dropped is there again, and was not watched any more.  Cannot fail.
 */
void
ss_catalog_at_rollback(void)
{
	if (!state.saw_children)
		return;
	state.is_current = false;
	state.invalidations++;
	state.watched_changes++;
}

/* When a transaction ends (xact.c), after the above.  Cannot fail. */
void
ss_catalog_at_end(void)
{
	state.saw_children = false;
}

/* A relation was invalidated: stop watching it. */
static void
end_watch(Oid relid)
{
	for (int i = 0; i < state.nwatched; i++)
		if (state.watched[i] == relid)
		{
			state.watched[i] = state.watched[--state.nwatched];
			state.watched_changes++;
			return;
		}
}

static void
relcache_callback(Datum arg, Oid relid)
{
	bool ours = relid == InvalidOid || is_of(&state.current, relid) || is_of(&state.sought, relid);

	end_watch(relid);
	/* the search may have checked this table already without having stored its OID */
	if (state.searching)
		state.invalidations++;
	if (!ours && !list_member_oid(state.children, relid))
		return;
	state.is_current = false;
	state.invalidations++;
	if (ours)
		state.table_changes++;
}

/* A schema was renamed or dropped, perhaps ours. */
static void
schemas_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	state.is_current = false;
	state.invalidations++;
}

static void
roles_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	state.role_changes++;
}

/* The owner of a relation, or InvalidOid if it no longer exists. */
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
 * Fill *catalog, from the cache if it is valid.  Returns false if the extension is not installed
 * in this database.  Raises an error if its tables are damaged, that is, missing or without a
 * column that code in C relies on.
 *
 * Processes pending invalidations, but takes no lock: see the top of the file.
 */
bool
ss_catalog_find(SsCatalog *catalog)
{
	SsCatalog *sought = &state.sought;
	SsCatalog found;
	char *name;
	uint64 seen;

	if (!state.registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, schemas_callback, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, roles_callback, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_callback, (Datum) 0);
		state.registered = true;
	}
	AcceptInvalidationMessages();
	if (state.is_current)
	{
		*catalog = state.current;
		return true;
	}

	seen = state.invalidations;
	state.searching = true;
	memset(sought, 0, sizeof(*sought));
	list_free(state.children);
	state.children = NIL;
	if (!ss_schema_find_extension(&sought->extension, &sought->schema, NULL))
	{
		state.searching = false;
		return false;
	}
	sought->sessions = ss_schema_check(sought->schema, "conversation_sessions", &state.children);
	sought->namespaces = ss_schema_check(sought->schema, "session_namespaces", &state.children);
	sought->history = ss_schema_check(sought->schema, "conversation_history", &state.children);
	sought->members = ss_schema_check(sought->schema, "session_members", &state.children);
	sought->operations = ss_schema_check(sought->schema, "session_operations", &state.children);
	sought->ended = ss_schema_check(sought->schema, "conversation_history_ended", &state.children);
	sought->events = get_relname_relid("session_events", sought->schema);
	sought->counters = get_relname_relid("session_counters", sought->schema);
	sought->samples = get_relname_relid("session_samples", sought->schema);
	sought->orphans = get_relname_relid("session_orphans", sought->schema);
	sought->claims = get_relname_relid("session_cache_claims", sought->schema);
	sought->namespaces_pkey = get_relname_relid("session_namespaces_pkey", sought->schema);
	sought->owner = relation_owner(sought->sessions);
	name = get_namespace_name(sought->schema);
	if (!OidIsValid(sought->namespaces_pkey) || !OidIsValid(sought->owner) || name == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: the primary key of session_namespaces is "
							   "missing")));
	found = *sought;
	found.schema_name = MemoryContextStrdup(TopMemoryContext, quote_identifier(name));

	/*
	 * Keep the identity, and with it the prepared plans, unless a table is another one.  The old
	 * name is not freed, because an outer call may still use it; that leaks a few bytes for each
	 * rename.
	 */
	if (state.current.schema_name != NULL &&
		strcmp(state.current.schema_name, found.schema_name) == 0)
	{
		pfree(found.schema_name);
		found.schema_name = state.current.schema_name;
	}
	if (found.sessions != state.current.sessions || found.namespaces != state.current.namespaces ||
		found.history != state.current.history || found.members != state.current.members ||
		found.operations != state.current.operations || found.owner != state.current.owner ||
		found.schema_name != state.current.schema_name)
		state.identity++;
	state.current = found;
	state.searching = false;
	/*
	 * an invalidation during the search may concern what was already found: search again next time
	 */
	state.is_current = seen == state.invalidations;
	*catalog = state.current;
	return true;
}

/*
 * Prevent DROP EXTENSION until the end of the transaction.  For workers: returns false instead of
 * waiting if another session is about to drop it.
 *
 * DROP EXTENSION locks the extension before its members, so a holder of this lock can lock our
 * tables in any order without a risk of deadlock with it.
 */
bool
ss_catalog_try_lock(const SsCatalog *catalog)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, catalog->extension, 0);
	return LockAcquire(&tag, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Describe the first damage found in the tables without which nothing works; NULL if there is
 * none.  For session_health, so it raises no error over a damaged table.
 */
char *
ss_catalog_damage(void)
{
	SsCatalog catalog = {0};

	return ss_schema_find_extension(&catalog.extension, &catalog.schema, NULL)
			   ? ss_schema_damage(catalog.schema)
			   : NULL;
}

/* The same for one of the other tables (see ss_schema_damage_of). */
char *
ss_catalog_damage_of(const char *table)
{
	SsCatalog catalog = {0};

	return ss_schema_find_extension(&catalog.extension, &catalog.schema, NULL)
			   ? ss_schema_damage_of(catalog.schema, table)
			   : NULL;
}

/* As ss_catalog_find, but raises an error if the extension is not installed. */
void
ss_catalog_get(SsCatalog *catalog)
{
	if (!ss_catalog_find(catalog))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is not installed in this database"),
						errhint("Run CREATE EXTENSION session_store.")));
}

/*
 * Does a role have the privileges of the owner of our tables, as superusers do?  The owner is the
 * one that was found last, so the caller must have called ss_catalog_get or be in a call that did.
 */
bool
ss_catalog_has_owner_privs(Oid role)
{
	return has_privs_of_role(role, state.current.owner);
}

/*
 * The last result, which may be out of date, and is all zeros before the first.  For callers that
 * cannot, or need not, search the catalogs.
 */
const SsCatalog *
ss_catalog_cached(void)
{
	return &state.current;
}

/* Has none of our tables been invalidated since its columns were checked? */
bool
ss_catalog_is_current(void)
{
	return state.is_current;
}

/*
 * A number that changes when one of our tables, their owner or their schema's name is another.
 * Plans that were prepared for another identity must not be run.
 */
uint64
ss_catalog_identity(void)
{
	return state.identity;
}

/* A counter of the invalidations that may have made a plan of ours stale. */
uint64
ss_catalog_invalidations(void)
{
	return state.invalidations;
}

/*
 * A number that grows with every change of these sources (SsSource, or'ed).  Processes no
 * invalidations, so it is about the changes that the backend has learned of.
 */
uint64
ss_catalog_changes(int sources)
{
	return ((sources & SS_OUR_TABLES) != 0 ? state.table_changes : 0) +
		   ((sources & SS_ROLES) != 0 ? state.role_changes : 0) +
		   ((sources & SS_WATCHED_TABLES) != 0 ? state.watched_changes : 0);
}

/* Have the sources of a cache not changed since it was computed? */
bool
ss_memo_is_current(const SsMemo *memo)
{
	return memo->seen == ss_catalog_changes(memo->sources);
}

/*
 * Called before the sources are read.  The memo is stale until ss_memo_end is called with the result,
 * that is, also if an error comes in between, and after that if the sources changed meanwhile.
 */
uint64
ss_memo_begin(SsMemo *memo)
{
	memo->seen = 0;
	return ss_catalog_changes(memo->sources);
}

/* Called when the cache was computed. */
void
ss_memo_end(SsMemo *memo, uint64 begun)
{
	memo->seen = begun;
}

/* Make a cache stale for another reason than a change of its sources. */
void
ss_memo_make_stale(SsMemo *memo)
{
	memo->seen = 0;
}
