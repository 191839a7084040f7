/*
 * wire_keys.c
 *		Commands about keys that are no requests of the protocol.
 *
 * After a failure the connection is closed, with a message in wire->error.
 */
#include "postgres.h"

#include "redis/wire_keys.h"

/*
 * Scans some keys, starting at a cursor, and updates that.  The caller frees the reply, whose
 * second element is the list of keys.
 */
bool
ss_wire_scan(SsWire *wire, SsMonotonic give_up, uint64 *cursor, int count, SsRedisReply **reply)
{
	ss_wire_command(wire, "SCAN", psprintf(UINT64_FORMAT, *cursor));
	ss_command_word(&wire->command, "COUNT");
	ss_command_int(&wire->command, count);
	*reply = ss_redis_call(wire->redis, &wire->command, give_up, wire->error, sizeof(wire->error));
	if (*reply == NULL)
		return ss_wire_broken(wire);
	if (ss_reply_count(*reply) != 2)
	{
		ss_reply_free(*reply);
		return ss_wire_bad_reply(wire);
	}
	*cursor = strtoull(ss_reply_text(ss_reply_at(*reply, 0), NULL), NULL, 10);
	return true;
}

/* Tests for each key whether we may not access it. */
bool
ss_wire_denied(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n, bool *denied)
{
	for (int i = 0; i < n; i++)
	{
		denied[i] = false;
		if (payloads[i].key == NULL)
			continue;
		ss_wire_command(wire, "EVALSHA", wire->sha[SS_WIRE_SCRIPT_ACCESS]);
		ss_command_word(&wire->command, "1");
		ss_command_add(&wire->command, payloads[i].key, payloads[i].keylen);
		if (!ss_wire_queue(wire))
			return ss_wire_broken(wire);
	}
	for (int i = 0; i < n; i++)
	{
		SsRedisReply *reply;

		if (payloads[i].key == NULL)
			continue;
		reply = ss_redis_receive(wire->redis, give_up, wire->error, sizeof(wire->error));
		if (reply == NULL)
			return ss_wire_broken(wire);
		denied[i] = ss_reply_kind(reply) == SS_REPLY_ERROR &&
					ss_wire_is_denied_key(ss_reply_text(reply, NULL));
		ss_reply_free(reply);
	}
	return true;
}

/*
 * The sizes of copies in bytes: 0 if there is none, or the key is not a string; -1 if Redis
 * does not tell.
 */
bool
ss_wire_sizes(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n, int64 *sizes)
{
	for (int i = 0; i < n; i++)
	{
		ss_wire_command(wire, "STRLEN", NULL);
		ss_command_add(&wire->command, payloads[i].key, payloads[i].keylen);
		if (!ss_wire_queue(wire))
			return ss_wire_broken(wire);
	}
	for (int i = 0; i < n; i++)
	{
		SsRedisReply *reply = ss_redis_receive(wire->redis, give_up, wire->error,
											   sizeof(wire->error));

		if (reply == NULL)
			return ss_wire_broken(wire);
		if (ss_reply_kind(reply) == SS_REPLY_INTEGER)
			sizes[i] = ss_reply_int(reply);
		else
			sizes[i] = strncmp(ss_reply_text(reply, NULL), "WRONGTYPE", 9) == 0 ? 0 : -1;
		ss_reply_free(reply);
	}
	return true;
}

/*
 * Reads copies, in the order of the keys; the caller frees the reply.  NULL, with the
 * connection closed, if there is no answer.
 */
SsRedisReply *
ss_wire_mget(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n)
{
	SsRedisReply *reply;

	ss_wire_command(wire, "MGET", NULL);
	for (int i = 0; i < n; i++)
		ss_command_add(&wire->command, payloads[i].key, payloads[i].keylen);
	reply = ss_redis_call(wire->redis, &wire->command, give_up, wire->error, sizeof(wire->error));
	if (reply == NULL || ss_reply_count(reply) != n)
	{
		ss_reply_free(reply);
		ss_wire_close(wire);
		return NULL;
	}
	return reply;
}
