/*
 * wire_connect.c
 *		Connects to a Redis, and asks it about itself.
 *
 * After a failure the connection is closed, with a message in wire->error.
 */
#include "postgres.h"

#include "redis/scripts.h"
#include "redis/wire_connect.h"

static const char *const scripts[SS_WIRE_SCRIPTS] = {
	[SS_REQUEST_PROBE] = script_probe,   [SS_REQUEST_CLAIM] = script_claim,
	[SS_REQUEST_BATCH] = script_batch,   [SS_REQUEST_FLUSH] = script_flush,
	[SS_REQUEST_REMOVE] = script_remove, [SS_WIRE_SCRIPT_ACCESS] = script_access,
};

/* The value of a line "name:value" of INFO, or an empty string. */
static void
info_line(const char *text, const char *name, char *out, size_t size)
{
	const char *at = strstr(text, name);
	size_t n = 0;

	out[0] = '\0';
	if (at == NULL)
		return;
	for (at += strlen(name); *at > ' ' && *at < 0x7f && n + 1 < size; at++)
		out[n++] = *at;
	out[n] = '\0';
}

/*
 * Reads the reply to one queued command, which `what` names in a message.  With `optional` an
 * error reply is accepted.  If `out` is not NULL the caller frees the reply.
 */
static bool
read_greeting(SsWire *wire, SsMonotonic give_up, const char *what, bool optional,
			  SsRedisReply **out)
{
	SsRedisReply *reply = ss_redis_receive(wire->redis, give_up, wire->error, sizeof(wire->error));
	bool refused;

	if (reply == NULL)
		return false;
	refused = ss_reply_kind(reply) == SS_REPLY_ERROR;
	if (refused && !optional)
	{
		snprintf(wire->error, sizeof(wire->error), "%s: %.150s", what, ss_reply_text(reply, NULL));
		ss_redis_printable(wire->error);
		ss_reply_free(reply);
		return false;
	}
	if (out != NULL)
		*out = reply;
	else
		ss_reply_free(reply);
	return true;
}

/*
 * Logs in, selects the database and loads the scripts: commands are queued first, and replies
 * read in the same order.
 */
static bool
greet(SsWire *wire, const SsWireLogin *login, SsMonotonic give_up)
{
	bool auth = login->password[0] != '\0';
	SsRedisReply *reply;
	bool ok = true;
	char mode[32];

	if (auth)
	{
		ss_wire_command(wire, "AUTH", login->url.user[0] ? login->url.user : login->password);
		if (login->url.user[0])
			ss_command_word(&wire->command, login->password);
		ok = ss_wire_queue(wire);
	}
	ss_wire_command(wire, "INFO", "server");
	ok = ok && ss_wire_queue(wire);
	ss_wire_command(wire, "CLIENT", "SETNAME");
	ss_command_word(&wire->command, "session_store");
	ok = ok && ss_wire_queue(wire);
	ss_wire_command(wire, "SELECT", NULL);
	ss_command_int(&wire->command, login->database);
	ok = ok && ss_wire_queue(wire);
	for (int i = 0; ok && i < SS_WIRE_SCRIPTS; i++)
	{
		ss_wire_command(wire, "SCRIPT", "LOAD");
		ss_command_word(&wire->command, scripts[i]);
		ok = ss_wire_queue(wire);
	}

	ok = ok && (!auth || read_greeting(wire, give_up, "AUTH", false, NULL)) &&
		 read_greeting(wire, give_up, "INFO", true, &reply);
	if (!ok)
		return false;
	/* Valkey says "server_mode" unless it is configured to look like Redis */
	info_line(ss_reply_text(reply, NULL), "redis_mode:", mode, sizeof(mode));
	if (mode[0] == '\0')
		info_line(ss_reply_text(reply, NULL), "server_mode:", mode, sizeof(mode));
	if (ss_reply_kind(reply) == SS_REPLY_ERROR &&
		strncmp(ss_reply_text(reply, NULL), "NOAUTH", 6) == 0)
	{
		strlcpy(wire->error, "Redis asks for a password", sizeof(wire->error));
		ok = false;
	}
	ss_reply_free(reply);
	if (strcmp(mode, "cluster") == 0)
	{
		strlcpy(wire->error, "this is a Redis Cluster, which is not supported",
				sizeof(wire->error));
		ok = false;
	}
	ok = ok && read_greeting(wire, give_up, "CLIENT SETNAME", true, NULL) &&
		 read_greeting(wire, give_up, "SELECT", false, NULL);
	for (int i = 0; ok && i < SS_WIRE_SCRIPTS; i++)
	{
		ok = read_greeting(wire, give_up, "SCRIPT LOAD", false, &reply);
		if (ok)
		{
			strlcpy(wire->sha[i], ss_reply_text(reply, NULL), sizeof(wire->sha[i]));
			ss_reply_free(reply);
			if (strlen(wire->sha[i]) != 40)
				return ss_wire_bad_reply(wire);
		}
	}
	return ok;
}

/* Connects and logs in. */
bool
ss_wire_connect(SsWire *wire, const SsWireLogin *login, SsMonotonic give_up)
{
	ss_wire_close(wire);
	if (!ss_redis_open(&wire->redis, &login->url, give_up, wire->error, sizeof(wire->error)) ||
		!greet(wire, login, give_up))
		return ss_wire_broken(wire);
	return true;
}

/* Reads version and memory from INFO, which Redis may refuse. */
bool
ss_wire_info(SsWire *wire, SsMonotonic give_up, SsWireInfo *info)
{
	SsRedisReply *reply;
	char number[32];

	ss_wire_command(wire, "INFO", "server");
	if (!ss_wire_queue(wire))
		return ss_wire_broken(wire);
	ss_wire_command(wire, "INFO", "memory");
	if (!ss_wire_queue(wire) || !read_greeting(wire, give_up, "INFO", true, &reply))
		return ss_wire_broken(wire);
	info_line(ss_reply_text(reply, NULL), "redis_version:", info->version, sizeof(info->version));
	info_line(ss_reply_text(reply, NULL), "valkey_version:", number, sizeof(number));
	if (number[0])
		snprintf(info->version, sizeof(info->version), "valkey %.20s", number);
	ss_reply_free(reply);
	if (!read_greeting(wire, give_up, "INFO", true, &reply))
		return ss_wire_broken(wire);
	info_line(ss_reply_text(reply, NULL), "used_memory:", number, sizeof(number));
	info->memory_bytes = strtoll(number, NULL, 10);
	info_line(ss_reply_text(reply, NULL), "maxmemory:", number, sizeof(number));
	info->memory_limit_bytes = strtoll(number, NULL, 10);
	info_line(ss_reply_text(reply, NULL), "maxmemory_policy:", info->policy, sizeof(info->policy));
	ss_reply_free(reply);
	return true;
}
