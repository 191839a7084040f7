/*
 * direct_counter.h
 *		Changes a counter through the table AM instead of SPI.
 */
#ifndef SS_DIRECT_COUNTER_H
#define SS_DIRECT_COUNTER_H

#include "datatype/timestamp.h"

extern bool ss_direct_count(Datum ns, Datum id, int64 by, int64 *hits, TimestampTz *resets_at);

#endif
