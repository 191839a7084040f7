/*
 * relaxed.c
 *		Saves that do not wait for the disk.
 *
 * A namespace with durability `relaxed` lets a transaction that did nothing but save there
 * commit as with synchronous_commit off: what a crash of the server takes is the last moments,
 * whole transactions, never a part of one.  A transaction that did anything else waits as ever,
 * for somebody else's data is none of our business.
 *
 * Whether it did is told by the write-ahead log: it had no transaction id before its first
 * relaxed save, and every record that it has written since was written within a relaxed save.
 * A record that changes nothing (of a page that was pruned while it was read) counts as something
 * else, and costs the wait.  What the log cannot tell: changes in other servers, and what another
 * extension does while the transaction commits.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "rows/catalog.h"
#include "rows/relaxed.h"

typedef enum State
{
	UNKNOWN, /* no relaxed save yet */
	RELAXED,
	STRICT
} State;

static State state = UNKNOWN;
static XLogRecPtr last;    /* our last record, at the end of the last relaxed save */
static uint64 changes = 1; /* counts what may have given our tables triggers */
static uint64 looked = 0;  /* after so many changes we have looked, and what we saw holds */
static bool foreign = true;

static void
tables_changed(Oid relid)
{
	changes++;
}

/*
 * Can a statement on a table do more than we know of?  By a trigger that we did not make, or
 * a rule, or in a child or partition, that may have either.  Triggers of foreign keys do nothing on
 * a save.
 */
static bool
does_more(Oid relid)
{
	static const char *const ours[] = {"session_row_guard", "zz_session_change",
									   "zz_session_truncate", "zz_history_change",
									   "zz_history_truncate"};
	Relation rel = table_open(relid, AccessShareLock);
	bool found = rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relhassubclass ||
				 rel->rd_rules != NULL;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers && !found; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		found = !trigger->tgisinternal;
		for (int k = 0; k < (int) lengthof(ours) && found; k++)
			found = strcmp(trigger->tgname, ours[k]) != 0;
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* Does a save do nothing but what we make it do? */
static bool
is_ours_alone(void)
{
	static bool registered = false;
	uint64 now;
	SsCatalog catalog;

	if (!registered)
	{
		ss_catalog_on_invalidation(tables_changed);
		registered = true;
	}
	while (looked != changes)
	{
		foreign = true; /* should an error end the look */
		now = changes;
		ss_catalog_get(&catalog);
		foreign = does_more(catalog.sessions) || does_more(catalog.history) ||
				  does_more(catalog.ended) || !OidIsValid(catalog.events) ||
				  does_more(catalog.events);
		looked = now;
	}
	return !foreign;
}

static bool
wrote_something_else(void)
{
	return ProcLastRecPtr != last;
}

/*
 * Before a change of a session takes its first lock.  A trigger of the owner's on a table that a
 * save writes to may change what it likes: then all of them wait.
 */
void
ss_relaxed_begin(const SsPolicy *policy)
{
	if (!policy->relaxed)
		return;
	if (!is_ours_alone())
		state = STRICT;
	if (state == UNKNOWN)
	{
		state = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? STRICT : RELAXED;
		last = ProcLastRecPtr;
	}
	else if (state == RELAXED && wrote_something_else())
		state = STRICT;
}

/*
 * After its last write, or when it turns out that there is none.  A trigger may have been made
 * while we waited for the table; by now it cannot be any more.
 */
void
ss_relaxed_end(const SsPolicy *policy)
{
	if (!policy->relaxed)
		return;
	if (!is_ours_alone())
		state = STRICT;
	last = ProcLastRecPtr;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			/* by the setting, until the transaction's end: standbys are waited for by it as well */
			if (state == RELAXED && !wrote_something_else() &&
				synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
				(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
										 GUC_ACTION_LOCAL, true, 0, false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			state = UNKNOWN;
			break;
		default:
			break;
	}
}

/* Once, from _PG_init. */
void
ss_relaxed_init_backend(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
