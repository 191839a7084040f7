/*
 * guard.c
 *		Decides who owns a Redis, from the guard in it and our own record of claims.
 *
 * The guard is a hash in Redis that names the owner, the epoch of its claim, and the batch that
 * was carried out last.  Each batch of ours names itself and the batches after which it may be
 * carried out.  So batches form a chain (R5), whose last link is in the guard.
 *
 * If it is unknown whether a request was carried out (no answer, broken connection), its id
 * becomes one more possible predecessor: either it was carried out, or it never will be once a
 * later one was.
 *
 * Token and epoch of a claim are recorded in the database (standing.c) before it is sent, so that
 * the next pusher knows them however this one ends.  Each claim has a greater epoch.
 *
 * What a probe finds, and what follows:
 *
 *	the last batch of our chain	RUN
 *	this database is a copy		REFUSED, whatever Redis says, until session_cache_takeover()
 *	another batch of ours, or	CLAIM: Redis lost something, or the answer to a claim was lost
 *	  of an earlier pusher here
 *	no guard					CLAIM, but not soon after another's guard was there (YIELD_US)
 *	a guard of this database at this timeline,
 *	  of a recorded claim, or	REFUSED until it has not changed for long enough, then CLAIM: a
 *	  older than all of them	copy of the block device may own it.  If it changes meanwhile,
 *								there is such a copy: REFUSED until takeover
 *	  of any other claim		REFUSED until takeover: a copy has claimed it since
 *	an earlier timeline's		likewise CLAIM when it has not changed for long enough, or at once
 *								with takeover = promoted
 *	a later timeline's			REFUSED from then on: this server was superseded
 *	another owner's				REFUSED
 *
 * After session_cache_takeover() a claim follows whatever the guard says.  A claim is carried out
 * only if the guard is still as it was found.
 */
#include <string.h>

#include "protocol/guard.h"
#include "protocol/rules.h"

#define US_PER_MS INT64_C(1000)

/* The owner of a guard counts as gone after the guard has not changed for this long. */
#define QUIET_US (1200 * US_PER_MS)
#define WATCH_PAUSE_US (200 * US_PER_MS)
#define CLAIM_PAUSE_US (50 * US_PER_MS)
#define REFUSED_PAUSE_US (1000 * US_PER_MS)

/*
 * After we were refused, another's guard must have been missing for this long before we claim:
 * what its owner has lost it may claim first.
 */
#define YIELD_US (SS_LEASE_LONGEST_US + 5000 * US_PER_MS)

/*
 * For this long after the first connection a batch of an earlier pusher of ours may still be
 * carried out, because its deadline is a second after it was sent.  If the guard changes
 * later, its owner is alive.
 */
#define STRAY_US (3000 * US_PER_MS)

/*
 * No claim of ours has this epoch: none could follow it, neither in the table of claims nor at
 * all.
 */
#define EPOCH_MOST ((uint64_t) INT64_MAX)

static bool
same_id(const SsBatchId *a, const SsBatchId *b)
{
	return a->token == b->token && a->number == b->number;
}

/* Is this batch one that was, or may have been, carried out last? */
static bool
in_chain(const SsProto *p, const SsBatchId *id)
{
	for (int i = 0; i < p->nchain; i++)
		if (same_id(&p->chain[i], id))
			return true;
	return false;
}

/* Are requests of this kind part of the chain? */
static bool
is_link(SsRequestKind kind)
{
	return kind == SS_REQUEST_BATCH || kind == SS_REQUEST_FLUSH || kind == SS_REQUEST_REMOVE;
}

/*
 * Fills in what the guard must say for the request to be carried out, and what it shall say
 * then.
 */
void
ss_guard_sign(SsProto *p)
{
	SsRequest *r = &p->request;

	r->epoch = p->epoch;
	if (r->kind == SS_REQUEST_CLAIM)
	{
		r->id = p->chain[0];
		r->expected = p->guard;
	}
	else if (is_link(r->kind))
	{
		r->id.token = p->token;
		r->id.number = ++p->number;
		r->nprevious = SS_RULE(5) ? p->nchain : 0;
		memcpy(r->previous, p->chain, sizeof(p->chain));
	}
}

/* The request is the last one that was carried out. */
void
ss_guard_carried_out(SsProto *p)
{
	p->chain[0] = p->request.id;
	p->nchain = 1;
}

/* The request may have been carried out, or may still be. */
void
ss_guard_unanswered(SsProto *p)
{
	if (!is_link(p->request.kind))
		return;
	if (p->nchain < SS_CHAIN_MAX)
		p->chain[p->nchain++] = p->request.id;
	else
		p->nchain = 0; /* too many possible predecessors: claim again */
}

/* Enters the stage REFUSED until the next probe after `pause`. */
static SsStage
refuse(SsProto *p, SsRefusal why, SsMonotonic now, int64_t pause_us)
{
	p->refusal = why;
	if (why != SS_REFUSED_UNRECORDED)
		p->yielded = true;
	p->probe_at = now + pause_us;
	return SS_STAGE_REFUSED;
}

/* The guard names us, or an earlier timeline of ours: finds out whether its owner is alive. */
static SsStage
watch(SsProto *p, const SsGuard *guard, bool older, SsMonotonic now)
{
	int64_t quiet_us = older ? SS_LEASE_LONGEST_US : p->claimed ? SS_LEASE_LONGEST_US : QUIET_US;

	if (!p->watching || !same_id(&p->watched, &guard->last))
	{
		if (p->watching && !older && p->watched.token == guard->last.token &&
			guard->last.number > p->watched.number && now - p->connected_at > STRAY_US &&
			SS_RULE(20))
			p->copied = true;
		p->watching = true;
		p->watched = guard->last;
		p->watched_since = now;
	}
	if (!guard->leased && now - p->watched_since >= quiet_us)
		return SS_STAGE_CLAIM;
	return refuse(p, older ? SS_REFUSED_OLDER : SS_REFUSED_SAME_IDENTITY, now, WATCH_PAUSE_US);
}

/* Decides about a guard that names this database, at this timeline or an earlier one. */
static SsStage
decide_ours(SsProto *p, const SsGuard *guard, SsMonotonic now)
{
	bool older = guard->owner.timeline != p->me.timeline;

	if (guard->epoch >= EPOCH_MOST)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE_US);
	if (older && p->record.standing == SS_STANDING_NEW)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE_US);
	if (older && p->promoted)
		return SS_STAGE_CLAIM;
	if (older)
		return watch(p, guard, true, now);
	/* the token of an unreadable guard is 0, as is that of a pusher without a claim */
	if ((p->token != 0 && guard->last.token == p->token) ||
		(p->remembered != 0 && guard->last.token == p->remembered))
		return SS_STAGE_CLAIM; /* ours, since the start of this server */
	if (SS_RULE(17) && ss_record_excludes(&p->record, guard->last.token, guard->epoch))
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE_US);
	return watch(p, guard, false, now);
}

/* Our last claim was carried out. */
static void
confirm(SsProto *p)
{
	if (!p->pending)
		return;
	p->pending = p->ends_foreign = p->copied = false;
	p->base_epoch = p->epoch;
	p->remembered = p->token;
	p->record.standing = SS_STANDING_OWNER;
	p->record.database = p->me.database;
	p->claimed = true;
	p->takeover = false;
}

/* Decides who owns this Redis and returns the next stage; RUN if it is ours. */
SsStage
ss_guard_decide(SsProto *p, const SsGuard *guard, SsMonotonic now)
{
	bool ours = guard->owner.system == p->me.system && guard->owner.database == p->me.database;
	bool same = ours && guard->owner.timeline == p->me.timeline;

	if (guard->present)
		p->guard_seen_at = now;
	p->guard = *guard;
	if (guard->present && ours && guard->owner.timeline > p->me.timeline)
		p->superseded = !p->takeover;
	if (same && guard->present && guard->epoch == p->epoch && in_chain(p, &guard->last) &&
		!p->superseded)
	{
		confirm(p);
		p->watching = p->yielded = false;
		p->refusal = SS_REFUSED_NONE;
		return SS_STAGE_RUN;
	}
	if (!guard->present && p->leaving)
		return SS_STAGE_LEFT;
	if (p->record.standing == SS_STANDING_UNKNOWN && SS_RULE(15))
		return refuse(p, SS_REFUSED_UNRECORDED, now, WATCH_PAUSE_US);
	if (p->takeover)
		return SS_STAGE_CLAIM;
	if (ss_standing_is_copy(p->record.standing))
		return refuse(p, SS_REFUSED_COPY, now, REFUSED_PAUSE_US);
	if (p->superseded)
		return refuse(p, SS_REFUSED_NEWER, now, REFUSED_PAUSE_US);
	if (p->copied)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE_US);
	if (!guard->present && p->yielded && now - p->guard_seen_at < YIELD_US)
		return refuse(p, p->refusal, now, REFUSED_PAUSE_US);
	if (!guard->present)
		return SS_STAGE_CLAIM;
	if (!ours)
		return refuse(p, SS_REFUSED_OTHER, now, REFUSED_PAUSE_US);
	return decide_ours(p, guard, now);
}

/*
 * Starts a chain with a claim to be sent.  A claim whose result is unknown is repeated with
 * the same token: it was carried out at most once, and nothing was sent with that token yet.
 */
void
ss_guard_claim(SsProto *p, uint64_t token)
{
	const SsGuard *found = &p->guard;

	if (!p->pending)
		p->token = token;
	p->pending = true;
	p->number = 0;
	p->epoch = p->base_epoch + 1;
	if (found->epoch >= p->epoch && found->epoch < EPOCH_MOST)
		p->epoch = found->epoch + 1;
	/*
	 * it is the guard of the Redis that had our last lease, and no other Redis may have one (R18)
	 */
	p->ends_foreign = found->present && found->owner.system == p->me.system &&
					  found->owner.database == p->me.database && !p->record.moved &&
					  ss_record_has(&p->record, found->last.token);
	/* if the answer is lost, the next probe tells */
	p->chain[0].token = p->token;
	p->chain[0].number = 0;
	p->nchain = 1;
}

/* The claim was carried out: Redis is ours. */
void
ss_guard_claimed(SsProto *p)
{
	bool others = p->guard.present && memcmp(&p->guard.owner, &p->me, sizeof(p->me)) != 0;

	p->counts.claims++;
	p->counts.takeovers += others ? 1 : 0;
	confirm(p);
	p->watching = p->superseded = p->yielded = false;
	p->refusal = SS_REFUSED_NONE;
}

/* A claim found the guard changed: another claim was faster, or the guard is unreadable. */
SsStage
ss_guard_outrun(SsProto *p, SsMonotonic now)
{
	p->probe_at = now + CLAIM_PAUSE_US;
	return SS_STAGE_REFUSED;
}

/* A claim could not be recorded, so it was not sent. */
SsStage
ss_guard_unrecorded(SsProto *p, SsMonotonic now)
{
	return refuse(p, SS_REFUSED_UNRECORDED, now, REFUSED_PAUSE_US);
}
