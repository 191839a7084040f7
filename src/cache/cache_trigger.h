/*
 * cache_trigger.h
 *		The triggers that notice which copies in Redis a change makes out of date.
 */
#ifndef SS_CACHE_TRIGGER_H
#define SS_CACHE_TRIGGER_H

extern void ss_cache_trigger_init(void);

#endif
