/*
 * window.c
 *		Selects the newest messages of a session that fit into a number of tokens or messages.
 *
 * A window is the end of a history, from one message on.  It may begin at a message if
 *
 *		each result in the window has its call in the window.  A result belongs to the nearest call
 *		before it with its id.  A result whose call is not in the history is in no window.
 *
 *		it separates no reasoning from what it belongs to: the messages of the model that follow, up to
 *		the next reasoning or a message that is not the model's.
 *
 * Of these beginnings the oldest one is taken whose window fits and which is a message of a user; if
 * there is none, and not `strict`, the oldest one whose window fits.
 *
 * The history is read backwards, a page at a time, up to the first message that does not fit.  If the
 * window does not begin at a user's message, up to MAX_LOOKBACK messages of the model before it are
 * read in search of reasoning.  The window is then read forwards.  Both reads are in the caller's
 * snapshot, and take no lock.  Memory is bounded: of the messages only the open results are kept, and
 * no window goes beyond MAX_OPEN of them.
 *
 * The messages that a summary stands in for are in no window.  The summary comes before the messages,
 * and they get what it leaves of the limits.  A summary that exceeds them by itself is left out.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "sessions/history_read.h"
#include "sessions/message.h"
#include "sessions/summary.h"
#include "sessions/tokens.h"
#include "sessions/window.h"

#define MAX_LOOKBACK 100
#define MAX_OPEN 100000

/* The seq of a message, or none. */
typedef struct Begin
{
	bool found;
	int64 seq;
} Begin;

/* The state of the walk from the newest message backwards. */
typedef struct Walk
{
	const SsWindowLimits *limits;
	ArrayType *token_path;
	MemoryContext scratch; /* reset for each message */
	HTAB *open;            /* SsCallId: results in the window whose call was not met yet */
	const SsRow *row;      /* the session; its summary keeps messages out of the window */
	int64 messages;        /* number and tokens of the messages met */
	int64 tokens;
	Begin user;             /* the oldest beginning at a message of a user */
	Begin group;            /* the oldest beginning, undecided ones apart */
	Begin undecided;        /* an older one of the model, unless reasoning before belongs to it */
	bool undecided_reasons; /* the undecided one is reasoning itself */
	bool full;              /* the message met last, and with it all older ones, do not fit */
	int lookback;           /* number of messages met since */
} Walk;

/* Decides about the undecided beginning, given the message before it. */
static void
decide(Walk *walk, const SsMessageShape *before)
{
	if (!walk->undecided.found)
		return;
	if (before->reasoning)
		walk->undecided.found = false;
	else if (before->speaker != SS_SPEAKER_MODEL || walk->undecided_reasons)
	{
		walk->group = walk->undecided;
		walk->undecided.found = false;
	}
}

/* Adds the calls and results of a message; false if there are too many results without a call. */
static bool
match_calls(Walk *walk, const SsMessageShape *shape)
{
	/* backwards, so that a call answers no result before it */
	for (int i = shape->nrefs - 1; i >= 0; i--)
	{
		(void) hash_search(walk->open, &shape->refs[i].id,
						   shape->refs[i].answers ? HASH_ENTER : HASH_REMOVE, NULL);
		if (hash_get_num_entries(walk->open) > MAX_OPEN)
			return false;
	}
	return true;
}

/* Adds a message to the window; false if it does not fit. */
static bool
add_message(Walk *walk, Jsonb *message, const SsMessageShape *shape)
{
	int64 tokens;

	if (walk->messages >= walk->limits->max_messages)
		return false;
	tokens = walk->limits->max_tokens == PG_INT64_MAX
				 ? 0
				 : ss_message_tokens(message, walk->token_path);
	if (tokens > walk->limits->max_tokens - walk->tokens || !match_calls(walk, shape))
		return false;
	walk->messages++;
	walk->tokens += tokens;
	return true;
}

/* May the window begin at the message that was just added? */
static void
consider(Walk *walk, int64 seq, const SsMessageShape *shape)
{
	Begin begin = {true, seq};

	if (shape->continues || hash_get_num_entries(walk->open) > 0)
		return;
	switch (shape->speaker)
	{
		case SS_SPEAKER_USER:
			walk->user = begin;
			/* FALLTHROUGH */
		case SS_SPEAKER_OTHER:
			walk->group = begin;
			walk->undecided.found = false;
			break;
		case SS_SPEAKER_MODEL:
			walk->undecided = begin;
			walk->undecided_reasons = shape->reasoning;
			break;
	}
}

/* Does the summary of the session stand in for the message with this seq? */
static bool
is_summarized(const SsRow *row, int64 seq)
{
	return row->summary != (Datum) 0 && seq <= row->summary_up_to;
}

/* Called with each message, newest first.  False when the beginning of the window is known. */
static bool
visit(void *arg, int64 seq, Datum datum)
{
	Walk *walk = arg;
	MemoryContext old = MemoryContextSwitchTo(walk->scratch);
	Jsonb *message = DatumGetJsonbP(datum);
	SsMessageShape shape;

	ss_message_describe(&message->root, &shape);
	decide(walk, &shape);
	if (!walk->full && (is_summarized(walk->row, seq) || !add_message(walk, message, &shape)))
		walk->full = true;
	if (!walk->full)
		consider(walk, seq, &shape);
	MemoryContextSwitchTo(old);
	MemoryContextReset(walk->scratch);
	return !walk->full || (walk->undecided.found && !walk->user.found && !walk->limits->strict &&
						   ++walk->lookback <= MAX_LOOKBACK);
}

/* Finds the message at which the window begins. */
static Begin
find_begin(const SsRow *row, const SsWindowLimits *limits, ArrayType *token_path)
{
	Walk walk = {.limits = limits, .token_path = token_path, .row = row};
	HASHCTL ctl = {.keysize = sizeof(SsCallId), .entrysize = sizeof(SsCallId)};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "session_store window",
												  ALLOCSET_DEFAULT_SIZES);

	walk.scratch = AllocSetContextCreate(context, "session_store message", ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = context;
	walk.open = hash_create("session_store open calls", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ss_history_walk_back(row, limits->max_messages, visit, &walk);
	MemoryContextDelete(context);
	if (walk.user.found || limits->strict)
		return walk.user;
	/* no reasoning was found before it */
	return walk.undecided.found ? walk.undecided : walk.group;
}

/* What passes a message on with its tokens. */
typedef struct Counter
{
	ArrayType *token_path;
	MemoryContext scratch; /* reset for each message */
	SsWindowSink sink;
	void *arg;
} Counter;

static void
count_tokens(void *arg, Datum seq, Datum message, Datum created_at)
{
	Counter *counter = arg;
	MemoryContext old = MemoryContextSwitchTo(counter->scratch);
	int64 tokens = ss_message_tokens(DatumGetJsonbP(message), counter->token_path);

	MemoryContextSwitchTo(old);
	MemoryContextReset(counter->scratch);
	CHECK_FOR_INTERRUPTS();
	counter->sink(counter->arg, seq, message, created_at, tokens, false);
}

/*
 * Passes the summary of a session to the sink and takes it from the limits, unless there is none or it
 * exceeds them.
 */
static void
pass_summary(const SsRow *row, SsWindowLimits *limits, const Counter *counter)
{
	JsonbParseState *state = NULL;
	MemoryContext old;
	Jsonb *summary;
	int64 tokens;

	if (row->summary == (Datum) 0)
		return;
	old = MemoryContextSwitchTo(counter->scratch);
	summary = DatumGetJsonbP(row->summary);
	tokens = ss_message_tokens(summary, counter->token_path);
	if (tokens <= limits->max_tokens)
	{
		if (limits->max_tokens != PG_INT64_MAX)
			limits->max_tokens -= tokens;
		if (limits->max_messages != PG_INT64_MAX)
			limits->max_messages--;
		counter->sink(counter->arg, (Datum) 0,
					  JsonbPGetDatum(
						  JsonbValueToJsonb(ss_summary_push(&state, JsonbPGetDatum(summary)))),
					  (Datum) 0, tokens, true);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(counter->scratch);
}

/*
 * Reads a window of the messages in the caller's snapshot and passes them to the sink.  token_path
 * may be NULL.
 */
void
ss_window_read(const SsRow *row, const SsWindowLimits *limits, ArrayType *token_path,
			   SsWindowSink sink, void *arg)
{
	Counter counter = {.token_path = token_path, .sink = sink, .arg = arg};
	SsWindowLimits left = *limits;
	SsWindow window = SS_WINDOW_ALL;
	Begin begin;

	Assert(limits->max_tokens > 0 && limits->max_messages > 0);
	if (row->history_null)
		return;
	counter.scratch = AllocSetContextCreate(CurrentMemoryContext, "session_store message",
											ALLOCSET_DEFAULT_SIZES);
	pass_summary(row, &left, &counter);
	begin = find_begin(row, &left, token_path);
	if (begin.found)
	{
		window.from = begin.seq;
		ss_history_read(row, &window, count_tokens, &counter);
	}
	MemoryContextDelete(counter.scratch);
}
