/*
 * health_access.c
 *		Part of session_health(): privileges and owners that do not fit.
 *
 * All functions act as the owner of conversation_sessions.  They cannot read a table of
 * session_store that belongs to a role whose privileges that owner does not have, and the policies
 * of such a table would apply to them.  Calls that need it fail; session_health() reports it and
 * reads the other tables.
 *
 * allowed_roles holds names, so that a dump can be restored before its roles exist.  A name that
 * is not the name of a role admits nobody.
 *
 * CREATE EXTENSION revokes USAGE on the row types from PUBLIC.  pg_dump does not dump privileges
 * on the row type of a table, so PUBLIC has USAGE again after pg_upgrade, which restores the
 * tables one by one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "health/health_access.h"
#include "table/catalog.h"
#include "table/sql.h"

/*
 * The row types of the extension's tables and views that have the default privileges of a new
 * type.
 */
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

static SsPlan roles_plan = {"SELECT n.name::pg_catalog.text, r.name FROM {namespaces} n,"
							" pg_catalog.unnest(n.allowed_roles) r (name) ORDER BY n.name, r.name",
							0,
							{InvalidOid}};

/*
 * Return the owner of a table if the functions cannot read it because of that owner, else
 * InvalidOid.
 */
static Oid
foreign_owner(Oid table, Oid owner)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid role;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	role = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(owner, role) ? InvalidOid : role;
}

/* Can the functions read this table without waiting for a lock? */
bool
ss_health_may_read(const SsHealthLocks *locks, Oid table)
{
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	return !ss_health_is_locked(locks, table) && !OidIsValid(foreign_owner(table, catalog.owner));
}

static void
check_owners(SsReport *report, const SsCatalog *catalog, SsAccessFaults *found)
{
	const Oid tables[] = {catalog->namespaces, catalog->history, catalog->members,
						  catalog->operations, catalog->ended,   catalog->events,
						  catalog->samples,    catalog->orphans, catalog->claims,
						  catalog->counters};

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		Oid role = foreign_owner(tables[i], catalog->owner);

		if (!OidIsValid(role))
			continue;
		found->foreign_tables++;
		if (report != NULL)
			ss_report_warn(
				report,
				"table %s belongs to role \"%s\", whose privileges the owner of "
				"conversation_sessions does not have, so calls and workers cannot use it: run "
				"ALTER TABLE %s OWNER TO %s",
				get_rel_name(tables[i]), GetUserNameFromId(role, true),
				quote_qualified_identifier(get_namespace_name(catalog->schema),
										   get_rel_name(tables[i])),
				quote_identifier(GetUserNameFromId(catalog->owner, false)));
	}
}

static void
check_allowed_roles(SsReport *report, SsAccessFaults *found)
{
	SsCaller caller;
	uint64 n;

	ss_sql_enter(&caller);
	n = ss_plan_run(&roles_plan, NULL, NULL, SS_PLAN_READ, 0);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller.outer);
		char *ns = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		char *role = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);

		if (role != NULL && !OidIsValid(get_role_oid(role, true)))
		{
			found->unknown_roles++;
			if (report != NULL)
				ss_report_warn(
					report,
					"allowed_roles of namespace %s names \"%s\", which is no role: it admits "
					"no caller; correct or remove the name",
					ns, role);
		}
		MemoryContextSwitchTo(old);
	}
	ss_sql_leave(&caller);
}

static void
check_row_types(SsReport *report, const SsCatalog *catalog)
{
	Datum kinds[2] = {CharGetDatum('r'), CharGetDatum('v')};
	Datum values[2];
	SsCaller caller;
	char *types;

	ss_sql_enter(&caller);
	values[0] = ObjectIdGetDatum(catalog->extension);
	values[1] = PointerGetDatum(construct_array(kinds, 2, CHAROID, 1, true, TYPALIGN_CHAR));
	(void) ss_plan_run(&open_types_plan, values, NULL, SS_PLAN_READ, 1);
	types = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (types != NULL)
		ss_report_warn(
			report,
			"a table of anybody's with a column of one of our row types could make upgrades "
			"fail, for PUBLIC has USAGE on them (as after pg_upgrade): run REVOKE USAGE ON "
			"TYPE %s FROM PUBLIC",
			types);
	ss_sql_leave(&caller);
}

/* Count the faults, and add a warning for each unless report is NULL. */
void
ss_health_access(SsReport *report, const SsHealthLocks *locks, SsAccessFaults *found)
{
	SsCatalog catalog;

	memset(found, 0, sizeof(*found));
	ss_catalog_get(&catalog);
	check_owners(report, &catalog, found);
	if (ss_health_may_read(locks, catalog.namespaces))
		check_allowed_roles(report, found);
	if (report != NULL)
		check_row_types(report, &catalog);
}
