/*
 * plain.c
 *		Runs the target of reply.c without libFuzzer: over given files, or with --seconds and
 *		--seed over random bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t data[8192];

static uint64_t
next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int
main(int argc, char **argv)
{
	uint64_t state = 1;
	time_t until = 0;
	long runs = 0;

	for (int i = 1; i < argc; i++)
	{
		FILE *file;

		if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			state = strtoull(argv[++i], NULL, 10) * 1000000;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			until = time(NULL) + atoi(argv[++i]);
		else if ((file = fopen(argv[i], "rb")) != NULL)
		{
			LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
			fclose(file);
			runs++;
		}
	}
	while (time(NULL) < until)
	{
		size_t size = next(&state) % sizeof(data);

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t) next(&state);
		/* begin as a Redis does, most of the time */
		if (size > 4 && next(&state) % 8)
			memcpy(data, "\1\1\1\6", 4);
		LLVMFuzzerTestOneInput(data, size);
		runs++;
	}
	printf("reply: %ld inputs\n", runs);
	return 0;
}
