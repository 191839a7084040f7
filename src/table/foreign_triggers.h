/*
 * foreign_triggers.h
 *		Decides which triggers may fire while a call acts as the owner of the tables.
 */
#ifndef SS_FOREIGN_TRIGGERS_H
#define SS_FOREIGN_TRIGGERS_H

#include "utils/reltrigger.h"

/* Why a trigger does not fire while a call acts as the owner. */
typedef enum SsTriggerFault
{
	SS_TRIGGER_SOUND,       /* it does */
	SS_TRIGGER_NOT_TRUSTED, /* the owner of its function is not trusted */
	SS_TRIGGER_CONDITION,   /* its WHEN condition contains what it may not */
	SS_TRIGGER_ARGUMENTS    /* an untrusted role may have chosen the arguments of its C function */
} SsTriggerFault;

extern SsTriggerFault ss_trigger_fault(const Trigger *trigger);
extern const char *ss_trigger_fault_detail(SsTriggerFault fault);
extern char *ss_trigger_fault_remedy(SsTriggerFault fault, const Trigger *trigger);
extern void ss_triggers_check(Oid table, const TriggerDesc *triggers, int events);

#endif
