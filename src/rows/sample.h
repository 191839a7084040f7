/*
 * sample.h
 *		A look at how many sessions there are, and how large.
 */
#ifndef SS_SAMPLE_H
#define SS_SAMPLE_H

#include "rows/aside.h"

extern void ss_sample_take(SsAside *aside);

#endif
