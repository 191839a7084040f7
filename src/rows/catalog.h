/*
 * catalog.h
 *		Cached OIDs of the extension, its schema and its tables.
 */
#ifndef SS_CATALOG_H
#define SS_CATALOG_H

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
	Oid ended;           /* conversation_history_ended */
	Oid events;          /* session_events; these four are InvalidOid if the table is missing */
	Oid samples;         /* session_samples */
	Oid orphans;         /* session_orphans */
	Oid claims;          /* session_cache_claims */
	Oid namespaces_pkey; /* primary key index of session_namespaces, on name */
	Oid owner;           /* owner of conversation_sessions; the functions act as this role */
	char *schema_name;   /* quoted for use in SQL; never freed */
} SsCatalog;

/*
 * Called during invalidation processing, so it must do no more than set flags and counters.  relid
 * is InvalidOid if all relations were invalidated.
 */
typedef void (*SsCatalogCallback)(Oid relid);

extern bool ss_catalog_find(SsCatalog *catalog);
extern void ss_catalog_get(SsCatalog *catalog);
extern const SsCatalog *ss_catalog_cached(void);
extern bool ss_catalog_is_current(void);
extern uint64 ss_catalog_identity(void);
extern uint64 ss_catalog_invalidations(void);
extern bool ss_catalog_is_ours(Oid relid);
extern bool ss_catalog_has_owner_privs(Oid role);
extern bool ss_catalog_try_lock(const SsCatalog *catalog);
extern char *ss_catalog_damage(void);
extern char *ss_catalog_damage_of(const char *table);
extern void ss_catalog_on_invalidation(SsCatalogCallback callback);
extern bool ss_catalog_watch(Oid relid, SsCatalogCallback callback);

#endif
