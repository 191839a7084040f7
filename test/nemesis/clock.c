/*
 * clock.c
 *		Loaded into Redis by LD_PRELOAD: shifts its wall clock.
 *
 * NEMESIS_CLOCK names a file with the shift in microseconds, one 64-bit number, which may change
 * at any time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t none = 0;
static volatile int64_t *offset = &none;

__attribute__((constructor)) static void
map_offset(void)
{
	const char *name = getenv("NEMESIS_CLOCK");
	int fd = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		offset = at;
	close(fd);
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc = (int) syscall(SYS_clock_gettime, clock, t);
	int64_t ns;

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
	{
		ns = t->tv_nsec + *offset * 1000;
		t->tv_sec += ns / 1000000000;
		ns %= 1000000000;
		if (ns < 0)
		{
			ns += 1000000000;
			t->tv_sec--;
		}
		t->tv_nsec = ns;
	}
	return rc;
}

int
gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	(void) clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *t)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_REALTIME, &now);
	if (t != NULL)
		*t = now.tv_sec;
	return now.tv_sec;
}
