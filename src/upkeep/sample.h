/*
 * sample.h
 *		Samples the number and size of the sessions of each namespace.
 */
#ifndef SS_SAMPLE_H
#define SS_SAMPLE_H

#include "sessions/aside.h"

extern bool ss_sample_take(SsAside *aside);

#endif
