/*
 * pusher_report.h
 *		What the pusher reports to health and metrics, through shared memory.
 */
#ifndef SS_PUSHER_REPORT_H
#define SS_PUSHER_REPORT_H

#include "pusher/pusher_state.h"

extern void ss_pusher_report(SsPusher *pusher, SsMonotonic now);

#endif
