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
#include "table/schema.h"

#define NAMESPACES "session_namespaces"

#define AS_COLUMN(number, name, type, rule) {name, type, rule},
#define AS_NUMBERED_COLUMN(number, name, type, rule) [number] = {name, type, rule},

const SsColumn ss_session_columns[] = {SS_CONVERSATION_SESSIONS(AS_NUMBERED_COLUMN)};
static const SsColumn namespace_columns[] = {SS_SESSION_NAMESPACES(AS_COLUMN)};
static const SsColumn history_columns[] = {SS_CONVERSATION_HISTORY(AS_COLUMN)};
static const SsColumn ended_columns[] = {SS_CONVERSATION_HISTORY_ENDED(AS_COLUMN)};
static const SsColumn member_columns[] = {SS_SESSION_MEMBERS(AS_COLUMN)};
static const SsColumn operation_columns[] = {SS_SESSION_OPERATIONS(AS_COLUMN)};
static const SsColumn event_columns[] = {SS_SESSION_EVENTS(AS_COLUMN)};
static const SsColumn counter_columns[] = {SS_SESSION_COUNTERS(AS_COLUMN)};
static const SsColumn sample_columns[] = {SS_SESSION_SAMPLES(AS_COLUMN)};
static const SsColumn orphan_columns[] = {SS_SESSION_ORPHANS(AS_COLUMN)};
static const SsColumn claim_columns[] = {SS_SESSION_CACHE_CLAIMS(AS_COLUMN)};

/* One of our tables. */
typedef struct Table
{
	const char *name;
	const SsColumn *columns; /* in the order of attribute numbers, from 1 */
	int ncolumns;
	const char *fails; /* what does not work if it is damaged, for session_health */
} Table;

/*
 * Without the first six nothing works.  The others are accessed only through statements, which name
 * their columns, so damage makes these fail but cannot crash a backend.
 */
static const Table tables[] = {
	{"conversation_sessions", &ss_session_columns[1], SS_ROW_ATTRS, "nothing works"},
	{NAMESPACES, namespace_columns, lengthof(namespace_columns), "nothing works"},
	{"conversation_history", history_columns, lengthof(history_columns), "nothing works"},
	{"conversation_history_ended", ended_columns, lengthof(ended_columns), "nothing works"},
	{"session_members", member_columns, lengthof(member_columns), "nothing works"},
	{"session_operations", operation_columns, lengthof(operation_columns), "nothing works"},
	{"session_events", event_columns, lengthof(event_columns),
	 "no events are written, and calls fail that would write one"},
	{"session_counters", counter_columns, lengthof(counter_columns),
	 "session_hit() and session_hit_reset() fail"},
	{"session_samples", sample_columns, lengthof(sample_columns),
	 "session_stats is not kept up to date"},
	{"session_orphans", orphan_columns, lengthof(orphan_columns),
	 "conversations without a session are not removed"},
	{"session_cache_claims", claim_columns, lengthof(claim_columns), "no Redis can be claimed"},
};

#define NEEDED_TABLES 6

static const Table *
find_table(const char *name)
{
	for (int i = 0; i < (int) lengthof(tables); i++)
		if (strcmp(tables[i].name, name) == 0)
			return &tables[i];
	elog(ERROR, "no such table: %s", name);
}

/* Does a table have a column as expected? */
static bool
is_sound(TupleDesc desc, int number, const SsColumn *expected)
{
	Form_pg_attribute column;

	if (expected->rule == SS_UNCHECKED)
		return true;
	if (desc->natts < number)
		return false;
	column = TupleDescAttr(desc, number - 1);
	return !column->attisdropped && strcmp(NameStr(column->attname), expected->name) == 0 &&
		   column->atttypid == expected->type &&
		   (expected->rule != SS_NOT_NULL || SsHasNoNulls(desc, number - 1));
}

/* Does a child table allow nulls in a column in which its parent does not? */
static bool
allows_nulls(TupleDesc desc, const SsColumn *expected)
{
	for (int i = 0; i < desc->natts && expected->rule == SS_NOT_NULL; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), expected->name) == 0)
			return !SsHasNoNulls(desc, i);
	return false; /* not found: it is being altered, and will be checked again */
}

/* What is wrong with a table or one of its children. */
typedef struct Fault
{
	const char *relation;   /* name, palloced or constant */
	const SsColumn *column; /* NULL if the relation is of the wrong kind */
} Fault;

/*
 * May a table be of this kind?  Foreign tables do not enforce NOT NULL.  session_namespaces must
 * not be partitioned, because policies are read with a scan of the table itself.
 */
static bool
is_right_kind(char kind, const Table *table)
{
	return kind == RELKIND_RELATION ||
		   (kind == RELKIND_PARTITIONED_TABLE && strcmp(table->name, NAMESPACES) != 0);
}

/* Check one of our tables, or one that inherits from it; on failure *fault is set. */
static bool
relation_is_sound(Relation rel, const Table *table, bool inherits, Fault *fault)
{
	fault->relation = pstrdup(RelationGetRelationName(rel));
	fault->column = NULL;
	if (!is_right_kind(rel->rd_rel->relkind, table))
		return false;
	for (int i = 0; i < table->ncolumns; i++)
	{
		const SsColumn *expected = &table->columns[i];

		fault->column = expected;
		if (inherits ? allows_nulls(RelationGetDescr(rel), expected)
					 : !is_sound(RelationGetDescr(rel), i + 1, expected))
			return false;
	}
	return true;
}

/*
 * Check a table and its children; on failure *fault is set.  Unless children is NULL, the OIDs of
 * the children are added to it, in TopMemoryContext.
 */
static bool
table_is_sound(Oid relid, const Table *table, List **children, Fault *fault)
{
	Relation rel = RelationIdGetRelation(relid);
	List *all = NIL;
	ListCell *cell;
	bool sound;

	fault->relation = table->name;
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
					fault->column->rule == SS_NOT_NULL ? " and its NOT NULL" : "");
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
	if (!table_is_sound(relid, find_table(table), children, &fault))
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
describe_damage(Oid schema, const Table *table)
{
	Oid relid = get_relname_relid(table->name, schema);
	Fault fault;
	char *version;

	if (OidIsValid(relid) && table_is_sound(relid, table, NULL, &fault))
		return NULL;
	version = ss_schema_other_version();
	if (version != NULL)
		return psprintf("%s: the extension has version %s here and its library version %s: run "
						"ALTER EXTENSION session_store UPDATE",
						table->fails, version, SESSION_STORE_VERSION);
	if (!OidIsValid(relid))
		return psprintf("%s: table %s is missing", table->fails, table->name);
	return psprintf("%s: %s: %s", table->fails, describe_fault(&fault), fault_remedy(&fault));
}

/* Describe the first damage to the tables without which nothing works; NULL if there is none. */
char *
ss_schema_damage(Oid schema)
{
	char *damage = NULL;

	for (int i = 0; i < NEEDED_TABLES && damage == NULL; i++)
		damage = describe_damage(schema, &tables[i]);
	return damage;
}

/* The same for one of the other tables. */
char *
ss_schema_damage_of(Oid schema, const char *table)
{
	return describe_damage(schema, find_table(table));
}
