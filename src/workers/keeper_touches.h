/*
 * keeper_touches.h
 *		Writes pending touches to the rows: those that are due, and all of them before a stop.
 */
#ifndef SS_KEEPER_TOUCHES_H
#define SS_KEEPER_TOUCHES_H

#include "workers/keeper_state.h"

extern TimestampTz ss_keeper_write_touches(SsKeeper *keeper, TimestampTz now);
extern bool ss_keeper_flush_touches(SsKeeper *keeper, TimestampTz deadline);

#endif
