/*
 * foreign_triggers.h
 *		Which triggers may not fire while a call acts as the owner of the tables.
 */
#ifndef SS_FOREIGN_TRIGGERS_H
#define SS_FOREIGN_TRIGGERS_H

#include "utils/reltrigger.h"

typedef enum SsTriggerFault
{
	SS_TRIGGER_SOUND,
	SS_TRIGGER_NOT_TRUSTED, /* the owner of its function has not the rights of the tables' owner */
	SS_TRIGGER_CONDITION,   /* its WHEN may do more than compare */
	SS_TRIGGER_ARGUMENTS    /* others may have given its function in C these arguments */
} SsTriggerFault;

extern SsTriggerFault ss_trigger_fault(const Trigger *trigger);
extern const char *ss_trigger_fault_detail(SsTriggerFault fault);
extern char *ss_trigger_fault_remedy(SsTriggerFault fault, const Trigger *trigger);
extern void ss_triggers_check(Oid table, const TriggerDesc *triggers, int events);

#endif
