/*
 * backend.c
 *		PostgreSQL servers: rows with all their versions, and the transactions that change them.
 *
 * A transaction locks its rows in order, enters its keys, waits at the fence and becomes visible.
 * Only later, perhaps much later, it runs its callback and releases its locks.  Each step is an event.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

int
namespace_of(int key)
{
	return key % NAMESPACES;
}

static int64_t
new_value(void)
{
	if (++w.values >= w.committed_room)
	{
		int64_t room = w.committed_room == 0 ? 1024 : w.committed_room * 2;

		w.committed = realloc(w.committed, room);
		memset(w.committed + w.committed_room, 0, room - w.committed_room);
		w.committed_room = room;
	}
	return w.values;
}

/* Identifies a writer of Redis: two servers that claim the same Redis differ. */
uint32_t
writer_of(const Node *node)
{
	return node->owner.timeline + (node->copy == COPY_NONE ? 0 : WRITER_COPY);
}

void
add_version(Node *node, int key, int64_t value, int64_t ends, bool fenced)
{
	Row *row = &node->row[key];

	if (row->count == row->room)
	{
		row->room = row->room == 0 ? 16 : row->room * 2;
		row->versions = realloc(row->versions, sizeof(Version) * row->room);
	}
	row->versions[row->count].value = value;
	row->versions[row->count].ends = ends;
	row->versions[row->count].at = w.now;
	row->versions[row->count].fenced = fenced;
	row->count++;
	if (value != 0)
		w.committed[value] = 1;
}

/* The row as a snapshot taken now sees it; NULL: no living session. */
const Version *
row_now(const Node *node, int key)
{
	const Row *row = &node->row[key];
	const Version *last = row->count > 0 ? &row->versions[row->count - 1] : NULL;

	return last != NULL && last->value != 0 && last->ends > w.now ? last : NULL;
}

static int64_t
some_end(void)
{
	return w.now + (chance(200000) ? between(500 * MS, 10 * SEC) : 600 * SEC);
}

static void
later(Node *node, int number, int64_t pause)
{
	post(w.now + pause, EVENT_BACKEND, (int) (node - w.node), number, node->backend[number].serial,
		 NULL);
}

/* A short time between two steps.  Occasionally the backend is stopped there. */
static int64_t
gap(int64_t most)
{
	if (!w.quiet && chance(w.config.backend_stall))
	{
		totals.happened[HAPPENED_BACKEND_STALL]++;
		return spread(w.config.backend_stall_least, 5 * SEC);
	}
	return between(0, most);
}

static void
release_locks(Node *node, int number)
{
	Backend *b = &node->backend[number];

	for (int i = 0; i < b->keys; i++)
		if (node->row[b->key[i]].locker == number)
			node->row[b->key[i]].locker = -1;
	if (node->table_locker == number)
		node->table_locker = -1;
	for (int i = 0; i < w.config.backends; i++)
		if (node->backend[i].state == BACKEND_LOCK && node->backend[i].waits_for >= 0)
		{
			node->backend[i].waits_for = -1;
			later(node, i, between(1, 50));
		}
}

static void
idle(Node *node, int number)
{
	Backend *b = &node->backend[number];

	b->state = BACKEND_IDLE;
	b->keys = 0;
	later(node, number, spread(w.config.think / 8 + 1, w.config.think * 4));
}

/*
 * A change of policy ends all sessions of its namespace without adding their keys.  It locks
 * no rows: what others do to them meanwhile happens before or after.
 */
static void
begin_policy(Node *node, int number)
{
	Backend *b = &node->backend[number];

	b->change = CHANGE_POLICY;
	b->ns = (int) between(0, NAMESPACES - 1);
	b->aborts = chance(60000);
	b->fenced = true;
	b->policy = ss_control_policy_begin(&node->control);
	node->policy[b->ns] = b->policy;
	totals.happened[HAPPENED_POLICY]++;
	say("node %d backend %d: policy %d of namespace %d", (int) (node - w.node), number,
		(int) b->policy, b->ns);
	b->state = BACKEND_TICKET;
	later(node, number, gap(50));
}

static void
begin(Node *node, int number)
{
	Backend *b = &node->backend[number];
	uint64_t serial = b->serial;
	int wanted = chance(w.config.big) ? (int) between(2, w.config.keys) : (int) between(1, 2);
	int64_t left = w.config.keys;

	if (w.quiet)
		return;
	memset(b, 0, sizeof(*b));
	b->serial = serial;
	b->waits_for = -1;
	b->truncates = node->table_locker < 0 && chance(w.config.truncate);
	if (b->truncates)
	{
		wanted = w.config.keys;
		node->table_locker = number;
		totals.happened[HAPPENED_TRUNCATE]++;
	}
	b->change = b->truncates || chance(330000) ? CHANGE_DELETE
				: chance(300000)               ? CHANGE_TOUCH
											   : CHANGE_SAVE;
	if (!b->truncates && chance(w.config.policy))
	{
		begin_policy(node, number);
		return;
	}
	b->fenced = b->truncates || chance(w.config.fence_all) ||
				(b->change == CHANGE_DELETE && chance(w.config.fenced_delete));
	b->aborts = chance(60000);
	for (int key = 0; key < w.config.keys && wanted > 0; key++, left--)
		if (between(1, left) <= wanted)
		{
			b->key[b->keys++] = key;
			wanted--;
		}
	b->state = BACKEND_LOCK;
	later(node, number, 1);
}

/* All rows are locked: determines what changes, and which keys are recorded. */
static void
decide(Node *node, int number)
{
	Backend *b = &node->backend[number];
	bool any_fenced = false;
	int recorded = 0;

	for (int i = 0; i < b->keys; i++)
	{
		int ns = namespace_of(b->key[i]);
		bool alive = row_now(node, b->key[i]) != NULL;

		b->recorded[i] = (alive || b->change == CHANGE_SAVE) && (node->on[ns] || SS_RULE(13));
		b->key_fenced[i] = b->recorded[i] && b->fenced && node->on[ns];
		any_fenced = any_fenced || b->key_fenced[i];
		recorded += b->recorded[i];
	}
	b->fenced = any_fenced;
	b->unlisted = recorded > w.config.listed_most || (b->truncates && recorded > 0);
	if (b->unlisted && SS_RULE(11))
		ss_control_unlisted_begin(&node->control);
	totals.happened[HAPPENED_UNLISTED] += b->unlisted;
	b->state = !SS_RULE(7) ? BACKEND_COMMIT : b->unlisted ? BACKEND_TICKET : BACKEND_ENTER;
}

/* Takes the remaining locks; waits for the first one that another backend holds. */
static void
lock(Node *node, int number)
{
	Backend *b = &node->backend[number];

	if (b->next == 0 && node->table_locker >= 0 && node->table_locker != number)
	{
		b->waits_for = KEYS_MOST;
		return;
	}
	for (; b->next < b->keys; b->next++)
	{
		Row *row = &node->row[b->key[b->next]];

		if (row->locker >= 0 && row->locker != number)
		{
			b->waits_for = b->key[b->next];
			return;
		}
		row->locker = number;
	}
	b->next = 0;
	decide(node, number);
	later(node, number, gap(300));
}

static int
flags_of(const Backend *b, int i)
{
	return (b->change == CHANGE_TOUCH ? SS_CHANGED_EXPIRY : SS_CHANGED_DOCUMENT) |
		   (b->key_fenced[i] ? SS_CHANGED_FENCED : 0);
}

static void
enter(Node *node, int number)
{
	Backend *b = &node->backend[number];
	int i = b->next++;

	if (i >= b->keys)
	{
		b->state = BACKEND_TICKET;
		backend_step(node, number);
		return;
	}
	if (b->recorded[i])
	{
		int key = b->key[i];

		b->entered[i] = ss_ledger_enter(node->ledger, &node->control, &w.key[key], w.hash[key],
										flags_of(b, i), w.now);
		if (!b->entered[i])
		{
			const SsLedgerPartition *partition =
				&node->ledger->partitions[w.hash[key] % SS_LEDGER_PARTITIONS];

			if (partition->count[MEMBER] < ss_shares_of(&node->ledger->shares, MEMBER))
				violation("shares: refused at %d keys of a share of %d", partition->count[MEMBER],
						  ss_shares_of(&node->ledger->shares, MEMBER));
			b->unlisted = true;
			totals.happened[HAPPENED_UNLISTED]++;
			if (SS_RULE(11))
				ss_control_unlisted_begin(&node->control);
			b->state = BACKEND_TICKET;
		}
		say("node %d backend %d: key %d is %s", (int) (node - w.node), number, key,
			b->entered[i] ? b->key_fenced[i] ? "in doubt, fenced" : "in doubt" : "unlisted");
	}
	later(node, number, gap(5));
}

static void
take_ticket(Node *node, int number)
{
	Backend *b = &node->backend[number];
	int64_t most = w.config.lease_most + w.config.lease_most / 100 + 20 * MS;

	b->ticket = ss_control_ticket(&node->control, &b->lease_until);
	b->ticket_at = w.now;
	if (most < SS_LEASE_LONGEST_US)
		most = SS_LEASE_LONGEST_US;
	if (b->lease_until > w.now + most)
		violation("a transaction may have to wait for %.3f s",
				  (double) (b->lease_until - w.now) / 1e6);
	b->state = b->fenced ? BACKEND_FENCE : BACKEND_COMMIT;
	if (b->fenced)
		pusher_wake(node);
	later(node, number, gap(50));
}

static void
fence(Node *node, int number)
{
	Backend *b = &node->backend[number];
	int64_t waited = w.now - b->ticket_at;
	bool passes = b->change == CHANGE_POLICY
					  ? ss_control_policy_passes(&node->control, b->policy, b->lease_until, w.now)
					  : ss_control_passes(&node->control, b->ticket, b->lease_until, w.now);

	if (!passes && !b->aborts)
	{
		later(node, number, waited < 10 * MS ? between(50, 500) : between(500, 4000));
		return;
	}
	if (!b->aborts)
		totals.happened[b->ticket <= node->control.passed ? HAPPENED_FENCE_BY_ACK
														  : HAPPENED_FENCE_BY_TIME]++;
	b->state = BACKEND_COMMIT;
	later(node, number, gap(300));
}

/* The transaction becomes visible; the pusher does not know yet. */
static void
become_visible(Node *node, Backend *b)
{
	totals.commits++;
	b->visible = true;
	for (int key = 0; key < w.config.keys && b->change == CHANGE_POLICY; key++)
		if (namespace_of(key) == b->ns)
		{
			add_version(node, key, 0, NEVER, true);
			check_key(key);
		}
	for (int i = 0; i < b->keys; i++)
	{
		const Version *old = row_now(node, b->key[i]);
		int64_t value = 0;
		int64_t ends = NEVER;

		if (old == NULL && b->change != CHANGE_SAVE)
			continue;
		if (b->change == CHANGE_TOUCH)
			value = old->value;
		else if (b->change == CHANGE_SAVE)
			value = new_value();
		if (value != 0)
			ends = some_end();
		add_version(node, b->key[i], value, ends, b->key_fenced[i]);
		say("node %d backend %d: key %d is %d%s", (int) (node - w.node), (int) (b - node->backend),
			b->key[i], (int) value, b->key_fenced[i] ? ", fenced" : "");
	}
	for (int i = 0; i < b->keys; i++)
		check_key(b->key[i]);
}

static void
resolve(Node *node, int number, int i)
{
	Backend *b = &node->backend[number];
	int key = b->key[i];

	if (!SS_RULE(7) && b->recorded[i])
		b->entered[i] = ss_ledger_enter(node->ledger, &node->control, &w.key[key], w.hash[key],
										flags_of(b, i) & ~SS_CHANGED_FENCED, w.now);
	if (b->entered[i])
		ss_ledger_resolve(node->ledger, &node->control, &w.key[key], w.hash[key]);
}

static void
callback(Node *node, int number)
{
	Backend *b = &node->backend[number];

	if (b->next < b->keys)
	{
		resolve(node, number, b->next++);
		later(node, number, between(0, 3));
		return;
	}
	if (b->unlisted && SS_RULE(11))
		ss_control_unlisted_end(&node->control);
	if (b->change == CHANGE_POLICY)
		ss_control_policy_end(&node->control);
	pusher_wake(node);
	say("node %d backend %d: resolved", (int) (node - w.node), number);
	release_locks(node, number);
	idle(node, number);
}

void
backend_step(Node *node, int number)
{
	Backend *b = &node->backend[number];

	switch (b->state)
	{
		case BACKEND_IDLE:
			begin(node, number);
			break;
		case BACKEND_LOCK:
			lock(node, number);
			break;
		case BACKEND_ENTER:
			enter(node, number);
			break;
		case BACKEND_TICKET:
			take_ticket(node, number);
			break;
		case BACKEND_FENCE:
			fence(node, number);
			break;
		case BACKEND_COMMIT:
			if (b->aborts)
				totals.happened[HAPPENED_ABORT]++;
			else
				become_visible(node, b);
			b->state = BACKEND_CALLBACK;
			b->next = 0;
			later(node, number, gap(200));
			break;
		case BACKEND_CALLBACK:
			callback(node, number);
			break;
	}
}

/*
 * Another database of the server writes as much as it may, and its Redis accepts nothing.
 * Only what is reserved for us is left of the ledger.
 */
static void
fill_by_neighbour(Node *node)
{
	SsControl control;

	ss_control_init(&control, MEMBER + 1, w.now);
	ss_ledger_share(node->ledger, MEMBER + 1, true);
	for (int n = 0; n < 2 * ss_ledger_room(node->ledger); n++)
	{
		SsKey key = {.database = DATABASE + 100, .nslen = 1};
		uint32_t hash;

		key.idlen = (uint8_t) snprintf(key.bytes, sizeof(key.bytes), "n%d", n) - 1;
		hash = ss_key_hash(&key);
		(void) ss_ledger_enter(node->ledger, &control, &key, hash, SS_CHANGED_DOCUMENT, w.now);
	}
	if (ss_ledger_count(node->ledger, MEMBER + 1) > ss_ledger_allowed(node->ledger, MEMBER + 1))
		violation("shares: a neighbour has more than it may");
}

/* The server starts with empty shared memory; its rows are as before. */
void
node_start(Node *node)
{
	size_t size = ss_ledger_size(w.config.ledger_keys);

	node->up = true;
	node->life = ++w.serials;
	/* of the exact size, so that a sanitizer detects accesses beyond it */
	free(node->ledger);
	node->ledger = malloc(size);
	ss_ledger_init(node->ledger, w.config.ledger_keys);
	ss_control_init(&node->control, MEMBER, w.now);
	ss_ledger_share(node->ledger, MEMBER, true);
	if (w.config.neighbour)
		fill_by_neighbour(node);
	/* as the keeper does */
	if (!node->has_claim && !node->was_standby)
		ss_control_never_leased(&node->control, 0);
	node->table_locker = -1;
	memset(node->policy, 0, sizeof(node->policy));
	memset(node->backend, 0, sizeof(node->backend));
	for (int key = 0; key < KEYS_MOST; key++)
		node->row[key].locker = -1;
	for (int i = 0; i < w.config.backends; i++)
	{
		node->backend[i].serial = ++w.serials;
		node->backend[i].waits_for = -1;
		later(node, i, between(0, w.config.think));
	}
	node->pusher.serial = ++w.serials;
	node->pusher.remembered = 0;
	node->pusher.copied = false;
	post(w.now + spread(MS, 300 * MS), EVENT_START_WORKER, (int) (node - w.node), node->life, 0,
		 NULL);
}

/* The server crashes.  A transaction that was committing may turn out to be committed. */
void
node_stop(Node *node)
{
	pusher_broken(node);
	for (int i = 0; i < w.config.backends; i++)
	{
		Backend *b = &node->backend[i];

		if (b->state == BACKEND_COMMIT && !b->aborts && chance(300000))
			become_visible(node, b);
		b->serial = ++w.serials;
	}
	node->up = false;
	node->life = ++w.serials;
	node->pusher.state = PUSHER_NONE;
	node->pusher.open = false;
	node->pusher.serial = ++w.serials;
}

void
node_free(Node *node)
{
	for (int key = 0; key < KEYS_MOST; key++)
		free(node->row[key].versions);
	free(node->ledger);
	memset(node, 0, sizeof(*node));
}

/* Changes all keys once, without faults.  False: the ledger had no room for all of them. */
bool
backend_save_all(Node *node)
{
	int64_t lease_until;
	bool all = true;

	for (int key = 0; key < w.config.keys; key++)
	{
		bool entered = ss_ledger_enter(node->ledger, &node->control, &w.key[key], w.hash[key],
									   SS_CHANGED_DOCUMENT, w.now);

		all = all && entered;
		if (!entered)
			ss_control_unlisted_begin(&node->control);
		(void) ss_control_ticket(&node->control, &lease_until);
		add_version(node, key, new_value(), w.now + 600 * SEC, false);
		if (entered)
			ss_ledger_resolve(node->ledger, &node->control, &w.key[key], w.hash[key]);
		else
			ss_control_unlisted_end(&node->control);
	}
	pusher_wake(node);
	return all;
}
