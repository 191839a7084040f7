/*
 * function.h
 *		How a C function is made callable by SQL: its symbol, and a check of its declaration.
 *
 * The file of the library may be newer than the SQL objects of a database, until ALTER EXTENSION
 * session_store UPDATE has run there, and anybody who may create C functions may declare one of
 * ours in any form.  So each symbol carries the version of the extension that introduced its
 * signature (session_get_1_0), and the function runs only if it is declared in pg_proc as it
 * expects.  A release that changes a signature adds a symbol and keeps the old one, which answers
 * as before or says that the extension must be updated.
 */
#ifndef SS_FUNCTION_H
#define SS_FUNCTION_H

#include "catalog/pg_type.h"
#include "fmgr.h"

#define SS_FUNCTION_TYPES 10
#define SS_FUNCTION_COLUMNS 9

/* What a function expects of its entry in pg_proc. */
typedef struct SsFunction
{
	const char *symbol;
	int16 nargs;                  /* of types below; -1 until they were counted */
	bool set;                     /* returns a set */
	Oid types[SS_FUNCTION_TYPES]; /* of the result (RECORDOID: of columns), then of the arguments */
	Oid columns[SS_FUNCTION_COLUMNS];
	Oid verified; /* the entry that was found to be right, since pg_proc last changed */
	struct SsFunction *next_verified;
} SsFunction;

extern void ss_function_verify(FunctionCallInfo fcinfo, SsFunction *function);
extern void ss_function_begin_rows(FunctionCallInfo fcinfo, SsFunction *function);

/* Raise an error unless the function is called as it expects. */
static inline void
ss_function_check(FunctionCallInfo fcinfo, SsFunction *function)
{
	if (PG_NARGS() != function->nargs ||
		(fcinfo->flinfo != NULL && fcinfo->flinfo->fn_oid != function->verified))
		ss_function_verify(fcinfo, function);
}

/*
 * The module is compiled with hidden symbols.  What the server looks up is exported: SS_EXPORT
 * stands in a declaration, the others around macros of the server, which do it from 16 on.
 */
#define SS_EXPORT __attribute__((visibility("default")))
#define SS_EXPORT_BEGIN _Pragma("GCC visibility push(default)")
#define SS_EXPORT_END _Pragma("GCC visibility pop")

/*
 * SS_FUNCTION(name, version, result type, argument types ..) makes the static function "name"
 * callable as the symbol name_version.
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
 * The same for a function that returns rows of these columns, SS_COLUMNS(types ..): a set, into
 * the tuplestore that is there when it begins, or one.
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
