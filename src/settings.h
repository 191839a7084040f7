/*
 * settings.h
 *		The configuration parameters as C variables, each session_store.<name without ss_ and the
 *		unit> unless noted.
 */
#ifndef SS_SETTINGS_H
#define SS_SETTINGS_H

extern char *ss_namespace;       /* namespace of calls that name none */
extern int ss_purge_interval_ms; /* 0: no automatic purge */
extern int ss_purge_batch_max;   /* session_store.purge_batch: rows */
extern int ss_purge_rate;        /* rows per second, 0: no limit */
extern int ss_touch_slots;
extern int ss_orphan_keep_s; /* 0: forever */

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
extern int ss_redis_db;              /* -1: the number in the URL, or 0 */
extern int ss_lease_ms;
extern int ss_takeover;        /* SsTakeover */
extern int ss_cache_max_bytes; /* bytes of a document as text */
extern int ss_ledger_keys;     /* session_store.ledger_size: keys */
extern bool ss_direct_rows;
extern int ss_sessions_ceiling; /* sessions, 0: no limit */

extern void ss_settings_define(bool preloading);

#endif
