/*
 * health_access.c
 *		What session_health() says of privileges that somebody should not have.
 *
 * CREATE EXTENSION takes USAGE on our row types from PUBLIC.  No dump carries that for the row
 * type of a table, and so it is back after pg_upgrade, which restores tables one by one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "api/health.h"
#include "rows/home.h"

/* The row types of our tables and views that still have the privileges of a new type. */
static SsPlan open_types_plan = {
	"SELECT pg_catalog.string_agg(t.oid::pg_catalog.regtype::pg_catalog.text, ', ' ORDER BY c.oid)"
	" FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid {=} d.objid"
	" JOIN pg_catalog.pg_type t ON t.oid {=} c.reltype"
	" WHERE d.classid {=} 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid"
	" AND d.refclassid {=} 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid"
	" AND d.refobjid {=} $1 AND d.deptype {=} 'e'::\"char\" AND c.relkind {=} ANY ($2)"
	" AND t.typacl IS NULL",
	2,
	{OIDOID, CHARARRAYOID}};

void
ss_health_access(SsReport *report)
{
	Datum kinds[2] = {CharGetDatum('r'), CharGetDatum('v')};
	Datum values[2];
	SsHome home;
	SsActing acting;
	char *types;

	ss_home_get(&home);
	ss_home_enter(&acting);
	values[0] = ObjectIdGetDatum(home.extension);
	values[1] = PointerGetDatum(construct_array(kinds, 2, CHAROID, 1, true, TYPALIGN_CHAR));
	(void) ss_plan_run(&open_types_plan, values, NULL, SS_PLAN_READ, 1);
	types = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (types != NULL)
		ss_warn(report,
				"a table of anybody's with a column of one of our row types could make upgrades "
				"fail, for PUBLIC has USAGE on them (as after pg_upgrade): run REVOKE USAGE ON "
				"TYPE %s FROM PUBLIC",
				types);
	ss_home_leave(&acting);
}
