/*
 * function.h
 *		Declares C functions as callable by SQL, and checks how they are declared there.
 *
 * The library may be newer than the SQL objects of a database, until ALTER EXTENSION session_store
 * UPDATE is run there, and a role that may create C functions can declare any of ours with any
 * signature.  Therefore each symbol carries the version of the extension that introduced its
 * signature (session_get_1_0), and a function runs only if its declaration in pg_proc is the
 * expected one.  A release that changes a signature adds a symbol and keeps the old one, which
 * behaves as before or raises an error that asks for the update of the extension.
 */
#ifndef SS_FUNCTION_H
#define SS_FUNCTION_H

#include "catalog/pg_type.h"
#include "fmgr.h"

#define SS_FUNCTION_TYPES 10
#define SS_FUNCTION_COLUMNS 10

/* The declaration in pg_proc that a function expects. */
typedef struct SsFunction
{
	const char *symbol;
	int16 nargs; /* number of argument types below; -1: not counted yet */
	bool set;    /* returns a set */
	Oid types
		[SS_FUNCTION_TYPES]; /* of the result (RECORDOID: see columns), then of the arguments */
	Oid columns[SS_FUNCTION_COLUMNS];
	Oid verified;         /* OID of the entry last verified, reset when pg_proc changes */
	bool out_arguments;   /* that entry has OUT arguments, so it alone decides on the columns .. */
	bool columns_checked; /* .. and these were compared with it */
	struct SsFunction *next_verified;
} SsFunction;

extern void ss_function_verify(FunctionCallInfo fcinfo, SsFunction *function);
extern void ss_function_begin_rows(FunctionCallInfo fcinfo, SsFunction *function);

/* Raise an error unless the function is declared and called as expected. */
static inline void
ss_function_check(FunctionCallInfo fcinfo, SsFunction *function)
{
	if (PG_NARGS() != function->nargs ||
		(fcinfo->flinfo != NULL && fcinfo->flinfo->fn_oid != function->verified))
		ss_function_verify(fcinfo, function);
}

/*
 * The module is compiled with hidden visibility; what the server looks up must be exported.
 * SS_EXPORT belongs in a declaration, the other two around macros of the server, which export by
 * themselves only since PostgreSQL 16.
 */
#define SS_EXPORT __attribute__((visibility("default")))
#define SS_EXPORT_BEGIN _Pragma("GCC visibility push(default)")
#define SS_EXPORT_END _Pragma("GCC visibility pop")

/*
 * SS_FUNCTION(name, version, result type, argument types ..) makes the static function "name"
 * callable by SQL as the symbol name_version.
 */
#define SS_FUNCTION(name, version, ...)                             \
	static Datum name(PG_FUNCTION_ARGS);                            \
	SS_EXPORT_BEGIN                                                 \
	PG_FUNCTION_INFO_V1(name##_##version);                          \
	SS_EXPORT_END                                                   \
	Datum name##_##version(PG_FUNCTION_ARGS)                        \
	{                                                               \
		static SsFunction function = {.symbol = #name "_" #version, \
									  .nargs = -1,                  \
									  .types = {__VA_ARGS__}};      \
                                                                    \
		ss_function_check(fcinfo, &function);                       \
		return name(fcinfo);                                        \
	}                                                               \
	extern int no_such_variable

/*
 * The same for a function that returns rows with the columns SS_COLUMNS(types ..): one row, or a
 * set, for which a tuplestore has been set up when the function begins.
 */
#define SS_COLUMNS(...) \
	{                   \
		__VA_ARGS__     \
	}
#define SS_ROWS_FUNCTION(name, version, is_set, of_columns, ...) \
	static Datum name(PG_FUNCTION_ARGS);                         \
	SS_EXPORT_BEGIN                                              \
	PG_FUNCTION_INFO_V1(name##_##version);                       \
	SS_EXPORT_END                                                \
	Datum name##_##version(PG_FUNCTION_ARGS)                     \
	{                                                            \
		static SsFunction function = {                           \
			.symbol = #name "_" #version,                        \
			.nargs = -1,                                         \
			.set = is_set,                                       \
			.types = {RECORDOID, __VA_ARGS__},                   \
			.columns = of_columns,                               \
		};                                                       \
                                                                 \
		ss_function_check(fcinfo, &function);                    \
		ss_function_begin_rows(fcinfo, &function);               \
		return name(fcinfo);                                     \
	}                                                            \
	extern int no_such_variable

#endif
