/*
 * reply.c
 *		A lying Redis: a libFuzzer target over the path of answers, from bytes through hiredis to the
 *		protocol.
 *
 * redis.c, wire*.c, prefixes.c and the files of src/protocol/ are those of the worker; the loop below
 * drives them as pusher.c does.  An input is a list of instructions, a byte each, some with arguments:
 * answers (well-formed ones, with numbers of the input's choice, and raw bytes), and what happens
 * meanwhile: keys change, the other side hangs up, settings change.
 *
 * What must hold after each step: lists are whole, messages are fit for a log, no lease is longer than
 * the longest, and nothing that the sanitizers see.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "protocol/protocol.h"
#include "protocol/rules.h"
#include "protocol/shares.h"
#include "redis/wire_connect.h"
#include "redis/wire_keys.h"
#include "reply.h"

#define DATABASE 5
#define STEPS 400
#define LEDGER_KEYS 1000

int ss_cache_max_bytes = 1024;

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static const uint8 *input, *input_end;
static int64 redis_ahead; /* Redis' clock minus ours */

void
ss_ledger_lock(int partition)
{
}

void
ss_ledger_unlock(int partition)
{
}

static uint8
byte(void)
{
	return input < input_end ? *input++ : 0;
}

static uint64
number(void)
{
	static const uint64 odd[] = {0,
								 1,
								 2,
								 UINT64CONST(0x7fffffffffffffff),
								 UINT64CONST(0x8000000000000000),
								 UINT64CONST(0xffffffffffffffff),
								 1000000,
								 4294967296};
	uint64 value = 0;
	int n = byte();

	if (n >= 128)
		return odd[n % lengthof(odd)];
	for (n %= 9; n > 0; n--)
		value = value << 8 | byte();
	return value;
}

/* Answers under construction. */
static char out[70000];
static int out_len;

static void
put(const char *data, int len)
{
	if (out_len + len > (int) sizeof(out))
		len = (int) sizeof(out) - out_len;
	memcpy(out + out_len, data, len);
	out_len += len;
}

static void
put_format(const char *format, ...)
{
	char text[600];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	put(text, (int) strlen(text));
}

static void
put_bulk(const char *text)
{
	put_format("$%d\r\n%s\r\n", (int) strlen(text), text);
}

static void
put_time(void)
{
	int64 time = byte() < 200 ? virtual_now + redis_ahead : (int64) number();

	put_format(":%lld\r\n:%lld\r\n", (long long) (time / 1000000), (long long) (time % 1000000));
}

static void
put_raw(int len)
{
	while (len-- > 0 && input < input_end)
		put((const char *) input++, 1);
}

/* The guard as a list of names and values, as we have written it or otherwise. */
static void
put_guard(const SsProto *p)
{
	int kind = byte();
	bool ours = kind < 128;

	put_format("*%d\r\n", kind & 1 ? 8 : 6);
	put_bulk("owner");
	if (ours)
		put_bulk("7/5/1");
	else
		put_bulk(psprintf("%llu/%u/%u", (unsigned long long) number(), (unsigned) number(),
						  (unsigned) number()));
	put_bulk("epoch");
	put_bulk(psprintf("%llu", (unsigned long long) (ours ? p->epoch : number())));
	put_bulk("last");
	put_bulk(psprintf("%016llx-%llu", (unsigned long long) (ours ? p->token : number()),
					  (unsigned long long) (ours ? p->number - kind % 2 : number())));
	if (kind & 1)
	{
		put_bulk("p:session:");
		put_bulk("");
	}
}

static SsProto proto;
static SsWire wire;

/* The next answer, into the socket. */
Answer
next_answer(int socket)
{
	static const char *const errors[] = {"-ERR no\r\n",       "-NOAUTH\r\n",
										 "-WRONGTYPE x\r\n",  "-LOADING\x01\x1b[2J\r\n",
										 "-NOSCRIPT\xff\r\n", "-NOPERM access\r\n"};

	if (input >= input_end)
		return ANSWER_NONE;
	out_len = 0;
	switch (byte() % 16)
	{
		case 0:
			return ANSWER_NONE;
		case 1:
			return ANSWER_CLOSE;
		case 2:
			put_raw(byte());
			break;
		case 3:
			put_raw(number() % sizeof(out));
			break;
		case 4:
		case 5:
			put_format("+OK\r\n");
			break;
		case 6: /* a valid greeting */
			put_bulk(
				"redis_version:7.0.15\r\nredis_mode:standalone\r\nused_memory:1000\r\nmaxmemory:0\r\n");
			put_format("+OK\r\n+OK\r\n");
			/* the scripts of the requests, and the one that tests access */
			for (int i = 0; i < SS_REQUEST_KINDS + 1; i++)
				put_bulk("0123456789012345678901234567890123456789");
			break;
		case 7:
			put_format("*5\r\n");
			put_bulk("OK");
			put_time();
			put_format(":%d\r\n", byte() % 2);
			put_guard(&proto);
			break;
		case 8: /* of a probe that finds none, and of a claim */
			put_format("*5\r\n");
			put_bulk("OK");
			put_time();
			put_format(":0\r\n*0\r\n");
			break;
		case 9: /* of a batch or a flush */
		case 10:
			put_format("*5\r\n");
			put_bulk("OK");
			put_time();
			put_bulk(psprintf("%llu", (unsigned long long) number()));
			if (byte() % 2)
				put_format(":%lld\r\n", (long long) number());
			else
				put_format("*3\r\n:3\r\n:%d\r\n:%lld\r\n", byte(), (long long) number());
			break;
		case 11:
			if (byte() % 4 == 0)
			{
				/* of a flush that may not delete */
				put_format("*6\r\n");
				put_bulk("OK");
				put_time();
				put_format(":0\r\n:0\r\n$4\r\nab");
				put_raw(2);
				put_format("\r\n");
				break;
			}
			put_format("*3\r\n");
			put_bulk(byte() % 2 ? "LATE" : "LOST");
			put_time();
			break;
		case 12:
			put_format("%s", errors[byte() % lengthof(errors)]);
			break;
		case 13:
			put_format("*%lld\r\n", (long long) number());
			break;
		case 14:
			put_format("$%lld\r\n", (long long) number());
			put_raw(byte());
			put_format("\r\n");
			break;
		default: /* nested */
			for (int i = byte() % 12; i > 0; i--)
				put_format("*1\r\n");
			put_format(":%lld\r\n", (long long) number());
	}
	if (socket >= 0 && out_len > 0)
		(void) send(socket, out, out_len, MSG_NOSIGNAL);
	return ANSWER_BYTES;
}

static void
must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static bool
is_printable(const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char) text[i] < 0x20 || (unsigned char) text[i] >= 0x7f)
			return false;
	return len < size;
}

static void
check(SsLedger *ledger, const SsControl *control)
{
	for (int list = SS_LIST_NONE + 1; list < SS_LISTS; list++)
	{
		const SsList *l = &proto.lists[list];
		int32_t before = SS_NO_SLOT;
		int32_t slot = l->first;
		int n = 0;

		for (; slot != SS_NO_SLOT && n <= l->count; n++)
		{
			const SsLedgerSlot *s = ss_ledger_slot(ledger, slot);

			must(s->used && s->list == list && s->list_prev == before, "lists are whole");
			before = slot;
			slot = s->list_next;
		}
		must(n == l->count && before == l->last, "lists are as long as they say");
	}
	must(is_printable(wire.error, sizeof(wire.error)), "messages are fit for a log");
	must(proto.nops >= 0 && proto.nops <= SS_BATCH_MAX, "a batch has room");
	must(proto.nchain >= 0 && proto.nchain <= SS_CHAIN_MAX, "a chain has room");
	must(control->lease_until <= virtual_now + SS_LEASE_LONGEST_US + 1000000,
		 "no lease is too long");
}

static void
change_key(SsLedger *ledger, const SsControl *control)
{
	SsKey key = {.database = DATABASE, .nslen = 1, .idlen = 1, .bytes = {'n'}};
	uint32 hash;

	key.bytes[1] = (char) ('0' + byte() % 100);
	hash = ss_key_hash(&key);
	if (ss_ledger_enter(ledger, control, &key, hash, SS_CHANGED_DOCUMENT, virtual_now) &&
		byte() % 4)
		ss_ledger_resolve(ledger, control, &key, hash);
}

/* Requests of pusher.c and scrub.c besides, while nothing is under way. */
static void
ask_something(void)
{
	static const SsPayload keys[3] = {{"session:1", 9, "{}", 2},
									  {"session:2", 9, "{}", 2},
									  {"x", 1, "", 0}};
	SsWireInfo info;
	SsRedisReply *reply;
	uint64 cursor = byte();
	int64 sizes[3];

	memset(&info, 0, sizeof(info));
	switch (byte() % 4)
	{
		case 0:
			if (ss_wire_info(&wire, virtual_now + 1000000, &info))
				must(is_printable(info.version, sizeof(info.version)) &&
						 is_printable(info.policy, sizeof(info.policy)),
					 "what health shows is printable");
			else
				ss_proto_failed(&proto, virtual_now);
			break;
		case 1:
			if (ss_wire_scan(&wire, virtual_now + 1000000, &cursor, 100, &reply))
			{
				const SsRedisReply *names = ss_reply_at(reply, 1);

				for (int i = 0; i < ss_reply_count(names); i++)
				{
					size_t len;
					const char *name = ss_reply_text(ss_reply_at(names, i), &len);

					must(len == 0 || name[len] == '\0', "a name is text");
				}
				ss_reply_free(reply);
			}
			else
				ss_proto_failed(&proto, virtual_now);
			break;
		case 2:
			if (!ss_wire_sizes(&wire, virtual_now + 1000000, keys, 3, sizes))
				ss_proto_failed(&proto, virtual_now);
			break;
		default:
			reply = ss_wire_mget(&wire, virtual_now + 1000000, keys, 3);
			if (reply != NULL)
			{
				for (int i = 0; i < 3; i++)
					(void) ss_reply_text(ss_reply_at(reply, i), NULL);
				ss_reply_free(reply);
			}
			else
				ss_proto_failed(&proto, virtual_now);
	}
}

/* Events while the pusher waits. */
static void
meanwhile(SsLedger *ledger, const SsControl *control)
{
	virtual_now = Max(virtual_now, Min(proto.wait_until, virtual_now + 2000000)) + 100;
	switch (byte() % 12)
	{
		case 0:
			ss_proto_flush(&proto);
			break;
		case 1:
			proto.suspended = !proto.suspended;
			break;
		case 2:
			ss_proto_takeover(&proto, virtual_now);
			break;
		case 3:
			redis_ahead += (int64) (int8) byte() * 1000000;
			break;
		case 4:
			if (byte() == 0)
				ss_proto_leave(&proto);
			break;
		case 5:
		case 6:
			if (proto.stage == SS_STAGE_RUN && proto.connected && !proto.suspended)
				ask_something();
			break;
		default:
			for (int i = byte() % 40; i >= 0; i--)
				change_key(ledger, control);
	}
}

static void
send_request(void)
{
	static SsPayload payloads[SS_BATCH_MAX];
	SsPrefixes prefixes = {0};
	SsReply reply;

	for (int i = 0; i < proto.nops; i++)
		payloads[i] = (SsPayload){i % 7 == 6 ? NULL : "session:x", 9, "{\"a\": 1}", 8};
	ss_prefixes_add(&prefixes, "session:", 8);
	if (!ss_wire_send(&wire, &proto, payloads, &prefixes, &reply))
	{
		bool denied[SS_BATCH_MAX];

		/* the connection is still open when keys may not be accessed */
		if (wire.redis != NULL)
			(void) ss_wire_denied(&wire, virtual_now + 1000000, payloads, proto.nops, denied);
		ss_wire_close(&wire);
		ss_proto_failed(&proto, virtual_now);
		return;
	}
	ss_proto_reply(&proto, &reply, virtual_now);
}

static void
read_rows(void)
{
	for (int i = 0; i < proto.nops; i++)
	{
		proto.ops[i].found = (SsFound) (byte() % 3);
		proto.ops[i].until = virtual_now + 60000000;
	}
	/* the first must fit, as in the worker */
	if (proto.nops > 0 && proto.ops[0].found == SS_FOUND_LATER)
		proto.ops[0].found = SS_FOUND_COPY;
	ss_proto_rows(&proto, virtual_now);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static SsLedger *ledger = NULL;
	SsOwner me = {7, DATABASE, 1};
	SsWireLogin login;
	SsControl control;
	SsRecord record;

	if (ledger == NULL)
		ledger = malloc(ss_ledger_size(LEDGER_KEYS));
	input = data;
	input_end = data + size;
	virtual_now = INT64CONST(1000000000);
	redis_ahead = INT64CONST(1700000000000000);
	memset(ledger, 0, ss_ledger_size(LEDGER_KEYS));
	ss_ledger_init(ledger, LEDGER_KEYS);
	memset(&control, 0, sizeof(control));
	ss_control_init(&control, 0, virtual_now);
	ss_ledger_share(ledger, 0, true);
	memset(&wire, 0, sizeof(wire));
	memset(&proto, 0, sizeof(proto));
	memset(&login, 0, sizeof(login));
	strlcpy(login.url.socket, "/none", sizeof(login.url.socket));
	if (byte() % 4 == 0)
		strlcpy(login.password, "secret", sizeof(login.password));
	ss_proto_init(&proto, ledger, &control, DATABASE, &me, byte(), virtual_now);
	proto.lease_us = 2000000;
	proto.batch_keys = 64;
	memset(&record, 0, sizeof(record));
	record.standing = byte() % 4 == 0 ? SS_STANDING_NEW : SS_STANDING_OWNER;
	ss_proto_set_record(&proto, &record);
	for (int i = 0; i < STEPS && input < input_end; i++)
	{
		SsDo what = ss_proto_next(&proto, ss_monotonic());

		if (what == SS_DO_LEAVE)
			break;
		switch (what)
		{
			case SS_DO_CONNECT:
				if (ss_wire_connect(&wire, &login, virtual_now + 1000000))
					ss_proto_connected(&proto, virtual_now);
				else
					ss_proto_failed(&proto, virtual_now);
				break;
			case SS_DO_SEND:
				send_request();
				break;
			case SS_DO_RECORD:
				ss_proto_recorded(&proto, false);
				break;
			case SS_DO_READ:
				read_rows();
				break;
			default:
				meanwhile(ledger, &control);
		}
		check(ledger, &control);
	}
	ss_wire_close(&wire);
	hang_up();
	free_all();
	return 0;
}
