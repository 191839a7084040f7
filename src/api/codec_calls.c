/*
 * codec_calls.c
 *		SQL functions that convert any JSON text to jsonb and back.
 *
 * They are pure: they read no session, and do not check their caller.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/jsonb.h"

#include "function.h"
#include "sessions/codec.h"

SS_FUNCTION(session_json_encode, 1_0, JSONBOID, TEXTOID);
SS_FUNCTION(session_json_decode, 1_0, TEXTOID, JSONBOID);

static Datum
session_json_encode(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL(); /* declared STRICT, but ALTER FUNCTION can change that */
	PG_RETURN_JSONB_P(ss_codec_encode(PG_GETARG_TEXT_PP(0)));
}

static Datum
session_json_decode(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(ss_codec_decode(PG_GETARG_JSONB_P(0)));
}
