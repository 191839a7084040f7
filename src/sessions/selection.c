/*
 * selection.c
 *		Selects the sessions of a call that works on many.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

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
