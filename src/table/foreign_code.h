/*
 * foreign_code.h
 *		Decides which functions and foreign keys of other roles may run with the rights of the owner.
 */
#ifndef SS_FOREIGN_CODE_H
#define SS_FOREIGN_CODE_H

#include "utils/reltrigger.h"

#include "compat.h"

/* Why a function does not run with the rights of the tables' owner. */
typedef enum SsCodeFault
{
	SS_CODE_SOUND,         /* it does */
	SS_CODE_NOT_TRUSTED,   /* its owner does not have the privileges of the tables' owner */
	SS_CODE_NO_SEARCH_PATH /* it sets no search_path */
} SsCodeFault;

extern bool ss_foreign_code_check(Oid function);
extern SsCodeFault ss_foreign_code_fault(Oid function);
pg_noreturn extern void ss_error_code_not_trusted(Oid function) ss_noreturn;
extern char *ss_foreign_code_remedy(Oid function);
extern bool ss_foreign_key_is_ignored(Oid table);
extern bool ss_foreign_key_trigger_is_ignored(const Trigger *trigger);

#endif
