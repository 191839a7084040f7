/*
 * schema.h
 *		The columns of the extension's tables, and the check that the tables still have them.
 *
 * Code in C reaches columns by number, so the numbers here, the table in schema.c and the
 * install script must agree.  Whether a user has altered a table since is checked at run time
 * (schema.c).
 */
#ifndef SS_SCHEMA_H
#define SS_SCHEMA_H

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/datum.h"

/* Attribute numbers of conversation_sessions. */
enum
{
	SS_ROW_CREATED_AT = 1,
	SS_ROW_CHECK_AT,
	SS_ROW_TTL,
	SS_ROW_NAMESPACE,
	SS_ROW_SESSION_ID,
	SS_ROW_OWNER_ID,
	SS_ROW_LAST_SEQ,
	SS_ROW_MESSAGE_COUNT,
	SS_ROW_VERSION,
	SS_ROW_UPDATED_AT,
	SS_ROW_EXPIRES_AT,
	SS_ROW_SESSION_DATA,
	SS_ROW_HISTORY_ID,
	SS_ROW_DEAD_UNTIL,
	SS_ROW_ATTRS = SS_ROW_DEAD_UNTIL
};

/* Attribute number of history_id in conversation_history, the only column of it read in C. */
#define SS_HISTORY_ROW_ID 1

/*
 * A deformed row of conversation_sessions, indexed by attribute number (element 0 is unused).
 * By-reference values point into the tuple or slot that it was deformed from, which must outlive
 * it.
 */
typedef struct SsDeformedRow
{
	TupleDesc desc;
	uint32 replaced; /* bit n is set once ss_row_replace has given column n a value */
	Datum values[SS_ROW_ATTRS + 1];
	bool nulls[SS_ROW_ATTRS + 1];
} SsDeformedRow;

/* Deform the extension's columns of a heap tuple; columns that a user has added are not read. */
static inline void
ss_row_deform(SsDeformedRow *row, HeapTuple tuple, TupleDesc desc)
{
	row->desc = desc;
	row->replaced = 0;
	for (int i = 1; i <= SS_ROW_ATTRS; i++)
		row->values[i] = heap_getattr(tuple, i, desc, &row->nulls[i]);
}

/* As ss_row_deform, from a slot; valid until the slot is cleared or stores another tuple. */
static inline void
ss_row_deform_slot(SsDeformedRow *row, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	row->desc = slot->tts_tupleDescriptor;
	row->replaced = 0;
	memcpy(&row->values[1], slot->tts_values, sizeof(Datum) * SS_ROW_ATTRS);
	memcpy(&row->nulls[1], slot->tts_isnull, sizeof(bool) * SS_ROW_ATTRS);
}

/* Give a column a value that is not null, and record that it was replaced. */
static inline void
ss_row_replace(SsDeformedRow *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
	row->replaced |= (uint32) 1 << column;
}

/*
 * Do two versions of a row differ in a column?  Compares bytes without detoasting: a toasted
 * document that an UPDATE leaves alone keeps its TOAST pointer, so it compares equal.
 */
static inline bool
ss_row_differs(const SsDeformedRow *a, const SsDeformedRow *b, int column)
{
	if (a->nulls[column] || b->nulls[column])
		return a->nulls[column] != b->nulls[column];
	return !datumIsEqual(a->values[column], b->values[column],
						 TupleDescAttr(a->desc, column - 1)->attbyval,
						 TupleDescAttr(a->desc, column - 1)->attlen);
}

/* Columns of session_namespaces as array indexes, that is, attribute numbers minus one. */
typedef enum SsNamespaceColumn
{
	NS_NAME,
	NS_KEY_PREFIX,
	NS_TTL,
	NS_SLIDING,
	NS_MAX_LIFETIME,
	NS_CACHE,
	NS_CACHE_TTL,
	NS_HOT_USES,
	NS_HASH_KEYS,
	NS_MAX_BYTES,
	NS_MAX_SESSIONS_PER_OWNER,
	NS_ON_QUOTA,
	NS_TOMBSTONE,
	NS_ALLOWED_ROLES,
	NS_OWNER_ISOLATION,
	NS_AUDIT,
	NS_EVENTS_KEEP,
	NS_DURABILITY,
	NS_TAIL_PREFIX,
	NS_TAIL_SIZE,
	NS_AUDIT_SAVES,
	Natts_session_namespaces
} SsNamespaceColumn;

/* Deform the extension's columns of a policy; columns that a user has added are not read. */
static inline void
ss_ns_deform(HeapTuple tuple, TupleDesc desc, Datum *values, bool *nulls)
{
	for (int i = 0; i < Natts_session_namespaces; i++)
		values[i] = heap_getattr(tuple, i + 1, desc, &nulls[i]);
}

extern Oid ss_schema_check(Oid schema, const char *table, List **children);
extern char *ss_schema_damage(Oid schema);
extern char *ss_schema_damage_of(Oid schema, const char *table);
extern bool ss_schema_find_extension(Oid *extension, Oid *schema, char **version);
extern char *ss_schema_other_version(void);

#endif
