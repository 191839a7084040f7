/*
 * events.c
 *		Lifecycle events, in namespaces that audit.
 *
 * An event is written by the transaction that makes it happen, so that the log
 * and the table tell the same story after a rollback or a crash.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "rows/events.h"

static SsPlan one_plan = {
	"INSERT INTO {events} (namespace, session_id, owner_id, event, actor, detail)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, JSONBOID}};

static SsPlan many_plan = {"INSERT INTO {events} (namespace, session_id, owner_id, event, actor)"
						   " SELECT $1, i, $3, $4, $5 FROM pg_catalog.unnest($2) i",
						   5,
						   {TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, NAMEOID}};

static SsPlan expired_plan = {
	"INSERT INTO {events} (namespace, session_id, owner_id, event, actor)"
	" SELECT n, i, o, 'expired', $4 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
	" pg_catalog.unnest($3)) AS gone (n, i, o)",
	4,
	{TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NAMEOID}};

/*
 * Old events of each namespace, oldest first along the primary key; one batch for
 * each.  Names come from the events themselves, by a skip scan, so that those of
 * a namespace that is gone age as well.
 */
static SsPlan purge_plan = {
	"WITH RECURSIVE names AS ("
	" (SELECT namespace FROM {events} ORDER BY namespace LIMIT 1)"
	" UNION ALL"
	" SELECT (SELECT e.namespace FROM {events} e WHERE e.namespace {>} n.namespace"
	"         ORDER BY e.namespace LIMIT 1)"
	" FROM names n WHERE n.namespace IS NOT NULL),"
	" old AS (SELECT o.ctid FROM names n"
	"  LEFT JOIN {namespaces} p ON p.name {=} n.namespace,"
	"  LATERAL (SELECT e.ctid FROM {events} e WHERE e.namespace {=} n.namespace"
	"   AND e.created_at {<} (pg_catalog.clock_timestamp() {-}"
	"       COALESCE(p.events_keep, '30 days'::pg_catalog.interval))"
	"   ORDER BY e.created_at LIMIT $1) o"
	"  WHERE n.namespace IS NOT NULL)"
	" DELETE FROM {events} WHERE ctid {=} ANY (ARRAY(SELECT ctid FROM old))",
	1,
	{INT8OID}};

static Datum
actor_of(Oid role)
{
	NameData *name = palloc0(sizeof(NameData));

	namestrcpy(name, GetUserNameFromId(role, false));
	return NameGetDatum(name);
}

/* One event, if the namespace audits.  detail is JSON text or NULL. */
void
ss_event(const SsTarget *target, Datum id, Datum owner, bool owner_null, const char *event,
		 const char *detail)
{
	Datum values[6];
	char nulls[6] = {' ', ' ', owner_null ? 'n' : ' ', ' ', ' ', detail ? ' ' : 'n'};

	if (!target->policy.audit)
		return;
	values[0] = target->ns;
	values[1] = id;
	values[2] = owner;
	values[3] = CStringGetTextDatum(event);
	values[4] = actor_of(target->role);
	values[5] = detail ? DirectFunctionCall1(jsonb_in, CStringGetDatum(detail)) : (Datum) 0;
	ss_plan_run(&one_plan, values, nulls, SS_PLAN_WRITE, 0);
}

/* The same event for an array of ids. */
void
ss_events_of(const SsTarget *target, Datum ids, Datum owner, bool owner_null, const char *event)
{
	Datum values[5];
	char nulls[5] = {' ', ' ', owner_null ? 'n' : ' ', ' ', ' '};

	if (!target->policy.audit)
		return;
	values[0] = target->ns;
	values[1] = ids;
	values[2] = owner;
	values[3] = CStringGetTextDatum(event);
	values[4] = actor_of(target->role);
	ss_plan_run(&many_plan, values, nulls, SS_PLAN_WRITE, 0);
}

/* What a purge removed, as parallel arrays; the caller left out those not audited. */
void
ss_events_expired(Datum namespaces, Datum ids, Datum owners, Oid role)
{
	Datum values[4] = {namespaces, ids, owners, actor_of(role)};

	ss_plan_run(&expired_plan, values, NULL, SS_PLAN_WRITE, 0);
}

/* Remove a batch of events that are older than their namespace keeps them. */
uint64
ss_events_purge(long batch)
{
	Datum values[1] = {Int64GetDatum(batch)};

	return ss_plan_run(&purge_plan, values, NULL, SS_PLAN_WRITE, 0);
}
