/*
 * pusher_claim.c
 *		Reads and writes this database's record of its claims, and drops the lease when the
 *		pusher ends.
 *
 *	who					what								when					durable
 *	postmaster			"started as a standby"				at its start			session_store.standby
 *	keeper, pusher		reads the claims; if there are		at its start
 *						none, no old lease is waited for
 *	pusher				writes epoch and token				before each claim		own transaction, flushed
 *	pusher				claims								after that				the guard in Redis
 *	pusher				"no other Redis has a lease"		once that is certain	own transaction
 *	pusher				drops the lease						when it is terminated
 *
 * If the server crashes after the record was written and before the claim was carried out, the guard
 * has the token before it, which the record contains as well.  If the record cannot be written (full
 * disk, a lock, a trigger of the owner's), nothing is claimed, and health gives the reason.
 */
#include "postgres.h"

#include "access/xact.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "protocol/protocol.h"
#include "pusher/claim_table.h"
#include "pusher/pusher_claim.h"
#include "pusher/pusher_rows.h"
#include "redis/login.h"
#include "shared/databases.h"
#include "shared/identity.h"

/* At the end of the process Redis gets this long to drop the lease. */
#define STOP_WITHIN_US USECS_PER_SEC

/*
 * Fills in who we are and where our Redis is, without user and password, which are not part of
 * that.
 */
void
ss_pusher_identify(SsPusher *pusher)
{
	SsUrl url = pusher->login.url;
	size_t len;

	ss_identity_read(&pusher->me);
	url.user[0] = url.password[0] = '\0';
	ss_url_show(&url, pusher->me.redis, sizeof(pusher->me.redis));
	len = strlen(pusher->me.redis);
	snprintf(pusher->me.redis + len, sizeof(pusher->me.redis) - len, "/%d", pusher->login.database);
}

/* Reads the claims in this database, once, before the first probe; in a transaction. */
void
ss_pusher_read_claims(SsPusher *pusher)
{
	SsControl *control = &pusher->db->cache.control;
	SsClaim claims[SS_CLAIMS_MAX];
	SsRecord record;
	int n;

	if (pusher->proto.record.standing != SS_STANDING_UNKNOWN)
		return;
	n = ss_claims_read(claims, &pusher->me);
	ss_standing_judge(claims, n, &pusher->me, ss_identity_was_standby(), &record);
	if (n == 0 && !ss_databases->began_in_recovery)
		ss_control_never_leased(control, 0);
	ss_proto_set_record(&pusher->proto, &record);
}

/* Writes the claim at hand in a transaction of its own, which is on disk when this returns. */
static void
write_claim(SsPusher *pusher, bool moved)
{
	SsClaim claim = pusher->me;
	SsRecord record = pusher->proto.record;

	ss_record_add(&record, pusher->proto.token, pusher->proto.epoch);
	claim.moved = moved;
	memcpy(claim.marks, record.marks, sizeof(claim.marks));
	ss_pusher_begin_xact();
	XactReadOnly = false;
	if (ss_tables_lock() != SS_TABLES_FINE)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("the tables of session_store are locked")));
	ss_claims_write(&claim);
	ss_pusher_end_xact(pusher);
}

/*
 * The same, but an error is caught: returns false with the message in pusher->unrecorded.  It
 * is logged when it differs from the last one.
 */
static bool
try_to_write(SsPusher *pusher, bool moved)
{
	volatile bool written = true;

	PG_TRY();
	{
		write_claim(pusher, moved);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(pusher->cycle_context);
		error = CopyErrorData();
		if (strcmp(error->message, pusher->unrecorded) != 0)
			EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(pusher->cycle_context);
		strlcpy(pusher->unrecorded, error->message, sizeof(pusher->unrecorded));
		FreeErrorData(error);
		written = false;
	}
	PG_END_TRY();
	if (written)
		pusher->unrecorded[0] = '\0';
	return written;
}

/* Records the claim that the protocol is about to send. */
void
ss_pusher_record_claim(SsPusher *pusher)
{
	bool moved = ss_proto_moved(&pusher->proto, ss_monotonic());

	if (try_to_write(pusher, moved))
		ss_proto_recorded(&pusher->proto, moved);
	else
		ss_proto_not_recorded(&pusher->proto, ss_monotonic());
}

/* Records that no other Redis can hold a lease any more, once that is certain. */
void
ss_pusher_record_only_redis(SsPusher *pusher, SsMonotonic now)
{
	if (pusher->proto.record.moved && !ss_proto_moved(&pusher->proto, now) &&
		try_to_write(pusher, false))
		pusher->proto.record.moved = false;
}

/*
 * before_shmem_exit callback.  If the process is terminated (a fast or smart stop of the
 * server, or pg_terminate_backend), drops the lease, so that logouts need not wait for its
 * end.  The copies stay for plain readers.  Uses a connection of its own, because an answer
 * may be under way on the other one, and only for a moment.  Nothing is retried.
 */
void
ss_pusher_drop_lease(int code, Datum arg)
{
	SsPusher *pusher = (SsPusher *) DatumGetPointer(arg);
	SsMonotonic now = ss_monotonic();
	char problem[SS_MESSAGE_LEN];
	SsReply reply;

	/* exit code 0: we leave by ourselves, and there is nothing to drop, or it must stay */
	if (code == 0 || !PostmasterIsAlive() ||
		!ss_proto_stop(&pusher->proto, now, now + STOP_WITHIN_US))
		return;
	MemoryContextSwitchTo(pusher->cycle_context);
	if (ss_login_read(&pusher->login, problem, sizeof(problem)) &&
		ss_wire_connect(&pusher->wire, &pusher->login, now + STOP_WITHIN_US) &&
		ss_wire_send(&pusher->wire, &pusher->proto, NULL, &pusher->prefixes, &reply))
	{
		ss_proto_stopped(&pusher->proto, &reply);
		ss_databases_lock(true);
		pusher->db->cache.report.lease_end = pusher->proto.lease_end;
		ss_databases_unlock();
	}
}
