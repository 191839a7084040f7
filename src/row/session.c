/*
 * session.c
 *		Values of a session's row: the empty document, versions, intervals, the summary.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "row/session.h"

/* Returns '{}'::jsonb, the document of a new session and of a tombstone. */
Datum
ss_empty_document(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
}

/* Returns the version that follows.  Raises an error rather than wrap: versions never decrease. */
int64
ss_next_version(int64 version)
{
	if (version == PG_INT64_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("version numbers of this session are exhausted"),
						errhint("Delete the row and create the session again.")));
	return version + 1;
}

/* Sets the summary of a row, or removes it if the Datum is 0. */
void
ss_row_set_summary(SsRow *row, Datum summary, int64 up_to)
{
	row->summary = summary;
	row->summary_up_to = summary == (Datum) 0 ? 0 : up_to;
}

/* Returns an interval without days or months, so that adding it is independent of the calendar. */
Interval *
ss_make_interval(int64 usec)
{
	Interval *result = palloc0(sizeof(Interval));

	result->time = usec;
	return result;
}

/*
 * Converts a stored ttl to microseconds.  The trigger on conversation_sessions admits only values
 * that can be converted; rows written while it was disabled get the default.
 */
int64
ss_interval_usec(Datum interval)
{
	Interval *span = DatumGetIntervalP(interval);
	int64 usec;

	if (ss_duration(span->month, span->day, span->time, SS_TTL_MIN_US, SS_TTL_MAX_US, &usec) !=
		SS_DURATION_OK)
		return SS_DEFAULT_TTL_US;
	return usec;
}
