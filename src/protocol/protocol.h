/*
 * protocol.h
 *		The protocol of the pusher as a state machine: events and a clock in, actions out.
 *
 * Pure C: no PostgreSQL, no hiredis, no allocation.  The pusher (pusher.c) links it, and so does
 * the simulator (test/sim).  The driver does what ss_proto_next returns:
 *
 *		SS_DO_CONNECT	connect; then call ss_proto_connected or ss_proto_failed
 *		SS_DO_SEND		send p->request; then call ss_proto_reply, or ss_proto_failed if there is
 *						no answer by request.give_up or the connection breaks.  A broken
 *						connection is never used again
 *		SS_DO_READ		read the rows of p->ops in one new snapshot, fill in what was found and
 *						end the transaction; then call ss_proto_rows or ss_proto_unreadable
 *		SS_DO_RECORD	write p->epoch and p->token durably into this database, before they are
 *						claimed; then call ss_proto_recorded or ss_proto_not_recorded
 *		SS_DO_WAIT		sleep until p->wait_until, or until the latch is set
 *		SS_DO_LEAVE		end the process; only after ss_proto_leave
 */
#ifndef SS_PROTOCOL_H
#define SS_PROTOCOL_H

#include "protocol/protocol_state.h"

extern void ss_proto_init(SsProto *p, SsLedger *ledger, SsControl *control, uint32_t database,
						  const SsOwner *me, uint64_t seed, SsMonotonic now);
extern SsDo ss_proto_next(SsProto *p, SsMonotonic now);
extern void ss_proto_connected(SsProto *p, SsMonotonic now);
extern void ss_proto_failed(SsProto *p, SsMonotonic now);
extern void ss_proto_reply(SsProto *p, const SsReply *reply, SsMonotonic now);
extern void ss_proto_rows(SsProto *p, SsMonotonic now);
extern void ss_proto_unreadable(SsProto *p, SsMonotonic now);
extern void ss_proto_flush(SsProto *p);
extern void ss_proto_flush_names(SsProto *p);
extern void ss_proto_flush_partly(SsProto *p);
extern void ss_proto_takeover(SsProto *p, SsMonotonic now);
extern void ss_proto_no_takeover(SsProto *p);
extern void ss_proto_reconnect(SsProto *p, SsMonotonic now);
extern void ss_proto_leave(SsProto *p);
extern void ss_proto_set_record(SsProto *p, const SsRecord *record);
extern bool ss_proto_moved(const SsProto *p, SsMonotonic now);
extern void ss_proto_recorded(SsProto *p, bool moved);
extern void ss_proto_not_recorded(SsProto *p, SsMonotonic now);
extern bool ss_proto_stop(SsProto *p, SsMonotonic now, SsMonotonic give_up);
extern void ss_proto_stopped(SsProto *p, const SsReply *reply);
extern bool ss_proto_flushing(const SsProto *p);
extern SsMonotonic ss_proto_oldest(const SsProto *p);

#endif
