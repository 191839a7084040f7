/*
 * report.h
 *		Builds the JSON text of session_health(), and the array of its warnings.
 */
#ifndef SS_REPORT_H
#define SS_REPORT_H

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

typedef struct SsReport
{
	StringInfoData json;
	StringInfoData warnings;
	int nwarnings;
	bool first; /* nothing was added yet to the innermost object */
} SsReport;

extern void ss_report_key(SsReport *report, const char *key);
extern void ss_report_text(SsReport *report, const char *key, const char *value);
extern void ss_report_number(SsReport *report, const char *key, int64 value);
extern void ss_report_bool(SsReport *report, const char *key, bool value);
extern void ss_report_time(SsReport *report, const char *key, TimestampTz value);
extern void ss_report_open(SsReport *report, const char *key);
extern void ss_report_close(SsReport *report);
extern void ss_report_warn(SsReport *report, const char *format, ...) pg_attribute_printf(2, 3);

#endif
