/*
 * settings.c
 *		Every setting: its unit, range and check.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "rows/namespaces.h"
#include "settings.h"

char *ss_namespace;
int ss_purge_interval;
int ss_purge_batch_max;
int ss_purge_rate;
int ss_touch_slots;

/*
 * Only the form is checked: whether the namespace exists is asked when it is
 * used, so that ALTER ROLE .. SET may come before the INSERT.
 */
static bool
check_namespace(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < 1 || strlen(*newval) > SS_NAMESPACE_MAX)
	{
		GUC_check_errdetail("A namespace's name is 1 to %d bytes.", SS_NAMESPACE_MAX);
		return false;
	}
	return true;
}

void
ss_settings_define(bool preloading)
{
	DefineCustomStringVariable("session_store.namespace", "The namespace of calls that name none.",
							   NULL, &ss_namespace, SS_DEFAULT_NAMESPACE, PGC_USERSET, 0,
							   check_namespace, NULL, NULL);
	DefineCustomIntVariable("session_store.purge_interval",
							"How often the keeper looks for expired sessions.",
							"0 turns the automatic purge off; session_purge() still works.",
							&ss_purge_interval, 1000, 0, 24 * 60 * 60 * 1000, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("session_store.purge_batch",
							"The most rows that the keeper purges in one transaction.",
							"It starts lower and adapts, so that a batch stays short.",
							&ss_purge_batch_max, 10000, 10, 100000, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	/* at 10,000 a second the p99 of two savers rises to 1.5, at 6,000 to 1.3 times what it is
	 * undisturbed (test/bench/purge.sh) */
	DefineCustomIntVariable("session_store.purge_rate",
							"The most rows a second that the keeper purges.", "0 means no limit.",
							&ss_purge_rate, 6000, 0, 10000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* sizes shared memory, so it exists only where there is some to size */
	if (preloading)
		DefineCustomIntVariable("session_store.touch_slots",
								"How many sliding reads can be noted before they are written.",
								"0 turns noting off: reads then do not slide.", &ss_touch_slots,
								100000, 0, 10000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("session_store");
}
