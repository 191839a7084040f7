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
extern int ss_orphan_keep; /* s, 0 for ever */

typedef enum SsFence
{
	SS_FENCE_DELETE,
	SS_FENCE_ALL
} SsFence;

typedef enum SsTakeover
{
	SS_TAKEOVER_SILENT,
	SS_TAKEOVER_PROMOTED
} SsTakeover;

extern int ss_fence;                 /* SsFence */
extern char *ss_redis_url;           /* empty: no cache */
extern char *ss_redis_password_file; /* empty: none */
extern int ss_redis_db;              /* -1: what the URL says, else 0 */
extern int ss_lease;                 /* ms */
extern int ss_takeover;              /* SsTakeover */
extern int ss_cache_max_bytes;       /* of a document as text */
extern int ss_ledger_keys;           /* keys */
extern bool ss_direct_rows;
extern int ss_sessions_ceiling; /* sessions, 0 for none */

extern void ss_settings_define(bool preloading);

#endif
