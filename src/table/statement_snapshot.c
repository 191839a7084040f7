/*
 * statement_snapshot.c
 *		Releases the snapshot of the statement that calls one of our functions, and takes a new one.
 *
 * A function that waits for another transaction would keep the snapshot of its statement meanwhile,
 * and VACUUM could remove nothing that was deleted since.  In READ COMMITTED a snapshot is needed
 * only by the statement itself.  A SELECT that reads no table and does nothing but call the function
 * does not need it either while the function runs, and needs any current one afterwards.  So the
 * function may release it, sleep as a transaction does between two statements, and take a new one.
 *
 * The snapshot of such a statement is a single object with three references (PortalStart,
 * standard_ExecutorStart and PortalRunSelect of the server):
 *
 *	- QueryDesc.snapshot and EState.es_snapshot, each registered with the portal's resource owner;
 *	- the active snapshot, which is the only element of its stack.
 *
 * Everything here depends on that, so it is verified: ss_statement_snapshot_is_releasable accepts
 * only a call for which all of it holds.  Each condition has its reason there.  The answer depends on
 * the statement and on the transaction, not on the data, so that a caller can refuse a call
 * before it does anything.
 *
 * Order: ss_statement_snapshot_release first sets both pointers to InvalidSnapshot, then releases
 * the references; it allocates nothing.  ss_statement_snapshot_renew may run out of memory at each
 * step.  An error in either, or between the two, needs no cleanup.  It aborts the (sub)transaction,
 * which empties the stack of active snapshots and releases what resource owners hold, and PortalRun
 * marks the portal as failed (AtAbort_Portals does if the process is terminated).  The executor of a
 * failed portal is not run or shut down any more (PortalCleanup), so nobody reads the pointers.  If
 * anybody did, InvalidSnapshot would be skipped by UnregisterSnapshot, where a pointer to freed
 * memory would not.
 *
 * Between the two functions the process must not access tables or catalogs.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "executor/execdesc.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "table/statement_snapshot.h"

/* What is searched for in the expressions of a plan. */
typedef struct Search
{
	const Node *call;
	bool found;
} Search;

/* Was this function defined by a user or an extension?  A check_function_callback. */
static bool
is_not_builtin(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/*
 * Searches for the call in an expression.  Returns true, which ends the search, if there is any
 * other function that is not built in: it may return a value that the released snapshot protects
 * (a TOAST pointer), or be another call that waits.
 */
static bool
finds_other_function(Node *node, void *context)
{
	Search *search = context;

	if (node == NULL)
		return false;
	if (node == search->call)
	{
		search->found = true;
		return false; /* its arguments have been evaluated */
	}
	return check_functions_in_node(node, is_not_builtin, NULL) ||
		   expression_tree_walker(node, SsWalker(finds_other_function), context);
}

/* Does a statement read no table?  Views, CTEs and subqueries are not accepted either. */
static bool
reads_nothing(const PlannedStmt *statement)
{
	ListCell *cell;

	if (statement->commandType != CMD_SELECT || statement->hasModifyingCTE ||
		statement->parallelModeNeeded || statement->subplans != NIL || statement->rowMarks != NIL ||
		statement->relationOids != NIL)
		return false;
	foreach (cell, statement->rtable)
	{
		RTEKind kind = lfirst_node(RangeTblEntry, cell)->rtekind;

		if (kind != RTE_RESULT && kind != RTE_FUNCTION)
			return false;
	}
	return true;
}

/*
 * Is a plan nothing but this call?  That is SELECT f(..), also with built-in functions around the
 * call, and SELECT .. FROM f(..).
 */
static bool
only_calls(Plan *plan, const Node *call)
{
	Search search = {.call = call};

	if (plan->lefttree != NULL || plan->righttree != NULL || plan->initPlan != NIL ||
		plan->qual != NIL)
		return false;
	if (IsA(plan, Result))
	{
		if (((Result *) plan)->resconstantqual != NULL)
			return false;
	}
	else if (IsA(plan, FunctionScan))
	{
		List *functions = ((FunctionScan *) plan)->functions;

		if (list_length(functions) != 1 ||
			linitial_node(RangeTblFunction, functions)->funcexpr != call)
			return false;
		search.found = true;
	}
	else
		return false;
	return !finds_other_function((Node *) plan->targetlist, &search) && search.found;
}

/*
 * Is this query one that PortalRun is running as a statement of its own, and does its executor
 * evaluate the call?  The context of the call tells apart a nested execution of the same plan.
 *
 * A cursor is refused: its result may be fetched in another statement.  Its options always differ
 * from those of a portal of the protocol.
 */
static bool
is_run_by_portal(Portal portal, const FmgrInfo *call)
{
	const QueryDesc *query;

	if (portal == NULL || portal->strategy != PORTAL_ONE_SELECT ||
		portal->status != PORTAL_ACTIVE || portal->resowner == NULL ||
		portal->resowner != CurrentResourceOwner || portal->holdStore != NULL ||
		portal->holdSnapshot != NULL || portal->portalSnapshot != NULL ||
		(portal->cursorOptions & ~CURSOR_OPT_BINARY) != CURSOR_OPT_NO_SCROLL)
		return false;
	query = portal->queryDesc;
	return query != NULL && query->estate != NULL &&
		   query->crosscheck_snapshot == InvalidSnapshot &&
		   query->estate->es_crosscheck_snapshot == InvalidSnapshot &&
		   call->fn_mcxt == query->estate->es_query_cxt && reads_nothing(query->plannedstmt) &&
		   only_calls(query->plannedstmt->planTree, call->fn_expr);
}

/*
 * Does the query hold exactly the three references to its snapshot that are described above, and
 * is no other snapshot active?  What is below the top of the stack can only be found out by removing
 * the top for a moment.  That does not free it, because it is registered.
 */
static bool
has_only_snapshot(const QueryDesc *query)
{
	Snapshot snapshot = query->snapshot;
	bool only;

	if (!ActiveSnapshotSet() || GetActiveSnapshot() != snapshot ||
		query->estate->es_snapshot != snapshot || snapshot->snapshot_type != SNAPSHOT_MVCC ||
		!snapshot->copied || snapshot->active_count != 1 || snapshot->regd_count != 2)
		return false;
	PopActiveSnapshot();
	only = !ActiveSnapshotSet();
	PushActiveSnapshot(snapshot);
	return only;
}

/*
 * May the function of this call release the snapshot of its statement?  True only in READ
 * COMMITTED, if the client has sent the statement as such, and if it does nothing but call the
 * function.  The subtransaction must be that in which the portal was created, which is the level
 * of the active snapshot.
 *
 * Other snapshots of the transaction, such as those of open cursors, are not asked for, and are not
 * released: they belong to the caller.
 */
bool
ss_statement_snapshot_is_releasable(const FmgrInfo *call)
{
	Portal portal = ActivePortal;

	return !IsolationUsesXactSnapshot() && !IsInParallelMode() && call != NULL &&
		   call->fn_expr != NULL && is_run_by_portal(portal, call) &&
		   portal->createLevel == GetCurrentTransactionNestLevel() &&
		   has_only_snapshot(portal->queryDesc);
}

/*
 * Releases the snapshot of the statement, and the catalog snapshot.  To be called only after
 * ss_statement_snapshot_is_releasable has returned true for the call in progress.
 */
void
ss_statement_snapshot_release(void)
{
	Portal portal = ActivePortal;
	QueryDesc *query = portal->queryDesc;
	Snapshot snapshot = query->snapshot;

	Assert(has_only_snapshot(query));

	query->snapshot = query->estate->es_snapshot = InvalidSnapshot;
	PopActiveSnapshot();
	UnregisterSnapshotFromOwner(snapshot, portal->resowner);
	UnregisterSnapshotFromOwner(snapshot, portal->resowner);
	InvalidateCatalogSnapshot();
}

/* Takes a new snapshot for the statement, after ss_statement_snapshot_release. */
void
ss_statement_snapshot_renew(void)
{
	Portal portal = ActivePortal;
	QueryDesc *query = portal->queryDesc;
	Snapshot snapshot;

	Assert(!ActiveSnapshotSet() && query->snapshot == InvalidSnapshot);

	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	query->snapshot = RegisterSnapshotOnOwner(snapshot, portal->resowner);
	query->estate->es_snapshot = RegisterSnapshotOnOwner(snapshot, portal->resowner);

	Assert(has_only_snapshot(query));
}
