/*
 * selection.c
 *		Which sessions a call about many of them means.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "rows/access.h"
#include "rows/claims.h"
#include "rows/expiry.h"
#include "rows/selection.h"

/* A selection as it is for the caller; see SsScope. */
SsScope
ss_scope_of(const SsTarget *target, SsSelection *which)
{
	SsScope scope = {true, NULL};

	if (!ss_access_isolates(&target->policy, target->role))
		return scope;
	scope.subject = ss_claims_subject();
	if (scope.subject == NULL)
	{
		/* nobody owns nothing, and nothing was shared with nobody */
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

/* Sessions created before this are over, by max_lifetime. */
Datum
ss_max_lifetime_cutoff(const SsTarget *target)
{
	if (target->policy.max_lifetime == SS_NO_LIMIT)
		return TimestampTzGetDatum(DT_NOBEGIN);
	return TimestampTzGetDatum(GetCurrentTimestamp() - target->policy.max_lifetime);
}
