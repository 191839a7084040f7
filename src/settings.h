/*
 * settings.h
 *		Every setting, as a C variable.
 */
#ifndef SS_SETTINGS_H
#define SS_SETTINGS_H

extern char *ss_namespace;     /* session_store.namespace */
extern int ss_purge_interval;  /* ms */
extern int ss_purge_batch_max; /* rows */
extern int ss_purge_rate;      /* rows a second, 0 for no limit */
extern int ss_touch_slots;

extern void ss_settings_define(bool preloading);

#endif
