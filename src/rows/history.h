/*
 * history.h
 *		The messages of a session.
 */
#ifndef SS_HISTORY_H
#define SS_HISTORY_H

#include "utils/uuid.h"

#include "rows/aside.h"
#include "rows/change.h"
#include "rows/schema.h"

/* The messages of one append. */
typedef struct SsMessages
{
	int count;
	Datum *message;     /* jsonb */
	Datum operation_id; /* 0: none */
} SsMessages;

/* A window of a history. */
typedef struct SsWindow
{
	int64 last;   /* number of messages, or -1 for all */
	int64 before; /* the window ends before this seq */
} SsWindow;

/* Called with each message, oldest first.  The Datums are valid during the call only. */
typedef void (*SsMessageSink)(void *arg, Datum seq, Datum message, Datum created_at);

extern int64 ss_history_append(SsTarget *target, const SsMessages *messages);
extern void ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink,
							void *arg);
extern bool ss_history_pop(SsTarget *target, int64 n, Datum *popped);
extern bool ss_history_trim(SsTarget *target, int64 keep, int64 *removed);
extern void ss_history_assign_id(SsRow *row);
extern int64 ss_history_next_seq(const SsRow *row, int64 n);
extern int64 ss_history_add_count(int64 count, int64 more);
extern int64 ss_history_count(const SsRow *row, int64 up_to);
extern bool ss_history_find_session(const pg_uuid_t *history, SsKey *key);

/* history_end.c: messages and members after the end of their session */
extern void ss_history_detach(const SsDeformedRow *old, const SsDeformedRow *new);
extern void ss_history_detach_all(void);
extern void ss_history_clear_queue(void);
extern bool ss_history_is_queued(const pg_uuid_t *history);
extern bool ss_history_purge(Datum ns, int64 limit, SsAside *aside, int64 *removed);
extern bool ss_history_remove(const pg_uuid_t *history, int64 limit, int64 *removed);

/*
 * True while this backend removes messages of ended sessions.  Redis holds no copy of these, so the
 * trigger on conversation_history need not record the change.
 */
extern bool ss_history_purging;

#endif
