/*
 * shape.c
 *		Are our tables as they were made?
 *
 * They are their owner's to change, who may add columns, constraints, indexes and
 * triggers.  But C code reads our columns by position: what it takes for a bigint must be
 * one, and what it takes for not null must be not null, or a backend would crash.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rows/shape.h"

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

static const Column columns[] = {
	{SESSIONS, 1, "created_at", TIMESTAMPTZOID, true},
	{SESSIONS, 2, "check_at", TIMESTAMPTZOID, true},
	{SESSIONS, 3, "ttl", INTERVALOID, true},
	{SESSIONS, 4, "namespace", TEXTOID, true},
	{SESSIONS, 5, "session_id", TEXTOID, true},
	{SESSIONS, 6, "owner_id", TEXTOID, false},
	{SESSIONS, 7, "last_seq", INT8OID, true},
	{SESSIONS, 8, "message_count", INT8OID, true},
	{SESSIONS, 9, "version", INT8OID, true},
	{SESSIONS, 10, "updated_at", TIMESTAMPTZOID, true},
	{SESSIONS, 11, "expires_at", TIMESTAMPTZOID, true},
	{SESSIONS, 12, "session_data", JSONBOID, true},
	{SESSIONS, 13, "history_id", UUIDOID, false},
	{SESSIONS, 14, "dead_until", TIMESTAMPTZOID, false},
	{NAMESPACES, 1, "name", TEXTOID, true},
	{NAMESPACES, 2, "key_prefix", TEXTOID, true},
	{NAMESPACES, 3, "ttl", INTERVALOID, true},
	{NAMESPACES, 4, "sliding", BOOLOID, true},
	{NAMESPACES, 5, "max_lifetime", INTERVALOID, false},
	{NAMESPACES, 6, "cache", TEXTOID, true},
	{NAMESPACES, 7, "cache_ttl", INTERVALOID, true},
	{NAMESPACES, 8, "hot_uses", INT4OID, true},
	{NAMESPACES, 9, "hash_keys", BOOLOID, true},
	{NAMESPACES, 10, "max_bytes", INT8OID, true},
	{NAMESPACES, 11, "max_sessions_per_owner", INT4OID, false},
	{NAMESPACES, 12, "on_quota", TEXTOID, true},
	{NAMESPACES, 13, "tombstone", INTERVALOID, true},
	{NAMESPACES, 14, "allowed_roles", NAMEARRAYOID, false},
	{NAMESPACES, 15, "owner_isolation", BOOLOID, true},
	{NAMESPACES, 16, "audit", BOOLOID, true},
	{NAMESPACES, 17, "events_keep", INTERVALOID, true},
	{NAMESPACES, 18, "durability", TEXTOID, true},
	{NAMESPACES, 19, "tail_prefix", TEXTOID, false},
	{NAMESPACES, 20, "tail_size", INT4OID, true},
	{NAMESPACES, 21, "audit_saves", BOOLOID, true},
	{HISTORY, 1, "history_id", UUIDOID, true},
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
};

static bool
is_sound(Oid relid, const Column *expected)
{
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
									  Int16GetDatum(expected->number));
	Form_pg_attribute column;
	bool sound;

	if (!HeapTupleIsValid(tuple))
		return false;
	column = (Form_pg_attribute) GETSTRUCT(tuple);
	sound = !column->attisdropped && strcmp(NameStr(column->attname), expected->name) == 0 &&
			column->atttypid == expected->type && (column->attnotnull || !expected->not_null);
	ReleaseSysCache(tuple);
	return sound;
}

/* The first column of a table that is not as it was made, or NULL. */
static const Column *
unsound(Oid relid, const char *table)
{
	for (int i = 0; i < (int) lengthof(columns); i++)
		if (strcmp(columns[i].table, table) == 0 && !is_sound(relid, &columns[i]))
			return &columns[i];
	return NULL;
}

/* The oid of a table of ours, whose columns are as they should be; else an error. */
Oid
ss_shape_check(Oid schema, const char *table)
{
	Oid relid = get_relname_relid(table, schema);
	const Column *column;

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: its table %s is missing", table)));
	column = unsound(relid, table);
	if (column != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("session_store is damaged: column %s of %s is not as it was made",
						column->name, table),
				 errhint("Give it back its name, its type %s%s.", format_type_be(column->type),
						 column->not_null ? " and its NOT NULL" : "")));
	return relid;
}

/* The same as a sentence for those who ask; NULL when all is well. */
char *
ss_shape_damage(Oid schema)
{
	static const char *const tables[] = {SESSIONS, NAMESPACES, HISTORY, ENDED, MEMBERS};

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		Oid relid = get_relname_relid(tables[i], schema);
		const Column *column;

		if (!OidIsValid(relid))
			return psprintf("table %s is missing: nothing works", tables[i]);
		column = unsound(relid, tables[i]);
		if (column != NULL)
			return psprintf("column %s of %s is not as it was made, so nothing works: give it back "
							"its name, its type %s%s",
							column->name, tables[i], format_type_be(column->type),
							column->not_null ? " and its NOT NULL" : "");
	}
	return NULL;
}
