/*
 * acts_as_owner.c
 *		Does the code that runs have the rights of the tables' owner?
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"

#include "table/acts_as_owner.h"
#include "table/catalog.h"

/*
 * Does the current code have the privileges of the tables' owner because it runs within
 * ss_sql_enter and ss_sql_leave?  True as well for code that a foreign key check there runs as the
 * owner of another table, if that role has the privileges of the tables' owner.
 */
bool
ss_acts_as_owner(void)
{
	SsCatalog catalog;
	Oid user;
	int sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	if ((sec_context & SS_OWNER_CONTEXT) != SS_OWNER_CONTEXT)
		return false;
	/* a parallel worker inherits the flags, but may not have looked up the tables yet */
	if (!OidIsValid(ss_catalog_cached()->owner) && IsParallelWorker() && IsTransactionState())
		(void) ss_catalog_find(&catalog);
	return user == ss_catalog_cached()->owner || ss_catalog_has_owner_privs(user);
}
