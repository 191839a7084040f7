/*
 * text.c
 *		Growing strings, SQL literals and random numbers.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

void
text_clear(Text *t)
{
	t->len = 0;
	if (t->data != NULL)
		t->data[0] = '\0';
}

void
text_add(Text *t, const char *data, size_t len)
{
	if (t->len + len + 1 > t->room)
	{
		t->room = (t->len + len + 1) * 2;
		t->data = realloc(t->data, t->room);
		if (t->data == NULL)
			abort();
	}
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void
text_puts(Text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void
text_printf(Text *t, const char *format, ...)
{
	char buffer[2000];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(buffer, sizeof(buffer), format, arguments);
	va_end(arguments);
	text_puts(t, buffer);
}

/* With standard_conforming_strings on, only quotes need care. */
void
text_literal(Text *t, const char *data, size_t len)
{
	text_puts(t, "'");
	for (size_t i = 0; i < len; i++)
	{
		if (data[i] == '\'')
			text_puts(t, "'");
		text_add(t, data + i, 1);
	}
	text_puts(t, "'");
}

/* splitmix64 */
uint64_t
rnd(Client *c)
{
	uint64_t z = (c->rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int
below(Client *c, int n)
{
	return (int) (rnd(c) % (uint64_t) n);
}

bool
chance(Client *c, int one_in)
{
	return below(c, one_in) == 0;
}
