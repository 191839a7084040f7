/*
 * report.c
 *		Builds the JSON text of session_health(), and the array of its warnings.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "health/report.h"

void
ss_report_key(SsReport *report, const char *key)
{
	if (!report->first)
		appendStringInfoChar(&report->json, ',');
	report->first = false;
	escape_json(&report->json, key);
	appendStringInfoChar(&report->json, ':');
}

void
ss_report_text(SsReport *report, const char *key, const char *value)
{
	ss_report_key(report, key);
	if (value == NULL)
		appendStringInfoString(&report->json, "null");
	else
		escape_json(&report->json, value);
}

void
ss_report_number(SsReport *report, const char *key, int64 value)
{
	ss_report_key(report, key);
	appendStringInfo(&report->json, INT64_FORMAT, value);
}

void
ss_report_bool(SsReport *report, const char *key, bool value)
{
	ss_report_key(report, key);
	appendStringInfoString(&report->json, value ? "true" : "false");
}

void
ss_report_time(SsReport *report, const char *key, TimestampTz value)
{
	ss_report_text(report, key,
				   value == 0 || TIMESTAMP_NOT_FINITE(value) ? NULL : timestamptz_to_str(value));
}

void
ss_report_open(SsReport *report, const char *key)
{
	ss_report_key(report, key);
	appendStringInfoChar(&report->json, '{');
	report->first = true;
}

void
ss_report_close(SsReport *report)
{
	appendStringInfoChar(&report->json, '}');
	report->first = false;
}

void
ss_report_warn(SsReport *report, const char *format, ...)
{
	char message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	/* a truncated message must not end in the middle of a multibyte character */
	message[pg_mbcliplen(message, strlen(message), sizeof(message) - 1)] = '\0';
	if (report->warnings.len > 0)
		appendStringInfoChar(&report->warnings, ',');
	escape_json(&report->warnings, message);
	report->nwarnings++;
}
