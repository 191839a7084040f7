/*
 * relaxed.c
 *		Lets transactions commit asynchronously if they did nothing but save sessions and count hits.
 *
 * In a namespace with durability `relaxed`, a transaction that did nothing but save sessions there
 * commits as with synchronous_commit = off, and so does one that did nothing but count hits, in any
 * namespace.  A crash of the server then loses the last moments, in whole transactions.  A
 * transaction that did anything else commits as usual, since other data must not become less
 * durable.  Below, a hit is a relaxed save, too.
 *
 * Whether it did anything else is decided by WAL: the transaction had no transaction id before its
 * first relaxed save, and wrote all WAL records since then within relaxed saves.  A record that
 * changes no data (pruning a page that was read) counts as something else, and costs a wait.  WAL
 * does not show changes in other servers, nor what another extension does while the transaction
 * commits.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "sessions/relaxed.h"
#include "table/catalog.h"
#include "table/triggers.h"

typedef enum State
{
	UNKNOWN, /* no relaxed save yet */
	RELAXED, /* nothing but relaxed saves */
	STRICT   /* something else as well */
} State;

/* State of this backend. */
static struct
{
	/* of the current transaction */
	State state;
	XLogRecPtr last; /* ProcLastRecPtr when the last relaxed save ended */

	/*
	 * May a save, or a hit, run code that is not ours?  Each opens its own tables only: another session
	 * may have locked the others.
	 */
	SsMemo save_memo;
	bool save_has_foreign_code;
	SsMemo hit_memo;
	bool hit_has_foreign_code;
} relaxed = {.save_memo = {SS_OUR_TABLES | SS_WATCHED_TABLES},
			 .hit_memo = {SS_OUR_TABLES | SS_WATCHED_TABLES}};

/*
 * May a statement on a table run code that is not ours?  That is so if the table has a trigger
 * that we did not create, a rule, or children or partitions, which may have either.  Triggers of
 * foreign keys do nothing on a save.
 */
static bool
may_run_foreign_code(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	bool found = rel->rd_rel->relkind != RELKIND_RELATION || ss_catalog_has_children(rel) ||
				 rel->rd_rules != NULL;
	/* a copy, because a catalog lookup may process invalidations and free the original */
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers && !found; i++)
		found = !triggers->triggers[i].tgisinternal &&
				ss_own_trigger_find(rel, &triggers->triggers[i]) == NULL;
	FreeTriggerDesc(triggers);
	table_close(rel, AccessShareLock);
	return found;
}

/* Does a save run no code but ours? */
static bool
save_runs_only_our_code(void)
{
	SsCatalog catalog;

	while (!ss_memo_is_current(&relaxed.save_memo))
	{
		uint64 begun = ss_memo_begin(&relaxed.save_memo);

		relaxed.save_has_foreign_code = true; /* in case of an error */
		ss_catalog_get(&catalog);
		relaxed.save_has_foreign_code = may_run_foreign_code(catalog.sessions) ||
										may_run_foreign_code(catalog.history) ||
										may_run_foreign_code(catalog.operations) ||
										may_run_foreign_code(catalog.ended) ||
										!OidIsValid(catalog.events) ||
										may_run_foreign_code(catalog.events);
		ss_memo_end(&relaxed.save_memo, begun);
	}
	return !relaxed.save_has_foreign_code;
}

/* Does a hit run no code but ours? */
static bool
hit_runs_only_our_code(void)
{
	SsCatalog catalog;

	while (!ss_memo_is_current(&relaxed.hit_memo))
	{
		uint64 begun = ss_memo_begin(&relaxed.hit_memo);

		relaxed.hit_has_foreign_code = true;
		ss_catalog_get(&catalog);
		relaxed.hit_has_foreign_code = !OidIsValid(catalog.counters) ||
									   may_run_foreign_code(catalog.counters);
		ss_memo_end(&relaxed.hit_memo, begun);
	}
	return !relaxed.hit_has_foreign_code;
}

/* Has this backend written WAL since the last relaxed save? */
static bool
wrote_something_else(void)
{
	return ProcLastRecPtr != relaxed.last;
}

/* Begins a relaxed save that may run foreign code or not. */
static void
begin(bool only_our_code)
{
	if (!only_our_code)
		relaxed.state = STRICT;
	if (relaxed.state == UNKNOWN)
	{
		relaxed.state = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? STRICT : RELAXED;
		relaxed.last = ProcLastRecPtr;
	}
	else if (relaxed.state == RELAXED && wrote_something_else())
		relaxed.state = STRICT;
}

/* Ends a relaxed save. */
static void
end(bool only_our_code)
{
	if (!only_our_code)
		relaxed.state = STRICT;
	relaxed.last = ProcLastRecPtr;
}

/*
 * Called before a change of a session takes its first lock.  If a save may run foreign code, which
 * may change anything, the transaction commits as usual.
 */
void
ss_relaxed_begin(const SsPolicy *policy)
{
	if (policy->relaxed)
		begin(save_runs_only_our_code());
}

/* The same before a hit. */
void
ss_relaxed_begin_hit(void)
{
	begin(hit_runs_only_our_code());
}

/*
 * Called after the last write of a change, or when nothing is to be written.  Checks again,
 * because a trigger may have been created while the change waited for the table; with the table
 * locked, none can be now.
 */
void
ss_relaxed_end(const SsPolicy *policy)
{
	if (policy->relaxed)
		end(save_runs_only_our_code());
}

/* The same after a hit. */
void
ss_relaxed_end_hit(void)
{
	end(hit_runs_only_our_code());
}

/*
 * At PRE_COMMIT (xact.c): if the transaction did nothing but relaxed saves, it commits
 * asynchronously.  May raise an error, for lack of memory.
 */
void
ss_relaxed_at_pre_commit(void)
{
	/* the setting also controls the wait for synchronous standbys; it reverts at the end */
	if (relaxed.state == RELAXED && !wrote_something_else() &&
		synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

/* At the end of the transaction (xact.c).  Cannot fail. */
void
ss_relaxed_at_end(void)
{
	relaxed.state = UNKNOWN;
}
