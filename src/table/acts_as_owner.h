/*
 * acts_as_owner.h
 *		Does the code that runs have the rights of the tables' owner?
 */
#ifndef SS_ACTS_AS_OWNER_H
#define SS_ACTS_AS_OWNER_H

#include "miscadmin.h"

/* The flags that ss_sql_enter sets in the security context. */
#define SS_OWNER_CONTEXT (SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS)

/*
 * The search_path under which all plans are prepared and run.  The needless quotes tell it from a
 * search_path that a function sets for itself.
 */
#define SS_SEARCH_PATH "\"pg_catalog\", pg_temp"

extern bool ss_acts_as_owner(void);

#endif
