/*
 * seen.c
 *		Records what readers saw.
 *
 * For each op they record when it was last seen, and nothing more: of a value that was
 * overwritten, the read that began last is the worst one.
 *
 * A tail is identified by its last message: every change of a history leaves a message of its own
 * as the last, or none at all.  So all texts that are read with the same last message must be
 * equal; of two different ones, one was never committed.  A summary in front of them is the value of an op
 * as well, which must not be seen if it failed.
 *
 * Readers call this from many threads; fields of an op are written by atomic operations.
 */
#include <stdio.h>
#include <string.h>

#include "nemesis.h"

#define SUMMARY "[{\"summary\": "

static void
raise_to(int64_t *at, int64_t value)
{
	int64_t old = __atomic_load_n(at, __ATOMIC_RELAXED);

	while (old < value &&
		   !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static const char *const reader_names[] = {"plain", "strong", "SQL"};

/* When a reader of this kind saw the op last. */
static int64_t *
seen_by(Op *op, Reader reader)
{
	return reader == READER_PLAIN ? &op->seen_plain
								  : (reader == READER_STRONG ? &op->seen_strong : &op->seen_sql);
}

/* The op whose value begins at `text`, and where that ends; NULL, with a message, if it is none. */
static Op *
parse(int key, const char *text, const char **end, int *number, Reader reader)
{
	int of = -1;
	int length = 0;
	Op *op = NULL;

	*number = -1;
	if (sscanf(text, "{\"k\": %d, \"v\": %d}%n", &of, number, &length) == 2 && length > 0)
		op = op_at(*number);
	if (op == NULL)
	{
		violation("%s: key %s shows what nobody wrote: %.60s", reader_names[reader],
				  keys[key].shown, text);
		return NULL;
	}
	if (of != key || op->key != key || op->kind != OP_SAVE)
	{
		violation("%s: key %s shows op %d, of another key", reader_names[reader], keys[key].shown,
				  *number);
		return NULL;
	}
	*end = text + length;
	return op;
}

/* FNV-1a; never 0 */
static uint32_t
hash_of(const char *text)
{
	uint32_t hash = 2166136261U;

	for (; *text != '\0'; text++)
		hash = (hash ^ (uint8_t) *text) * 16777619U;
	return hash == 0 ? 1 : hash;
}

static Op *
parse_tail(int key, const char *text, Reader reader)
{
	const char *at = text;
	int oldest = 0;
	int messages = 0;
	uint32_t none = 0;
	uint32_t hash = hash_of(text);
	Op *op = NULL;

	if (strcmp(text, "[]") == 0)
		return NULL;
	if (strncmp(at, SUMMARY, strlen(SUMMARY)) == 0)
	{
		int n;

		op = parse(key, at + strlen(SUMMARY), &at, &n, reader);
		if (op == NULL)
			return NULL;
		raise_to(seen_by(op, reader), 1);
		if (strcmp(at, "}]") == 0)
			return NULL;
		at += *at == '}';
	}
	do
	{
		int n;

		at += at == text ? 1 : 2; /* "[", or ", " */
		op = parse(key, at, &at, &n, reader);
		if (op == NULL)
			return NULL;
		if (messages++ == 0)
			oldest = n;
		/* a message that was rolled back must not be anywhere in it */
		raise_to(seen_by(op, reader), 1);
	} while (at[0] == ',' && at[1] == ' ');
	if (text[0] != '[' || strcmp(at, "]") != 0 || messages > TAIL_SIZE)
	{
		violation("%s: tail %s is no tail: %.150s", reader_names[reader], keys[key].shown, text);
		return NULL;
	}
	if (__atomic_compare_exchange_n(&op->text, &none, hash, false, __ATOMIC_SEQ_CST,
									__ATOMIC_SEQ_CST))
		op->oldest = oldest;
	else if (none != hash)
	{
		violation("%s: tail %s had another text with the same last message: %.150s",
				  reader_names[reader], keys[key].shown, text);
		return NULL;
	}
	return op;
}

/* A reader that began at `start` has found this under a key.  Returns the op, or NULL. */
Op *
note_read(int key, const char *text, Reader reader, int64_t start, int64_t healthy_since)
{
	const char *end;
	int n;
	Op *op = keys[key].tail ? parse_tail(key, text, reader) : parse(key, text, &end, &n, reader);

	if (op == NULL)
		return NULL;
	raise_to(seen_by(op, reader), start);
	if (healthy_since != 0)
	{
		/*
		 * the two may come from different reads at a change of phase: then the check is too
		 * lenient
		 */
		raise_to(&op->seen_healthy, start);
		raise_to(&op->healthy_since, healthy_since);
	}
	return op;
}
