/*
 * row_columns.c
 *		Converts between SsRow and the columns of conversation_sessions.
 *
 * This is the only place that says which field of SsRow is which column.  It serves direct access and
 * statements alike: both represent a row as an SsDeformedRow, which is indexed by attribute number.
 * The key of a session is in SsTarget, not in SsRow.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "row/row_columns.h"
#include "row/session.h"
#include "table/sql.h"

/*
 * Returns the columns that are read for groups of fields (SsField), ended by SS_ROW_NONE.  Those that
 * are neither null nor of variable length come first: the place of the columns behind them in a tuple
 * has to be computed.
 */
const AttrNumber *
ss_row_columns_of(int fields)
{
	static const struct
	{
		AttrNumber column;
		int field; /* 0: it is always read */
	} columns[] = {{SS_ROW_CREATED_AT, 0},
				   {SS_ROW_EXPIRES_AT, 0},
				   {SS_ROW_UPDATED_AT, SS_FIELD_UPDATED_AT},
				   {SS_ROW_VERSION, SS_FIELD_COUNTERS},
				   {SS_ROW_LAST_SEQ, SS_FIELD_COUNTERS},
				   {SS_ROW_MESSAGE_COUNT, SS_FIELD_COUNTERS},
				   {SS_ROW_TTL, 0},
				   {SS_ROW_SESSION_DATA, SS_FIELD_DOCUMENT},
				   {SS_ROW_OWNER_ID, 0},
				   {SS_ROW_HISTORY_ID, 0},
				   {SS_ROW_DEAD_UNTIL, 0},
				   {SS_ROW_TURN, SS_FIELD_TURN},
				   {SS_ROW_TURN_UNTIL, SS_FIELD_TURN},
				   {SS_ROW_TURN_HOLDER, SS_FIELD_TURN},
				   {SS_ROW_SUMMARY, SS_FIELD_SUMMARY},
				   {SS_ROW_SUMMARY_UP_TO, SS_FIELD_SUMMARY}};
	static AttrNumber lists[SS_FIELDS_ALL + 1][lengthof(columns) + 1];
	AttrNumber *list = lists[fields];
	int n = 0;

	for (int i = 0; i < (int) lengthof(columns); i++)
		if ((columns[i].field & fields) == columns[i].field)
			list[n++] = columns[i].column;
	list[n] = SS_ROW_NONE;
	return list;
}

/* Returns a bigint or timestamptz column. */
static int64
number(const SsDeformedRow *columns, AttrNumber column, int64 if_null)
{
	return columns->nulls[column] ? if_null : DatumGetInt64(columns->values[column]);
}

/* Returns a by-reference column; 0 if it is null. */
static Datum
reference(const SsDeformedRow *columns, AttrNumber column)
{
	return columns->nulls[column] ? (Datum) 0 : columns->values[column];
}

/*
 * Fills the fields of *row that are columns.  By-reference fields point into *columns' tuple.  A column
 * that is null, perhaps because it was not read, leaves a zero, SS_NEVER or SS_FIXED.
 */
void
ss_row_from_columns(SsRow *row, const SsDeformedRow *columns)
{
	row->data = reference(columns, SS_ROW_SESSION_DATA);
	row->owner = reference(columns, SS_ROW_OWNER_ID);
	row->owner_null = columns->nulls[SS_ROW_OWNER_ID];
	row->version = number(columns, SS_ROW_VERSION, 0);
	row->created_at = number(columns, SS_ROW_CREATED_AT, 0);
	row->updated_at = number(columns, SS_ROW_UPDATED_AT, 0);
	row->expires_at = number(columns, SS_ROW_EXPIRES_AT, 0);
	row->ttl_us = columns->nulls[SS_ROW_TTL] ? SS_FIXED
											 : ss_interval_usec(columns->values[SS_ROW_TTL]);
	row->last_seq = number(columns, SS_ROW_LAST_SEQ, 0);
	row->message_count = number(columns, SS_ROW_MESSAGE_COUNT, 0);
	row->check_at = number(columns, SS_ROW_CHECK_AT, 0);
	row->dead_until = number(columns, SS_ROW_DEAD_UNTIL, SS_NEVER);
	row->history = reference(columns, SS_ROW_HISTORY_ID);
	row->history_null = columns->nulls[SS_ROW_HISTORY_ID];
	row->turn = number(columns, SS_ROW_TURN, SS_TURN_NONE);
	row->turn_until = number(columns, SS_ROW_TURN_UNTIL, SS_NEVER);
	row->turn_holder = reference(columns, SS_ROW_TURN_HOLDER);
	ss_row_set_summary(row, reference(columns, SS_ROW_SUMMARY),
					   number(columns, SS_ROW_SUMMARY_UP_TO, 0));
}

/*
 * Returns the expiry of a row, pending touches included, whatever the policy says.  Its expires_at is
 * not null.
 */
TimestampTz
ss_row_expiry(const SsDeformedRow *columns)
{
	SsKey key;
	bool valid = ss_key_from_datums(&key, columns->values[SS_ROW_NAMESPACE],
									columns->values[SS_ROW_SESSION_ID]);

	return ss_liveness_expiry(valid ? &key : NULL,
							  DatumGetTimestampTz(columns->values[SS_ROW_EXPIRES_AT]),
							  columns->nulls[SS_ROW_TTL],
							  number(columns, SS_ROW_DEAD_UNTIL, SS_NEVER));
}

/* Returns the value of a column that is a field of *row; the inverse of ss_row_from_columns. */
Datum
ss_row_column(const SsRow *row, AttrNumber column, bool *null)
{
	*null = false;
	switch (column)
	{
		case SS_ROW_SESSION_DATA:
			Assert(row->data != (Datum) 0); /* it was read, or the caller has set it */
			return row->data;
		case SS_ROW_OWNER_ID:
			*null = row->owner_null;
			return row->owner;
		case SS_ROW_VERSION:
			return Int64GetDatum(row->version);
		case SS_ROW_CREATED_AT:
			return TimestampTzGetDatum(row->created_at);
		case SS_ROW_UPDATED_AT:
			return TimestampTzGetDatum(row->updated_at);
		case SS_ROW_EXPIRES_AT:
			return TimestampTzGetDatum(row->expires_at);
		case SS_ROW_TTL:
			*null = row->ttl_us == SS_FIXED;
			return *null ? (Datum) 0 : IntervalPGetDatum(ss_make_interval(row->ttl_us));
		case SS_ROW_LAST_SEQ:
			return Int64GetDatum(row->last_seq);
		case SS_ROW_MESSAGE_COUNT:
			return Int64GetDatum(row->message_count);
		case SS_ROW_CHECK_AT:
			return TimestampTzGetDatum(row->check_at);
		case SS_ROW_DEAD_UNTIL:
			*null = row->dead_until == SS_NEVER;
			return TimestampTzGetDatum(row->dead_until);
		case SS_ROW_HISTORY_ID:
			*null = row->history_null;
			return row->history;
		case SS_ROW_TURN:
			*null = row->turn == SS_TURN_NONE;
			return Int64GetDatum(row->turn);
		case SS_ROW_TURN_UNTIL:
			*null = row->turn_until == SS_NEVER;
			return TimestampTzGetDatum(row->turn_until);
		case SS_ROW_TURN_HOLDER:
			*null = row->turn_holder == (Datum) 0;
			return row->turn_holder;
		case SS_ROW_SUMMARY:
			*null = row->summary == (Datum) 0;
			return row->summary;
		case SS_ROW_SUMMARY_UP_TO:
			*null = row->summary == (Datum) 0;
			return Int64GetDatum(row->summary_up_to);
	}
	elog(ERROR, "column %d is no field of a session row", column);
}

/*
 * Fills the columns of a list, ended by SS_ROW_NONE, from a row of SPI's result that begins with
 * these columns; the others are null.  Raises an error if a column that is NOT NULL is null.
 */
void
ss_row_deform_result(SsDeformedRow *columns, HeapTuple tuple, TupleDesc desc,
					 const AttrNumber *list)
{
	columns->desc = NULL; /* its numbers are not those of the table */
	columns->replaced = 0;
	memset(columns->nulls, true, sizeof(columns->nulls));
	for (int i = 0; list[i] != SS_ROW_NONE; i++)
	{
		Datum *value = &columns->values[list[i]];
		bool *null = &columns->nulls[list[i]];

		*null = false;
		if (ss_session_columns[list[i]].rule == SS_NOT_NULL)
			*value = ss_sql_value(tuple, desc, i + 1, "conversation_sessions");
		else
			*value = SPI_getbinval(tuple, desc, i + 1, null);
	}
}
