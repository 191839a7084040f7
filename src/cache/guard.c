/*
 * guard.c
 *		Whose a Redis is: what the guard in it says, and what we make of that.
 *
 * The guard is a key that names its owner, the epoch of the owner's claim, and the batch
 * that was carried out last.  Each batch of ours says which one it is, and after which it
 * may be carried out: batches make a chain (R5), whose last link is in the guard.
 *
 * When a request's fate is unknown (no answer, broken connection), its id joins the chain
 * as one more possible predecessor: either it was carried out, or its turn is over once a
 * later one was.
 *
 * Before a claim its token and epoch are recorded in the database (standing.c), so the next
 * pusher knows them whatever happened to this one.  Epochs grow with each claim.
 *
 * What a probe finds, and what follows:
 *
 *	the last of our chain		RUN
 *	this database is a copy		REFUSED, whatever Redis says, until session_cache_takeover()
 *	another link of ours, or	CLAIM: Redis lost something, or the answer to a claim
 *	an earlier pusher's here	was lost
 *	no guard					CLAIM, but not soon after another's was there (YIELD)
 *	a guard of this database at this timeline,
 *	  of a recorded claim, or	REFUSED until it has been quiet for long enough, then
 *	  older than all of them	CLAIM: a copy of the block device may be its owner.  If it
 *								changes meanwhile there is one: REFUSED until takeover
 *	  of any other claim		REFUSED until takeover: a copy has claimed it since
 *	an earlier timeline's		likewise CLAIM when it has been quiet, or at once with
 *								takeover = promoted
 *	a later timeline's			REFUSED from then on: this server was superseded
 *	another owner's				REFUSED
 *
 * Who is told to take over claims whatever the guard says.  A claim is carried out only where
 * the guard is still as it was found.
 */
#include <string.h>

#include "cache/guard.h"
#include "cache/rules.h"

#define MS INT64_C(1000)

/* How long a guard must not have changed before its owner counts as gone. */
#define QUIET (1200 * MS)
#define WATCH_PAUSE (200 * MS)
#define CLAIM_PAUSE (50 * MS)
#define REFUSED_PAUSE (1000 * MS)

/* Whoever yielded to another does not seize what that one has lost before it could. */
#define YIELD (SS_LEASE_LONGEST + 5000 * MS)

/*
 * So long after the first connection a batch of an earlier pusher of ours may still be carried
 * out: its deadline is a second after it was sent.  What changes the guard later is alive.
 */
#define STRAY (3000 * MS)

/* No claim of ours has this epoch: none could follow it, in the table of claims or at all. */
#define EPOCH_MOST ((uint64_t) INT64_MAX)

static bool
same_id(const SsBatchId *a, const SsBatchId *b)
{
	return a->token == b->token && a->number == b->number;
}

/* Is the guard's last batch one that we know was, or may have been, the last? */
static bool
in_chain(const SsProto *p, const SsBatchId *id)
{
	for (int i = 0; i < p->nchain; i++)
		if (same_id(&p->chain[i], id))
			return true;
	return false;
}

/* Is a request of this kind a link of the chain? */
static bool
is_link(SsRequestKind kind)
{
	return kind == SS_REQUEST_BATCH || kind == SS_REQUEST_FLUSH || kind == SS_REQUEST_REMOVE;
}

/* Fill in what the guard must say for the request to be carried out, and shall say then. */
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

/* The request is the last that was carried out. */
void
ss_guard_carried_out(SsProto *p)
{
	p->chain[0] = p->request.id;
	p->nchain = 1;
}

/* The request may be the last that was carried out, or will be. */
void
ss_guard_unanswered(SsProto *p)
{
	if (!is_link(p->request.kind))
		return;
	if (p->nchain < SS_CHAIN_MAX)
		p->chain[p->nchain++] = p->request.id;
	else
		p->nchain = 0; /* too many that may have been: claim anew */
}

static SsStage
refuse(SsProto *p, SsRefusal why, int64_t now, int64_t pause)
{
	p->refusal = why;
	if (why != SS_REFUSED_UNRECORDED)
		p->yielded = true;
	p->probe_at = now + pause;
	return SS_STAGE_REFUSED;
}

/* The guard of one who says to be us, or an earlier timeline of ours: is anybody there? */
static SsStage
watch(SsProto *p, const SsGuard *guard, bool older, int64_t now)
{
	int64_t quiet = older ? SS_LEASE_LONGEST : p->claimed ? SS_LEASE_LONGEST : QUIET;

	if (!p->watching || !same_id(&p->watched, &guard->last))
	{
		if (p->watching && !older && p->watched.token == guard->last.token &&
			guard->last.number > p->watched.number && now - p->connected_at > STRAY && SS_RULE(20))
			p->copied = true;
		p->watching = true;
		p->watched = guard->last;
		p->watched_since = now;
	}
	if (!guard->leased && now - p->watched_since >= quiet)
		return SS_STAGE_CLAIM;
	return refuse(p, older ? SS_REFUSED_OLDER : SS_REFUSED_SAME_IDENTITY, now, WATCH_PAUSE);
}

/* A guard that names this database, at this timeline or an earlier one. */
static SsStage
decide_ours(SsProto *p, const SsGuard *guard, int64_t now)
{
	bool older = guard->owner.timeline != p->me.timeline;

	if (guard->epoch >= EPOCH_MOST)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE);
	if (older && p->record.standing == SS_STANDING_NEW)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE);
	if (older && p->promoted)
		return SS_STAGE_CLAIM;
	if (older)
		return watch(p, guard, true, now);
	/* the token of a guard that cannot be read is 0, as is that of a pusher without a claim */
	if ((p->token != 0 && guard->last.token == p->token) ||
		(p->remembered != 0 && guard->last.token == p->remembered))
		return SS_STAGE_CLAIM; /* ours, of this server's life */
	if (SS_RULE(17) && ss_record_excludes(&p->record, guard->last.token, guard->epoch))
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE);
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

/* Whose is this Redis?  The stage that follows: RUN when it is ours. */
SsStage
ss_guard_decide(SsProto *p, const SsGuard *guard, int64_t now)
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
		return refuse(p, SS_REFUSED_UNRECORDED, now, WATCH_PAUSE);
	if (p->takeover)
		return SS_STAGE_CLAIM;
	if (ss_standing_is_copy(p->record.standing))
		return refuse(p, SS_REFUSED_COPY, now, REFUSED_PAUSE);
	if (p->superseded)
		return refuse(p, SS_REFUSED_NEWER, now, REFUSED_PAUSE);
	if (p->copied)
		return refuse(p, SS_REFUSED_RIVAL, now, REFUSED_PAUSE);
	if (!guard->present && p->yielded && now - p->guard_seen_at < YIELD)
		return refuse(p, p->refusal, now, REFUSED_PAUSE);
	if (!guard->present)
		return SS_STAGE_CLAIM;
	if (!ours)
		return refuse(p, SS_REFUSED_OTHER, now, REFUSED_PAUSE);
	return decide_ours(p, guard, now);
}

/*
 * Begin a chain, with a claim to be sent.  One whose fate is unknown is repeated under the same
 * token: it was carried out at most once, and nothing was sent under it yet.
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
	/* the guard of the Redis that our last lease was in, and no other Redis may have one (R18) */
	p->ends_foreign = found->present && found->owner.system == p->me.system &&
					  found->owner.database == p->me.database && !p->record.moved &&
					  ss_record_has(&p->record, found->last.token);
	/* should the answer be lost, the next probe will tell */
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

/* A claim found the guard changed: somebody else was quicker; or it is none that we can read. */
SsStage
ss_guard_outrun(SsProto *p, int64_t now)
{
	p->probe_at = now + CLAIM_PAUSE;
	return SS_STAGE_REFUSED;
}

/* A claim could not be recorded, so it was not sent. */
SsStage
ss_guard_unrecorded(SsProto *p, int64_t now)
{
	return refuse(p, SS_REFUSED_UNRECORDED, now, REFUSED_PAUSE);
}
