/*
 * check.h
 *		What the unit tests count with.
 */
#ifndef SS_CHECK_H
#define SS_CHECK_H

#include <stdio.h>

static int passed = 0;
static int failed = 0;

#define CHECK(condition)                                               \
	do                                                                 \
	{                                                                  \
		if (condition)                                                 \
			passed++;                                                  \
		else                                                           \
		{                                                              \
			failed++;                                                  \
			if (failed <= 20)                                          \
				printf("not ok: %s, line %d\n", #condition, __LINE__); \
		}                                                              \
	} while (0)

/* Prints the result; returns the exit status of the program. */
static int
report(void)
{
	printf("%d passed, %d failed\n", passed, failed);
	return failed == 0 ? 0 : 1;
}

#endif
