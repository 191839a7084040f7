/*
 * catalog.h
 *		Cached OIDs of the extension, its schema and its tables.
 */
#ifndef SS_CATALOG_H
#define SS_CATALOG_H

#include "utils/relcache.h"

/*
 * Filled by ss_catalog_find.  A copy stays readable after an invalidation, but may be out of date.
 */
typedef struct SsCatalog
{
	Oid extension;
	Oid schema;
	Oid sessions;        /* conversation_sessions */
	Oid namespaces;      /* session_namespaces */
	Oid history;         /* conversation_history */
	Oid members;         /* session_members */
	Oid operations;      /* session_operations */
	Oid ended;           /* conversation_history_ended */
	Oid events;          /* session_events; these five are InvalidOid if the table is missing */
	Oid counters;        /* session_counters */
	Oid samples;         /* session_samples */
	Oid orphans;         /* session_orphans */
	Oid claims;          /* session_cache_claims */
	Oid namespaces_pkey; /* primary key index of session_namespaces, on name */
	Oid owner;           /* owner of conversation_sessions; the functions act as this role */
	char *schema_name;   /* quoted for use in SQL; never freed */
} SsCatalog;

/* What a cache in this backend is computed from; a change of it makes the cache stale. */
typedef enum SsSource
{
	SS_OUR_TABLES = 1,    /* the tables in SsCatalog, and policies (namespace_trigger.c) */
	SS_ROLES = 2,         /* roles and their memberships */
	SS_WATCHED_TABLES = 4 /* the relations given to ss_catalog_watch */
} SsSource;

/*
 * Remembers how far the changes of the sources had been seen when a cache was computed: the cache is
 * valid as long as its memo is current.  Initialized with its sources, a memo is not current.
 */
typedef struct SsMemo
{
	int sources; /* SsSource, or'ed */
	uint64 seen; /* ss_catalog_changes() then; 0: never, or made stale */
} SsMemo;

extern bool ss_catalog_find(SsCatalog *catalog);
extern void ss_catalog_get(SsCatalog *catalog);
extern const SsCatalog *ss_catalog_cached(void);
extern bool ss_catalog_is_current(void);
extern uint64 ss_catalog_identity(void);
extern uint64 ss_catalog_invalidations(void);
extern bool ss_catalog_has_owner_privs(Oid role);
extern bool ss_catalog_try_lock(const SsCatalog *catalog);
extern char *ss_catalog_damage(void);
extern char *ss_catalog_damage_of(const char *table);
extern bool ss_catalog_watch(Oid relid);
extern bool ss_catalog_has_children(Relation rel);
extern void ss_catalog_at_rollback(void);
extern void ss_catalog_at_end(void);
extern uint64 ss_catalog_changes(int sources);

extern bool ss_memo_is_current(const SsMemo *memo);
extern uint64 ss_memo_begin(SsMemo *memo);
extern void ss_memo_end(SsMemo *memo, uint64 begun);
extern void ss_memo_make_stale(SsMemo *memo);

#endif
