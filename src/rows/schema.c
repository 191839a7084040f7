/*
 * schema.c
 *		Checks that the extension's tables still have the columns that code in C relies on.
 *
 * The owner of the tables may add columns, constraints, indexes and triggers.  But code in C
 * reaches our columns by number: what it reads as a bigint must be one, and what it reads without
 * a test for null must be NOT NULL, or a backend could crash.
 *
 * Statements also read the rows of tables that inherit from ours.  Up to PostgreSQL 17 a child may
 * allow nulls in a column where its parent does not, so children are checked as well.
 *
 * No locks are needed.  A caller that reads rows locks the tables first, and checks again if they
 * were invalidated (catalog.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "compat.h"
#include "rows/schema.h"

/* A column as the install script creates it. */
typedef struct Column
{
	const char *table;
	int16 number;
	const char *name;
	Oid type;
	bool not_null;
} Column;

#define SESSIONS "conversation_sessions"
#define NAMESPACES "session_namespaces"
#define HISTORY "conversation_history"
#define ENDED "conversation_history_ended"
#define MEMBERS "session_members"
#define EVENTS "session_events"
#define SAMPLES "session_samples"
#define ORPHANS "session_orphans"
#define CLAIMS "session_cache_claims"

static const Column columns[] = {
	{SESSIONS, SS_ROW_CREATED_AT, "created_at", TIMESTAMPTZOID, true},
	{SESSIONS, SS_ROW_CHECK_AT, "check_at", TIMESTAMPTZOID, true},
	{SESSIONS, SS_ROW_TTL, "ttl", INTERVALOID, true},
	{SESSIONS, SS_ROW_NAMESPACE, "namespace", TEXTOID, true},
	{SESSIONS, SS_ROW_SESSION_ID, "session_id", TEXTOID, true},
	{SESSIONS, SS_ROW_OWNER_ID, "owner_id", TEXTOID, false},
	{SESSIONS, SS_ROW_LAST_SEQ, "last_seq", INT8OID, true},
	{SESSIONS, SS_ROW_MESSAGE_COUNT, "message_count", INT8OID, true},
	{SESSIONS, SS_ROW_VERSION, "version", INT8OID, true},
	{SESSIONS, SS_ROW_UPDATED_AT, "updated_at", TIMESTAMPTZOID, true},
	{SESSIONS, SS_ROW_EXPIRES_AT, "expires_at", TIMESTAMPTZOID, true},
	{SESSIONS, SS_ROW_SESSION_DATA, "session_data", JSONBOID, true},
	{SESSIONS, SS_ROW_HISTORY_ID, "history_id", UUIDOID, false},
	{SESSIONS, SS_ROW_DEAD_UNTIL, "dead_until", TIMESTAMPTZOID, false},
	{NAMESPACES, NS_NAME + 1, "name", TEXTOID, true},
	{NAMESPACES, NS_KEY_PREFIX + 1, "key_prefix", TEXTOID, true},
	{NAMESPACES, NS_TTL + 1, "ttl", INTERVALOID, true},
	{NAMESPACES, NS_SLIDING + 1, "sliding", BOOLOID, true},
	{NAMESPACES, NS_MAX_LIFETIME + 1, "max_lifetime", INTERVALOID, false},
	{NAMESPACES, NS_CACHE + 1, "cache", TEXTOID, true},
	{NAMESPACES, NS_CACHE_TTL + 1, "cache_ttl", INTERVALOID, true},
	{NAMESPACES, NS_HOT_USES + 1, "hot_uses", INT4OID, true},
	{NAMESPACES, NS_HASH_KEYS + 1, "hash_keys", BOOLOID, true},
	{NAMESPACES, NS_MAX_BYTES + 1, "max_bytes", INT8OID, true},
	{NAMESPACES, NS_MAX_SESSIONS_PER_OWNER + 1, "max_sessions_per_owner", INT4OID, false},
	{NAMESPACES, NS_ON_QUOTA + 1, "on_quota", TEXTOID, true},
	{NAMESPACES, NS_TOMBSTONE + 1, "tombstone", INTERVALOID, true},
	{NAMESPACES, NS_ALLOWED_ROLES + 1, "allowed_roles", NAMEARRAYOID, false},
	{NAMESPACES, NS_OWNER_ISOLATION + 1, "owner_isolation", BOOLOID, true},
	{NAMESPACES, NS_AUDIT + 1, "audit", BOOLOID, true},
	{NAMESPACES, NS_EVENTS_KEEP + 1, "events_keep", INTERVALOID, true},
	{NAMESPACES, NS_DURABILITY + 1, "durability", TEXTOID, true},
	{NAMESPACES, NS_TAIL_PREFIX + 1, "tail_prefix", TEXTOID, false},
	{NAMESPACES, NS_TAIL_SIZE + 1, "tail_size", INT4OID, true},
	{NAMESPACES, NS_AUDIT_SAVES + 1, "audit_saves", BOOLOID, true},
	{HISTORY, SS_HISTORY_ROW_ID, "history_id", UUIDOID, true},
	{HISTORY, 2, "seq", INT8OID, true},
	{HISTORY, 3, "created_at", TIMESTAMPTZOID, true},
	{HISTORY, 4, "operation_last", INT8OID, false},
	{HISTORY, 5, "message", JSONBOID, true},
	{HISTORY, 6, "operation_id", TEXTOID, false},
	{HISTORY, 7, "operation_hash", BYTEAOID, false},
	{ENDED, 1, "namespace", TEXTOID, true},
	{ENDED, 2, "history_id", UUIDOID, true},
	{ENDED, 3, "from_seq", INT8OID, true},
	{ENDED, 5, "entry_id", UUIDOID, true},
	{MEMBERS, 1, "history_id", UUIDOID, true},
	{MEMBERS, 2, "member", TEXTOID, true},
	{MEMBERS, 3, "role", TEXTOID, true},
	{MEMBERS, 4, "created_at", TIMESTAMPTZOID, true},
	{MEMBERS, 5, "accepted", BOOLOID, true},
	{EVENTS, 1, "created_at", TIMESTAMPTZOID, true},
	{EVENTS, 3, "namespace", TEXTOID, true},
	{EVENTS, 4, "session_id", TEXTOID, true},
	{EVENTS, 5, "owner_id", TEXTOID, false},
	{EVENTS, 6, "event", TEXTOID, true},
	{EVENTS, 7, "actor", NAMEOID, true},
	{EVENTS, 8, "detail", JSONBOID, false},
	{SAMPLES, 1, "namespace", TEXTOID, true},
	{SAMPLES, 2, "sampled_at", TIMESTAMPTZOID, true},
	{SAMPLES, 3, "estimated", BOOLOID, true},
	{SAMPLES, 4, "sessions", INT8OID, true},
	{SAMPLES, 5, "expired", INT8OID, true},
	{SAMPLES, 6, "tombstones", INT8OID, true},
	{SAMPLES, 7, "owned", INT8OID, true},
	{SAMPLES, 8, "messages", INT8OID, true},
	{SAMPLES, 9, "total_bytes", INT8OID, true},
	{SAMPLES, 10, "max_bytes", INT8OID, true},
	{SAMPLES, 11, "over_1mb", INT8OID, true},
	{ORPHANS, 1, "history_id", UUIDOID, true},
	{ORPHANS, 2, "seen_at", TIMESTAMPTZOID, true},
	{CLAIMS, 1, "system_identifier", INT8OID, true},
	{CLAIMS, 2, "database_oid", OIDOID, true},
	{CLAIMS, 3, "data_directory", TEXTOID, true},
	{CLAIMS, 4, "timeline", INT8OID, true},
	{CLAIMS, 5, "redis", TEXTOID, true},
	{CLAIMS, 6, "moved", BOOLOID, true},
	{CLAIMS, 7, "tokens", INT8ARRAYOID, true},
	{CLAIMS, 8, "epochs", INT8ARRAYOID, true},
	{CLAIMS, 9, "claimed_at", TIMESTAMPTZOID, true},
};

/* Does a table have a column as expected? */
static bool
is_sound(TupleDesc desc, const Column *expected)
{
	Form_pg_attribute column;

	if (desc->natts < expected->number)
		return false;
	column = TupleDescAttr(desc, expected->number - 1);
	return !column->attisdropped && strcmp(NameStr(column->attname), expected->name) == 0 &&
		   column->atttypid == expected->type &&
		   (!expected->not_null || SsHasNoNulls(desc, expected->number - 1));
}

/* Does a child table allow nulls in a column in which its parent does not? */
static bool
allows_nulls(TupleDesc desc, const Column *expected)
{
	for (int i = 0; i < desc->natts && expected->not_null; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), expected->name) == 0)
			return !SsHasNoNulls(desc, i);
	return false; /* not found: it is being altered, and will be checked again */
}

/* What is wrong with a table or one of its children. */
typedef struct Fault
{
	const char *relation; /* name, palloced or constant */
	const Column *column; /* NULL if the relation is of the wrong kind */
} Fault;

/*
 * May a table be of this kind?  Foreign tables do not enforce NOT NULL.  session_namespaces must
 * not be partitioned, because policies are read with a scan of the table itself.
 */
static bool
is_right_kind(char kind, const char *table)
{
	return kind == RELKIND_RELATION ||
		   (kind == RELKIND_PARTITIONED_TABLE && strcmp(table, NAMESPACES) != 0);
}

/* Check one of our tables, or one that inherits from it; on failure *fault is set. */
static bool
relation_is_sound(Relation rel, const char *table, bool inherits, Fault *fault)
{
	fault->relation = pstrdup(RelationGetRelationName(rel));
	fault->column = NULL;
	if (!is_right_kind(rel->rd_rel->relkind, table))
		return false;
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		if (strcmp(columns[i].table, table) != 0)
			continue;
		fault->column = &columns[i];
		if (inherits ? allows_nulls(RelationGetDescr(rel), &columns[i])
					 : !is_sound(RelationGetDescr(rel), &columns[i]))
			return false;
	}
	return true;
}

/*
 * Check a table and its children; on failure *fault is set.  Unless children is NULL, the OIDs of
 * the children are added to it, in TopMemoryContext.
 */
static bool
table_is_sound(Oid relid, const char *table, List **children, Fault *fault)
{
	Relation rel = RelationIdGetRelation(relid);
	List *all = NIL;
	ListCell *cell;
	bool sound;

	fault->relation = table;
	fault->column = NULL;
	if (!RelationIsValid(rel))
		return false;
	sound = relation_is_sound(rel, table, false, fault);
	if (rel->rd_rel->relhassubclass)
		all = find_all_inheritors(relid, NoLock, NULL);
	RelationClose(rel);
	foreach (cell, all)
	{
		Oid child = lfirst_oid(cell);

		if (child == relid)
			continue;
		if (children != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			/* before the check, so that an invalidation during it is noticed */
			*children = lappend_oid(*children, child);
			MemoryContextSwitchTo(old);
		}
		/* a child that was dropped meanwhile has no rows */
		if (!sound || !RelationIsValid(rel = RelationIdGetRelation(child)))
			continue;
		sound = relation_is_sound(rel, table, true, fault);
		RelationClose(rel);
	}
	list_free(all);
	return sound;
}

/* Describe a fault, without a capital letter and a full stop. */
static char *
describe_fault(const Fault *fault)
{
	if (fault->column == NULL)
		return psprintf("%s is not an ordinary table", fault->relation);
	return psprintf("column %s of %s is not as it was made", fault->column->name, fault->relation);
}

/* Say what to do about a fault, likewise. */
static char *
fault_remedy(const Fault *fault)
{
	if (fault->column == NULL)
		return pstrdup("detach it, or put an ordinary table in its place");
	return psprintf("give it back its name, its type %s%s", format_type_be(fault->column->type),
					fault->column->not_null ? " and its NOT NULL" : "");
}

/*
 * Look up the extension in this database; false if it is not installed.  The version is a copy, or
 * NULL; it is not read if the pointer is NULL.
 */
bool
ss_schema_find_extension(Oid *extension, Oid *schema, char **version)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	bool found;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("session_store"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		*extension = form->oid;
		*schema = form->extnamespace;
		if (version != NULL)
		{
			bool null;
			Datum value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel),
									   &null);

			*version = null ? NULL : TextDatumGetCString(value);
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The version of the extension in this database if it differs from that of the library, otherwise
 * NULL.
 */
char *
ss_schema_other_version(void)
{
	Oid extension;
	Oid schema;
	char *version;

	if (!ss_schema_find_extension(&extension, &schema, &version) || version == NULL ||
		strcmp(version, SESSION_STORE_VERSION) == 0)
		return NULL;
	return version;
}

/* Raise an error if the versions differ, because tables of another version look damaged. */
static void
check_version(void)
{
	char *version = ss_schema_other_version();

	if (version != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("session_store has version %s in this database, but its library has version %s",
					version, SESSION_STORE_VERSION),
			 errhint("Run ALTER EXTENSION session_store UPDATE. If the server still "
					 "runs an older library, restart it.")));
}

/*
 * Check one of our tables and return its OID; raises an error if it is damaged.  The OIDs of its
 * children are added to *children, in TopMemoryContext; the list stays valid after an error.
 */
Oid
ss_schema_check(Oid schema, const char *table, List **children)
{
	Oid relid = get_relname_relid(table, schema);
	Fault fault;

	if (!OidIsValid(relid))
	{
		check_version();
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: its table %s is missing", table)));
	}
	if (!table_is_sound(relid, table, children, &fault))
	{
		char *remedy = fault_remedy(&fault);

		check_version();
		remedy[0] = pg_toupper((unsigned char) remedy[0]);
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: %s", describe_fault(&fault)),
						errhint("%s.", remedy)));
	}
	return relid;
}

/*
 * Describe the damage to a table, after what does not work because of it; NULL if there is none.
 */
static char *
describe_damage(Oid schema, const char *table, const char *fails)
{
	Oid relid = get_relname_relid(table, schema);
	Fault fault;
	char *version;

	if (OidIsValid(relid) && table_is_sound(relid, table, NULL, &fault))
		return NULL;
	version = ss_schema_other_version();
	if (version != NULL)
		return psprintf("%s: the extension has version %s here and its library version %s: run "
						"ALTER EXTENSION session_store UPDATE",
						fails, version, SESSION_STORE_VERSION);
	if (!OidIsValid(relid))
		return psprintf("%s: table %s is missing", fails, table);
	return psprintf("%s: %s: %s", fails, describe_fault(&fault), fault_remedy(&fault));
}

/* Describe the first damage to the tables without which nothing works; NULL if there is none. */
char *
ss_schema_damage(Oid schema)
{
	static const char *const tables[] = {SESSIONS, NAMESPACES, HISTORY, ENDED, MEMBERS};
	char *damage = NULL;

	for (int i = 0; i < (int) lengthof(tables) && damage == NULL; i++)
		damage = describe_damage(schema, tables[i], "nothing works");
	return damage;
}

/*
 * The same for one of the other tables.  They are accessed only through statements, which name
 * their columns, so damage makes these fail but cannot crash a backend.
 */
char *
ss_schema_damage_of(Oid schema, const char *table)
{
	static const struct
	{
		const char *table;
		const char *fails;
	} others[] = {{EVENTS, "no events are written, and calls fail that would write one"},
				  {SAMPLES, "session_stats is not kept up to date"},
				  {ORPHANS, "conversations without a session are not removed"},
				  {CLAIMS, "no Redis can be claimed"}};

	for (int i = 0; i < (int) lengthof(others); i++)
		if (strcmp(others[i].table, table) == 0)
			return describe_damage(schema, table, others[i].fails);
	elog(ERROR, "no such table: %s", table);
}
