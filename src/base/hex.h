/*
 * hex.h
 *		Hexadecimal digits.
 */
#ifndef SS_HEX_H
#define SS_HEX_H

/* Returns the value of a hexadecimal digit, or -1. */
static inline int
ss_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#endif
