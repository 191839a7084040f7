/*
 * foreign_hooks.h
 *		Applies the rules on code of other roles to all that our statements reach.
 */
#ifndef SS_FOREIGN_HOOKS_H
#define SS_FOREIGN_HOOKS_H

#include "utils/elog.h"

extern void ss_foreign_hooks_init(void);
extern void ss_foreign_hooks_watch(ErrorContextCallback *context);

#endif
