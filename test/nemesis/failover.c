/*
 * failover.c
 *		Promotion of a standby while the old primary is still running.
 */
#include <pthread.h>
#include <stdlib.h>

#include "nemesis.h"

/* The last message of a history, and a number that stands for its version. */
#define LAST_MESSAGE                                                                             \
	"SELECT coalesce((SELECT (h.message ->> 'v')::int FROM conversation_history h WHERE "        \
	"h.history_id = s.history_id ORDER BY h.seq DESC LIMIT 1), 0) FROM conversation_sessions s " \
	"WHERE namespace = '%s' AND session_id = '%s'; SELECT nextval('rank') FROM "                 \
	"conversation_sessions WHERE namespace = '%s' AND session_id = '%s'"
#define DOCUMENT                                                                  \
	"SELECT coalesce((session_data ->> 'v')::int, 0) FROM conversation_sessions " \
	"WHERE namespace = '%s' AND session_id = '%s'; SELECT version FROM "          \
	"conversation_sessions WHERE namespace = '%s' AND session_id = '%s'"

/* The rows of the new primary, before any client connects. */
static void
read_base(Client *c)
{
	base_begin();
	for (int k = 0; k < KEYS; k++)
	{
		const Key *key = &keys[k];

		c->db = key->db;
		if (!client_connect(c) || client_run(c, key->tail ? LAST_MESSAGE : DOCUMENT, key->ns,
											 key->id, key->ns, key->id) != OUTCOME_DONE)
			die("the new primary cannot be read");
		if (c->values[1][0] != '\0')
			base_row(k, atoi(c->values[0]), atoll(c->values[1]));
	}
}

/*
 * The standby becomes the primary while the old one is alive, with clients that do not know it;
 * after a while the old one is killed.
 */
void
fail_over(void)
{
	static pthread_t zombie;
	static Task task;
	Client c = {.node = 1, .connected_to = 1};
	int64_t until = now_us() + 30 * SEC;
	int64_t switched;

	run.switching = true;
	run.promoted_at = now_us();
	/* for a while the new one does not reach Redis, where the old one continues */
	proxy_set(PROXY_SHUT, 0);
	/* replayed WAL may cost the connection: repeat until it succeeds */
	while (!client_connect(&c) || client_run(&c, "SELECT pg_is_in_recovery()") != OUTCOME_DONE ||
		   c.values[0][0] != 'f')
	{
		if (now_us() > until)
			die("the standby was not promoted");
		if (c.pg != NULL && c.nvalues > 0)
			(void) client_run(&c, "SELECT pg_promote(false)");
		pause_us(10 * MS);
	}
	read_base(&c);
	client_close(&c);
	run.node = 1;
	run.switching = false;
	switched = now_us();
	task.seed = run.seed;
	start_thread(&zombie, zombie_writer, &task);
	while (now_us() < run.promoted_at + (int64_t) (run.seed % 4) * SEC)
		pause_us(20 * MS);
	proxy_set(PROXY_PASS, 0);
	(void) pthread_join(zombie, NULL);
	node_kill(0);
	say("promoted; clients went there after %.3f s, it took Redis over after %.3f s, and the old "
		"primary was shot after %.3f s",
		(double) (switched - run.promoted_at) / 1e6,
		dbs[0].taken_over_at == 0 ? -1.0 : (double) (dbs[0].taken_over_at - run.promoted_at) / 1e6,
		(double) (now_us() - run.promoted_at) / 1e6);
}
