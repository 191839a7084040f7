/*
 * pusher_claim.c
 *		Whose Redis it is, in the pusher: read and write this database's own record of its
 *		claims, and give the lease back at the end.
 *
 *	who					what								when					durable
 *	postmaster			"started as a standby"				at its start			session_store.standby
 *	keeper, pusher		reads the claims; without any,		at its start
 *						no old lease is waited for
 *	pusher				writes epoch and token				before each claim		own transaction, flushed
 *	pusher				claims								after that				the guard in Redis
 *	pusher				"no other Redis has a lease"		when that is over		own transaction
 *	pusher				drops the lease						when it is terminated
 *
 * If the server dies after the record was written and before the claim was carried out, the
 * guard has the token before it, which the record also has.  If the record cannot be written
 * (full disk, a lock, a trigger of the owner's), nothing is claimed, and health says why.
 */
#include "postgres.h"

#include "access/xact.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache/identity.h"
#include "cache/login.h"
#include "cache/pusher.h"
#include "rows/claim_table.h"
#include "shared.h"

/* At the end of the process Redis gets this long to drop the lease. */
#define STOP_WITHIN USECS_PER_SEC

/* Who we are, and where our Redis is; without user and password, which are no part of that. */
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

/* In a transaction: what do the claims in this database say?  Once, before the first probe. */
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
	if (n == 0 && !ss_shared->began_in_recovery)
		ss_control_never_leased(control, 0);
	ss_proto_set_record(&pusher->proto, &record);
}

/* Write the claim at hand, as a transaction of its own that is on disk when it is over. */
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
	if (ss_cached_lock() != SS_TABLES_FINE)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("the tables of session_store are locked")));
	ss_claims_write(&claim);
	ss_pusher_end_xact();
}

/* Try to; false with the reason in pusher->unrecorded, which is logged when it is another. */
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
		AbortCurrentTransaction();
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

/* Record the claim that the protocol is about to send. */
void
ss_pusher_record_claim(SsPusher *pusher)
{
	bool moved = ss_proto_moved(&pusher->proto, ss_monotonic());

	if (try_to_write(pusher, moved))
		ss_proto_recorded(&pusher->proto, moved);
	else
		ss_proto_not_recorded(&pusher->proto, ss_monotonic());
}

/* While all is well: the time in which another Redis may have had a lease is over. */
void
ss_pusher_record_only_redis(SsPusher *pusher, int64 now)
{
	if (pusher->proto.record.moved && !ss_proto_moved(&pusher->proto, now) &&
		try_to_write(pusher, false))
		pusher->proto.record.moved = false;
}

/*
 * Before the process ends because it was terminated (a fast or smart stop of the server, or
 * pg_terminate_backend): drop the lease, so that logouts need not wait for its end.  The copies
 * stay for plain readers.  On a connection of its own, for an answer may be under way on the
 * other; and for a moment only.  Nothing here is retried.
 */
void
ss_pusher_drop_lease(int code, Datum arg)
{
	SsPusher *pusher = &ss_pusher;
	int64 now = ss_monotonic();
	char problem[SS_MESSAGE_LEN];
	SsReply reply;

	/* with 0 we leave by ourselves: there is nothing to drop, or it must stay */
	if (code == 0 || !PostmasterIsAlive() || !ss_proto_stop(&pusher->proto, now, now + STOP_WITHIN))
		return;
	MemoryContextSwitchTo(pusher->cycle_context);
	if (ss_login_read(&pusher->login, problem, sizeof(problem)) &&
		ss_wire_connect(&pusher->wire, &pusher->login, now + STOP_WITHIN) &&
		ss_wire_send(&pusher->wire, &pusher->proto, NULL, &pusher->prefixes, &reply))
	{
		ss_proto_stopped(&pusher->proto, &reply);
		pusher->db->cache.report.lease_end = pusher->proto.lease_end;
	}
}
