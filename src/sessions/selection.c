/*
 * selection.c
 *		Selects the sessions of a call that works on many.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/key.h"
#include "row/access.h"
#include "row/claims.h"
#include "sessions/selection.h"

/* Returns what a selection covers for the caller (see SsScope), and may set which->owner. */
SsScope
ss_scope_of(const SsTarget *target, SsSelection *which)
{
	SsScope scope = {true, NULL};

	if (!ss_access_isolates(&target->policy, target->role))
		return scope;
	scope.subject = ss_claims_subject();
	if (scope.subject == NULL)
	{
		/* a caller without a subject owns no sessions, and none are shared with it */
		scope.own = false;
		return scope;
	}
	if (which->owner == (Datum) 0)
		which->owner = CStringGetTextDatum(scope.subject);
	else
		scope.own = DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, which->owner,
														 CStringGetTextDatum(scope.subject)));
	return scope;
}

/* Returns the parameter of SS_SQL_ALIVE for the namespace of the target. */
Datum
ss_alive_param(const SsTarget *target)
{
	return TimestampTzGetDatum(
		ss_liveness_created_after(GetCurrentTimestamp(), target->policy.max_lifetime_us));
}

/* Returns the character that comes last in bytewise order, in the encoding of the database. */
static const char *
last_character(void)
{
	/* single-byte encodings, SQL_ASCII and MULE_INTERNAL; EUC_TW; the other EUC; UTF8 */
	static const char *const candidates[] = {"\xff", "\xff\xfe", "\xfe\xfe", "\xf4\x8f\xbf\xbf"};
	int i = 0;

	while (
		i < (int) lengthof(candidates) - 1 &&
		!pg_verify_mbstr(GetDatabaseEncoding(), candidates[i], (int) strlen(candidates[i]), true))
		i++;
	return candidates[i];
}

/*
 * Returns the end of the range of ids that begin with a prefix: in bytewise order these are the ids
 * from the prefix to the result, both included, and no others.  The result is valid in the encoding
 * of the database, so it can be shown as a parameter of a statement.
 */
Datum
ss_id_range_end(Datum prefix)
{
	text *start = DatumGetTextPP(prefix);
	const char *last = last_character();
	StringInfoData end;

	initStringInfo(&end);
	appendBinaryStringInfo(&end, VARDATA_ANY(start), VARSIZE_ANY_EXHDR(start));
	/* as long as any id: no id with the prefix is greater */
	while (end.len < SS_NAME_MAX)
		appendStringInfoString(&end, last);
	return PointerGetDatum(cstring_to_text_with_len(end.data, end.len));
}
