/*
 * tail.c
 *		The tail of a history: the summary, if there is one, and the newest messages after it.
 *
 * This is the only place that says what a tail is.  The pusher writes it to Redis (pusher/cached.c), and
 * session_tail() returns it to a reader that found none there; both get the same elements in the same
 * order, so a hit and a miss say the same.
 *
 * Reads take no lock.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/jsonb.h"

#include "sessions/summary.h"
#include "sessions/tail.h"
#include "table/sql.h"

#define NEWEST(condition) \
	"SELECT message FROM {history} WHERE history_id {=} $1" condition " ORDER BY seq DESC LIMIT $2"

static SsPlan tail_plan = {NEWEST(""), 2, {UUIDOID, INT8OID}};
static SsPlan tail_after_summary_plan = {NEWEST(" AND seq {>} $3"), 3, {UUIDOID, INT8OID, INT8OID}};

/*
 * Reads the tail of a session in the caller's snapshot: at most `size` messages.  Called between
 * ss_sql_enter and ss_sql_leave.
 */
void
ss_tail_read(const SsRow *row, int64 size, SsTail *tail)
{
	Datum values[3] = {row->history, Int64GetDatum(size), Int64GetDatum(row->summary_up_to)};
	bool has_summary = row->summary != (Datum) 0;

	*tail = (SsTail){.summary = row->summary};
	if (row->history_null)
		return;
	tail->nmessages = ss_plan_run(has_summary ? &tail_after_summary_plan : &tail_plan, values, NULL,
								  SS_PLAN_READ, 0);
	tail->messages = SPI_tuptable;
}

/* Frees the messages. */
void
ss_tail_free(SsTail *tail)
{
	if (tail->messages != NULL)
		SPI_freetuptable(tail->messages);
	tail->messages = NULL;
	tail->nmessages = 0;
}

/* Passes the elements to the visitor, oldest first; false when it returned false. */
bool
ss_tail_visit(const SsTail *tail, SsTailVisitor visit, void *arg)
{
	if (tail->summary != (Datum) 0 && !visit(arg, tail->summary, true))
		return false;
	for (uint64 i = tail->nmessages; i-- > 0;)
	{
		CHECK_FOR_INTERRUPTS();
		if (!visit(arg,
				   ss_sql_value(tail->messages->vals[i], tail->messages->tupdesc, 1,
								"conversation_history"),
				   false))
			return false;
	}
	return true;
}

static bool
add_bytes(void *arg, Datum element, bool is_summary)
{
	int64 *bytes = arg;

	*bytes += (int64) toast_raw_datum_size(element);
	return true;
}

static bool
push_element(void *arg, Datum element, bool is_summary)
{
	JsonbParseState **state = arg;
	JsonbValue value;

	if (is_summary)
	{
		(void) ss_summary_push(state, element);
		return true;
	}
	JsonbToJsonbValue(DatumGetJsonbP(element), &value);
	(void) pushJsonbValue(state, WJB_ELEM, &value);
	return true;
}

/*
 * Returns the tail of a session as a JSON array, in the current memory context.  Raises an error, before
 * it reads any element, if they do not fit into one.
 */
Datum
ss_tail_array(const SsRow *row, int64 size)
{
	JsonbParseState *state = NULL;
	SsTail tail;
	int64 bytes = 0;

	ss_tail_read(row, size, &tail);
	(void) ss_tail_visit(&tail, add_bytes, &bytes);
	if (bytes > JENTRY_OFFLENMASK)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the tail of the history is too large for one JSON array"),
						errdetail("It has " INT64_FORMAT " bytes; the limit is %d.", bytes,
								  JENTRY_OFFLENMASK),
						errhint("Read it with session_history(), or decrease tail_size.")));
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	(void) ss_tail_visit(&tail, push_element, &state);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}
