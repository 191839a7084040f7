/*
 * plan_marks.h
 *		Tells a trigger which statement of ours has fired it.
 */
#ifndef SS_PLAN_MARKS_H
#define SS_PLAN_MARKS_H

#include "utils/reltrigger.h"

#include "table/sql.h"

extern void ss_plan_marks_init(void);
extern bool ss_plan_fired(const Trigger *trigger);
extern bool ss_plan_fired_with(const Trigger *trigger, SsPlanFlag flag);

#endif
