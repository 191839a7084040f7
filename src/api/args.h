/*
 * args.h
 *		Fetches and checks the arguments of the SQL functions.
 */
#ifndef SS_ARGS_H
#define SS_ARGS_H

#include "fmgr.h"

#include "row/session.h"
#include "sessions/lifetime.h"

/* Maximum number of rows of a page. */
#define SS_PAGE_SIZE_MAX 10000

extern void ss_arg_target(FunctionCallInfo fcinfo, int id_arg, int ns_arg, SsTarget *target);
extern bool ss_arg_read_target(FunctionCallInfo fcinfo, int id_arg, int ns_arg, SsTarget *target);
extern void ss_arg_namespace(FunctionCallInfo fcinfo, int ns_arg, SsTarget *target);
extern void ss_arg_require(FunctionCallInfo fcinfo, int arg, const char *name);
extern Datum ss_arg_name(FunctionCallInfo fcinfo, int arg, const char *name);
extern void ss_arg_lifetime(FunctionCallInfo fcinfo, int ttl_arg, int expires_arg,
							SsLifetime *lifetime);
extern Datum ss_arg_prefix(FunctionCallInfo fcinfo, int arg, const char *name);
extern Datum *ss_arg_names(FunctionCallInfo fcinfo, int arg, const char *name, int most,
						   bool **nulls, int *n);
extern int64 ss_arg_ttl(FunctionCallInfo fcinfo, int arg);
extern int64 ss_arg_period(FunctionCallInfo fcinfo, int arg);
extern int64 ss_arg_turn_ttl(FunctionCallInfo fcinfo, int arg);
extern int64 ss_arg_wait(FunctionCallInfo fcinfo, int arg);
extern int64 ss_arg_if_version(FunctionCallInfo fcinfo, int arg);
extern void ss_target_set_id(SsTarget *target, Datum id);
extern int64 ss_arg_at_least(FunctionCallInfo fcinfo, int arg, bool wide, const char *name,
							 int64 least);
extern int64 ss_arg_turn(FunctionCallInfo fcinfo, int arg);
extern int32 ss_arg_page_size(FunctionCallInfo fcinfo, int arg);

#endif
