/*
 * cache_trigger.h
 *		Triggers that record which cached keys a change invalidates.
 */
#ifndef SS_CACHE_TRIGGER_H
#define SS_CACHE_TRIGGER_H

extern void ss_cache_trigger_init(void);

#endif
