/*
 * schema.h
 *		The columns of the extension's tables, and the check that the tables still have them.
 *
 * The columns themselves are listed in columns.h.  Whether a user has altered a table since it was
 * created is checked at run time (schema.c).
 */
#ifndef SS_SCHEMA_H
#define SS_SCHEMA_H

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/datum.h"

#include "table/columns.h"

/*
 * Attribute numbers.  The first enumerator of each table, 0, is no column, and ends lists of columns.
 * Tables without an enumeration are accessed only through statements, which name their columns.
 */
enum
{
	SS_ROW_NONE,
	SS_CONVERSATION_SESSIONS(SS_COLUMN_NUMBER)
};

typedef enum SsNamespaceColumn
{
	SS_NS_NONE,
	SS_SESSION_NAMESPACES(SS_COLUMN_NUMBER)
} SsNamespaceColumn;

enum
{
	SS_MESSAGE_NONE,
	SS_CONVERSATION_HISTORY(SS_COLUMN_NUMBER)
};

enum
{
	SS_COUNTER_NONE,
	SS_SESSION_COUNTERS(SS_COLUMN_NUMBER)
};

enum
{
	SS_CLAIM_NONE,
	SS_SESSION_CACHE_CLAIMS(SS_COLUMN_NUMBER)
};

#define SS_ROW_ATTRS (0 SS_CONVERSATION_SESSIONS(SS_COLUMN_COUNT))
#define SS_NS_ATTRS (0 SS_SESSION_NAMESPACES(SS_COLUMN_COUNT))

/* A column as the install script creates it. */
typedef struct SsColumn
{
	const char *name;
	Oid type;
	SsColumnRule rule;
} SsColumn;

/* The columns of conversation_sessions by attribute number; element 0 is unused. */
extern const SsColumn ss_session_columns[SS_ROW_ATTRS + 1];

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

/*
 * Deform the extension's columns of a heap tuple; columns that a user has added are not kept.  All
 * columns are deformed in one pass: to find one behind a null, the tuple is walked from its beginning.
 */
static inline void
ss_row_deform(SsDeformedRow *row, HeapTuple tuple, TupleDesc desc)
{
	row->desc = desc;
	row->replaced = 0;
	if (desc->natts == SS_ROW_ATTRS)
		heap_deform_tuple(tuple, desc, &row->values[1], &row->nulls[1]);
	else
	{
		Datum *values = palloc(sizeof(Datum) * desc->natts);
		bool *nulls = palloc(sizeof(bool) * desc->natts);

		heap_deform_tuple(tuple, desc, values, nulls);
		memcpy(&row->values[1], values, sizeof(Datum) * SS_ROW_ATTRS);
		memcpy(&row->nulls[1], nulls, sizeof(bool) * SS_ROW_ATTRS);
		pfree(values);
		pfree(nulls);
	}
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

/* Set a column to null, and record that it was replaced. */
static inline void
ss_row_replace_null(SsDeformedRow *row, int column)
{
	ss_row_replace(row, column, (Datum) 0);
	row->nulls[column] = true;
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
	/* a copy of the row that was not given another value here */
	if (a->values[column] == b->values[column])
		return false;
	return !datumIsEqual(a->values[column], b->values[column],
						 TupleDescAttr(a->desc, column - 1)->attbyval,
						 TupleDescAttr(a->desc, column - 1)->attlen);
}

/*
 * Deform the extension's columns of a policy, into arrays of SS_NS_ATTRS + 1 elements that are indexed
 * by attribute number (element 0 is unused); columns that a user has added are not read.
 */
static inline void
ss_ns_deform(HeapTuple tuple, TupleDesc desc, Datum *values, bool *nulls)
{
	for (int i = 1; i <= SS_NS_ATTRS; i++)
		values[i] = heap_getattr(tuple, i, desc, &nulls[i]);
}

extern Oid ss_schema_check(Oid schema, const char *table, List **children);
extern char *ss_schema_damage(Oid schema);
extern char *ss_schema_damage_of(Oid schema, const char *table);
extern bool ss_schema_find_extension(Oid *extension, Oid *schema, char **version);
extern char *ss_schema_other_version(void);

#endif
