/*
 * wire.c
 *		Sends the requests of the protocol to a real Redis.
 *
 * wire_connect.c connects and logs in, wire_keys.c has commands that are no requests of the
 * protocol, for the scrubber and for permissions.
 *
 * After a failure the connection is closed, unless stated otherwise.  The message in wire->error may
 * be logged: it never contains a session id, a document or the password.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "redis/wire.h"

/* Number of keys that a step of a flush scans; about a millisecond's work. */
#define FLUSH_STEP 2000

/*
 * How many prefixes of a guard are kept that no policy has, and their maximum length: that of
 * 100 bytes of a database encoding in UTF-8.
 */
#define LEARNED_MAX 10000
#define LEARNED_LENGTH 400

/* Closes the connection, if there is one. */
void
ss_wire_close(SsWire *wire)
{
	SsRedis *redis = wire->redis;

	wire->redis = NULL;
	ss_redis_close(redis);
}

/* Closes the connection after a failure, with the message set already. */
bool
ss_wire_broken(SsWire *wire)
{
	ss_wire_close(wire);
	return false;
}

/* Closes the connection because of an invalid reply. */
bool
ss_wire_bad_reply(SsWire *wire)
{
	strlcpy(wire->error, "an answer makes no sense: is this a Redis?", sizeof(wire->error));
	return ss_wire_broken(wire);
}

/* Begins a command of one or two words. */
void
ss_wire_command(SsWire *wire, const char *word1, const char *word2)
{
	ss_command_reset(&wire->command);
	ss_command_word(&wire->command, word1);
	if (word2 != NULL)
		ss_command_word(&wire->command, word2);
}

/* Queues the command under construction. */
bool
ss_wire_queue(SsWire *wire)
{
	return ss_redis_queue(wire->redis, &wire->command, wire->error, sizeof(wire->error));
}

static char *
show_id(const SsBatchId *id)
{
	return psprintf("%016llx-%llu", (unsigned long long) id->token,
					(unsigned long long) id->number);
}

static char *
show_owner(const SsOwner *owner)
{
	return psprintf("%llu/%u/%u", (unsigned long long) owner->system, owner->database,
					owner->timeline);
}

/* Stores a copy of a string, and frees the old one. */
static void
remember(char **where, const char *what)
{
	char *copy = MemoryContextStrdup(TopMemoryContext, what);

	if (*where != NULL)
		pfree(*where);
	*where = copy;
}

/* How many more prefixes may be learned from a guard, given how many without a policy are known. */
static int
prefixes_left(const SsWire *wire)
{
	int left = LEARNED_MAX;

	for (int i = 0; wire->known != NULL && i < wire->known->count; i++)
		if (!wire->known->prefix[i].owned)
			left--;
	return left;
}

/*
 * Remembers a prefix of the guard, unless it is known; false: it is too long, or there are too
 * many.
 */
static bool
learn_prefix(SsWire *wire, const char *prefix, size_t len, int left)
{
	if (wire->known != NULL && ss_prefixes_find(wire->known, prefix, len) != NULL)
		return true;
	if (len > LEARNED_LENGTH)
		return false;
	(void) ss_prefixes_add(&wire->seen, prefix, len);
	return wire->seen.count <= left;
}

/* Parses the guard; false if it names more prefixes than a guard of ours can. */
static bool
read_guard(SsWire *wire, const SsRedisReply *list, SsGuard *guard)
{
	int left = prefixes_left(wire);
	unsigned long long a;
	unsigned long long b;

	memset(guard, 0, sizeof(*guard));
	ss_prefixes_clear(&wire->seen);
	for (int i = 0; i < 3; i++)
		remember(&wire->guard[i], "");
	for (int i = 0; i + 1 < ss_reply_count(list); i += 2)
	{
		size_t len;
		const char *name = ss_reply_text(ss_reply_at(list, i), &len);
		const char *value = ss_reply_text(ss_reply_at(list, i + 1), NULL);

		guard->present = true;
		if (strcmp(name, "owner") == 0)
		{
			remember(&wire->guard[0], value);
			if (sscanf(value, "%llu/%u/%u", &a, &guard->owner.database, &guard->owner.timeline) ==
				3)
				guard->owner.system = a;
		}
		else if (strcmp(name, "epoch") == 0)
		{
			remember(&wire->guard[1], value);
			guard->epoch = strtoull(value, NULL, 10);
		}
		else if (strcmp(name, "last") == 0)
		{
			remember(&wire->guard[2], value);
			if (sscanf(value, "%16llx-%llu", &a, &b) == 2)
			{
				guard->last.token = a;
				guard->last.number = b;
			}
		}
		else if (len > 2 && memcmp(name, "p:", 2) == 0 &&
				 !learn_prefix(wire, name + 2, len - 2, left))
		{
			ss_prefixes_clear(&wire->seen);
			strlcpy(wire->error,
					"the guard in Redis names too many or too long prefixes: delete our keys and "
					"session_store:guard there",
					sizeof(wire->error));
			return false;
		}
	}
	return true;
}

/* Adds the arguments of all requests that belong to the chain. */
static void
add_chain(SsCommand *c, const SsProto *p)
{
	const SsRequest *r = &p->request;

	ss_command_int(c, ss_time_number(r->deadline));
	ss_command_word(c, show_owner(&p->me));
	ss_command_int(c, r->epoch);
	ss_command_word(c, show_id(&r->id));
	ss_command_int(c, r->nprevious);
	for (int i = 0; i < r->nprevious; i++)
		ss_command_word(c, show_id(&r->previous[i]));
}

/* Adds the arguments of a claim. */
static void
add_claim(SsWire *wire, SsCommand *c, const SsProto *p, const SsPrefixes *prefixes)
{
	const SsRequest *r = &p->request;

	ss_command_int(c, ss_time_number(r->deadline));
	for (int i = 0; i < 3; i++)
		ss_command_word(c, wire->guard[i]);
	ss_command_word(c, show_owner(&p->me));
	ss_command_int(c, r->epoch);
	ss_command_word(c, show_id(&r->id));
	for (int i = 0; i < prefixes->count; i++)
		ss_command_word(c, prefixes->prefix[i].text);
}

/* Adds the keys of a batch and returns their number. */
static int
add_keys(SsCommand *c, const SsProto *p, const SsPayload *payloads)
{
	int n = 0;

	for (int i = 0; i < p->nops; i++)
		if (p->ops[i].kind != SS_OP_NONE && payloads[i].key != NULL)
		{
			ss_command_add(c, payloads[i].key, payloads[i].keylen);
			n++;
		}
	return n;
}

/* Adds the lease and the operations of a batch. */
static void
add_ops(SsCommand *c, const SsProto *p, const SsPayload *payloads)
{
	static const char *const leases[] = {"K", "S", "D"};

	ss_command_word(c, leases[p->request.lease]);
	ss_command_int(c, ss_time_number(p->request.lease_until) / 1000);
	for (int i = 0; i < p->nops; i++)
	{
		const SsOp *op = &p->ops[i];

		if (op->kind == SS_OP_NONE || payloads[i].key == NULL)
			continue;
		ss_command_word(c, op->kind == SS_OP_SET ? "S" : op->kind == SS_OP_EXPIRE ? "E" : "D");
		if (op->kind != SS_OP_DELETE)
			ss_command_int(c, ss_time_number(op->expires) / 1000);
		if (op->kind == SS_OP_SET)
			ss_command_add(c, payloads[i].document, payloads[i].length);
	}
}

/*
 * Marks the operations whose copy did not exist when its expiry should be extended.  Redis
 * numbers the keys from 3 on.
 */
static void
mark_missing(SsProto *p, const SsPayload *payloads, const SsRedisReply *missing)
{
	int key = 3;
	int m = 0;

	for (int i = 0; i < p->nops && m < ss_reply_count(missing); i++)
	{
		if (p->ops[i].kind == SS_OP_NONE || payloads[i].key == NULL)
			continue;
		if (ss_reply_int(ss_reply_at(missing, m)) == key++)
		{
			p->ops[i].missing = true;
			m++;
		}
	}
}

/* A flush found copies that we may not delete, so no lease can be granted. */
static bool
copies_stay(SsWire *wire, const char *prefix)
{
	snprintf(
		wire->error, sizeof(wire->error),
		"there are keys that begin with \"%.100s\", and the ACL of Redis does not let us delete "
		"them: allow that, or delete them",
		prefix);
	ss_redis_printable(wire->error);
	wire->stuck = true;
	return ss_wire_broken(wire);
}

/* Parses the reply to p->request. */
static bool
read_reply(SsWire *wire, SsProto *p, const SsPayload *payloads, const SsRedisReply *raw,
		   SsReply *reply)
{
	SsRequestKind kind = p->request.kind;
	bool longer = kind != SS_REQUEST_CLAIM && kind != SS_REQUEST_REMOVE;
	const char *word;
	int64 time;

	memset(reply, 0, sizeof(*reply));
	if (ss_reply_count(raw) < 3)
		return ss_wire_bad_reply(wire);
	word = ss_reply_text(ss_reply_at(raw, 0), NULL);
	time = ss_reply_int(ss_reply_at(raw, 1)) * INT64CONST(1000000) +
		   ss_reply_int(ss_reply_at(raw, 2));
	if (time <= 0)
		return ss_wire_bad_reply(wire);
	reply->time = (SsRedisTime) time;
	if (strcmp(word, "LATE") == 0 && kind != SS_REQUEST_PROBE)
		reply->answer = SS_ANSWER_LATE;
	else if (strcmp(word, "LOST") == 0 && kind != SS_REQUEST_PROBE)
		reply->answer = SS_ANSWER_LOST;
	else if (strcmp(word, "OK") != 0 || (longer && ss_reply_count(raw) < 5))
		return ss_wire_bad_reply(wire);
	else if (kind == SS_REQUEST_PROBE)
	{
		if (!read_guard(wire, ss_reply_at(raw, 4), &reply->guard))
			return ss_wire_broken(wire);
		reply->guard.leased = ss_reply_int(ss_reply_at(raw, 3)) == 1;
	}
	else if (kind == SS_REQUEST_FLUSH)
	{
		reply->cursor = strtoull(ss_reply_text(ss_reply_at(raw, 3), NULL), NULL, 10);
		reply->removed = ss_reply_int(ss_reply_at(raw, 4));
		if (ss_reply_count(raw) > 5 && ss_reply_text(ss_reply_at(raw, 5), NULL)[0] != '\0')
			return copies_stay(wire, ss_reply_text(ss_reply_at(raw, 5), NULL));
	}
	else if (kind == SS_REQUEST_BATCH)
	{
		wire->refused += Max(ss_reply_int(ss_reply_at(raw, 3)), 0);
		mark_missing(p, payloads, ss_reply_at(raw, 4));
	}
	return true;
}

/* Is this an error because of access to a key?  (For a command Redis says "run".) */
bool
ss_wire_is_denied_key(const char *error)
{
	return strncmp(error, "NOPERM", 6) == 0 && strstr(error, "access") != NULL;
}

/*
 * Carries out p->request and fills in *reply.  False, with the connection closed, if there is
 * no answer.  If keys of a batch may not be accessed the connection stays open, so that the
 * caller can find out which.  Allocates in the current memory context without freeing.
 */
bool
ss_wire_send(SsWire *wire, SsProto *p, const SsPayload *payloads, const SsPrefixes *prefixes,
			 SsReply *reply)
{
	SsRequestKind kind = p->request.kind;
	SsCommand *c = &wire->command;
	SsRedisReply *raw;
	int count_at;
	int nkeys = 2;
	bool ok;

	wire->stuck = false;
	ss_wire_command(wire, "EVALSHA", wire->sha[kind]);
	count_at = c->argc;
	ss_command_word(c, "2");
	ss_command_word(c, SS_LEASE_KEY);
	ss_command_word(c, SS_GUARD_KEY);
	if (kind == SS_REQUEST_BATCH)
		nkeys += add_keys(c, p, payloads);
	if (nkeys > 2)
	{
		c->argv[count_at] = psprintf("%d", nkeys);
		c->lengths[count_at] = strlen(c->argv[count_at]);
	}
	if (kind == SS_REQUEST_CLAIM)
		add_claim(wire, c, p, prefixes);
	else if (kind != SS_REQUEST_PROBE)
		add_chain(c, p);
	if (kind == SS_REQUEST_BATCH)
		add_ops(c, p, payloads);
	if (kind == SS_REQUEST_FLUSH)
	{
		ss_command_word(c, psprintf(UINT64_FORMAT, p->request.cursor));
		ss_command_int(c, FLUSH_STEP);
		for (int i = 0; i < prefixes->count; i++)
		{
			ss_command_word(c, prefixes->prefix[i].owned ? "K" : "G");
			ss_command_word(c, prefixes->prefix[i].text);
		}
	}

	raw = ss_redis_call(wire->redis, c, p->request.give_up, wire->error, sizeof(wire->error));
	if (raw == NULL && kind == SS_REQUEST_BATCH && ss_wire_is_denied_key(wire->error))
		return false;
	if (raw == NULL)
		return ss_wire_broken(wire);
	ok = read_reply(wire, p, payloads, raw, reply);
	ss_reply_free(raw);
	return ok;
}
