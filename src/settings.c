/*
 * settings.c
 *		Defines the configuration parameters: unit, range and check of each.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/key.h"
#include "base/url.h"
#include "protocol/control.h"
#include "settings.h"

char *ss_namespace;
int ss_purge_interval_ms;
int ss_purge_batch_max;
int ss_purge_rate;
int ss_touch_slots;
int ss_orphan_keep_s;
int ss_fence = SS_FENCE_DELETE;
char *ss_redis_url;
char *ss_redis_password_file;
int ss_redis_db;
int ss_lease_ms;
int ss_takeover = SS_TAKEOVER_SILENT;
int ss_cache_max_bytes;
int ss_ledger_keys;
int ss_sessions_ceiling;
bool ss_direct_rows;

static const struct config_enum_entry fences[] = {{"delete", SS_FENCE_DELETE, false},
												  {"all", SS_FENCE_ALL, false},
												  {NULL, 0, false}};

static const struct config_enum_entry takeovers[] = {{"silent", SS_TAKEOVER_SILENT, false},
													 {"promoted", SS_TAKEOVER_PROMOTED, false},
													 {NULL, 0, false}};

/*
 * Check the form only.  Whether the namespace exists is checked when it is used, so that ALTER
 * ROLE .. SET may precede the INSERT.
 */
static bool
check_namespace(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < 1 || strlen(*newval) > SS_NAMESPACE_MAX)
	{
		GUC_check_errdetail("The name of a namespace must be between 1 and %d bytes long.",
							SS_NAMESPACE_MAX);
		return false;
	}
	return true;
}

/* The error does not show the URL, which may contain a password. */
static bool
check_redis_url(char **newval, void **extra, GucSource source)
{
	SsUrl url;
	const char *problem = (*newval)[0] == '\0' ? NULL : ss_url_parse(*newval, &url);

	if (problem == NULL)
		return true;
	GUC_check_errmsg("invalid value for parameter \"session_store.redis_url\"");
	GUC_check_errdetail("%s", problem);
	return false;
}

/* Parameters of the cache and of access to rows. */
static void
define_cache(bool preloading)
{
	int secret = GUC_SUPERUSER_ONLY;

	DefineCustomEnumVariable("session_store.fence",
							 "Sets which changes wait before commit until no strong reader "
							 "of Redis can see the old value.",
							 NULL, &ss_fence, SS_FENCE_DELETE, fences, PGC_USERSET, 0, NULL, NULL,
							 NULL);
	DefineCustomStringVariable(
		"session_store.redis_url", "Sets the URL of the Redis to which hot sessions are written.",
		"It begins with redis://, rediss:// or unix://. An empty string turns the cache off.",
		&ss_redis_url, "", PGC_SIGHUP, secret, check_redis_url, NULL, NULL);
	DefineCustomStringVariable("session_store.redis_password_file",
							   "Sets the file that contains the password for Redis.",
							   "Only its owner may be able to read it (mode 0600).",
							   &ss_redis_password_file, "", PGC_SIGHUP, secret, NULL, NULL, NULL);
	DefineCustomIntVariable("session_store.redis_db", "Sets the number of the database in Redis.",
							"Each PostgreSQL database needs a Redis database of its own; "
							"-1 uses the number in the URL, or 0 if there is none.",
							&ss_redis_db, -1, -1, 1000000, PGC_SUSET, secret, NULL, NULL, NULL);
	DefineCustomIntVariable("session_store.lease",
							"Sets the lifetime of the lease that strong readers rely on.", NULL,
							&ss_lease_ms, 2000, 200, SS_LEASE_LONGEST_US / 1000, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"session_store.takeover",
		"Sets when a promoted standby takes over the Redis of its old primary.",
		"silent: after the old primary has been silent for the longest lease; promoted: at once.",
		&ss_takeover, SS_TAKEOVER_SILENT, takeovers, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("session_store.cache_max_bytes",
							"Sets the maximum size of a document that is written to Redis.", NULL,
							&ss_cache_max_bytes, 1024 * 1024, 0, 256 * 1024 * 1024, PGC_SIGHUP,
							GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"session_store.sessions_ceiling",
		"Sets the number of sessions in a namespace above which session_health() warns.",
		"0 means no limit.", &ss_sessions_ceiling, 0, 0, INT_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"session_store.direct_rows",
		"Accesses session rows through the table access method instead of SPI where possible.",
		"Results are the same; turn it off to debug or compare.", &ss_direct_rows, true, PGC_SUSET,
		0, NULL, NULL, NULL);
	if (preloading)
		DefineCustomIntVariable(
			"session_store.ledger_size",
			"Sets the maximum number of changed sessions that wait to be written to Redis.",
			"When it is exceeded, all copies of the affected database are flushed.",
			&ss_ledger_keys, 100000, 1000, 10000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

void
ss_settings_define(bool preloading)
{
	DefineCustomStringVariable("session_store.namespace",
							   "Sets the namespace of calls that do not specify one.", NULL,
							   &ss_namespace, SS_DEFAULT_NAMESPACE, PGC_USERSET, 0, check_namespace,
							   NULL, NULL);
	DefineCustomIntVariable(
		"session_store.purge_interval",
		"Sets the time between two searches of the keeper for expired sessions.",
		"0 turns the automatic purge off; session_purge() still works.", &ss_purge_interval_ms,
		1000, 0, 24 * 60 * 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"session_store.purge_batch",
		"Sets the maximum number of rows that the keeper purges in one transaction.",
		"The keeper starts with fewer rows and adapts the number so that transactions stay short.",
		&ss_purge_batch_max, 10000, 10, 100000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	/*
	 * the default hardly changes the 99th percentile of two clients that save
	 * (test/bench/purge.sh)
	 */
	DefineCustomIntVariable("session_store.purge_rate",
							"Sets the maximum number of rows that the keeper purges per second.",
							"0 means no limit.", &ss_purge_rate, 75000, 0, 10000000, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable(
		"session_store.orphan_keep",
		"Sets how long messages and members without a session are kept.",
		"The time starts when the keeper first finds them; 0 keeps them forever.",
		&ss_orphan_keep_s, 24 * 60 * 60, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	/* it determines the size of shared memory, so it exists only if the library is preloaded */
	if (preloading)
		DefineCustomIntVariable(
			"session_store.touch_slots",
			"Sets the maximum number of pending touches, which are reads "
			"not yet written to the table.",
			"0 turns pending touches off; reads then do not extend the expiry of sessions.",
			&ss_touch_slots, 100000, 0, 10000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_cache(preloading);
	MarkGUCPrefixReserved("session_store");
}
