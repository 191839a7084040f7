/*
 * errors.h
 *		Raises the errors about sessions.
 */
#ifndef SS_ERRORS_H
#define SS_ERRORS_H

#include "compat.h"
#include "row/session.h"
#include "table/sql.h"

#define ERRCODE_SS_DEAD_ID MAKE_SQLSTATE('S', 'S', 'T', '1', '0')
#define ERRCODE_SS_OPERATION_REUSED MAKE_SQLSTATE('S', 'S', 'T', '1', '1')
#define ERRCODE_SS_NO_TURN MAKE_SQLSTATE('S', 'S', 'T', '1', '2')

/* if_version, decoded; any positive value is the version itself */
#define SS_ANY_VERSION INT64CONST(-2)
#define SS_MUST_EXIST INT64CONST(-1)
#define SS_MUST_NOT_EXIST INT64CONST(0)

pg_noreturn extern void ss_error_dead(const SsTarget *target) ss_noreturn;
pg_noreturn extern void ss_error_dead_row(Datum ns) ss_noreturn;
pg_noreturn extern void ss_error_conflict(int64 wanted, int64 found) ss_noreturn;
pg_noreturn extern void ss_error_not_owner(const SsTarget *target) ss_noreturn;
pg_noreturn extern void ss_error_tail_conflict(int64 expected, int64 found, int64 seq) ss_noreturn;
pg_noreturn extern void ss_error_other_owner(const SsTarget *target) ss_noreturn;
pg_noreturn extern void ss_error_operation_reused(void) ss_noreturn;
pg_noreturn extern void ss_error_turn(const SsRow *row, int64 turn) ss_noreturn;
pg_noreturn extern void ss_error_turn_required(const SsTarget *target) ss_noreturn;
pg_noreturn extern void ss_error_rows_skipped(const char *table) ss_noreturn;
pg_noreturn extern void ss_error_quota(const SsTarget *target, bool busy) ss_noreturn;
extern bool ss_error_names_no_values(const ErrorData *error);
extern uint64 ss_plan_run_redacted(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode);
extern uint64 ss_plan_run_on_counter(SsPlan *plan, Datum *values, SsPlanMode mode);

#endif
