/*
 * counters.c
 *		Counters of what happened in a database.
 *
 * Each counter has several cells, so that processes do not contend for a cache line; its value is
 * their sum.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "shared/counters.h"

#define STRIPES 16

typedef struct Cells
{
	pg_atomic_uint64 of[STRIPES][SS_COUNTERS];
} Cells;

/* By the number of the database; NULL if the library was not preloaded. */
static Cells *all_cells = NULL;

/* Requests the shared memory (shmem.c). */
void
ss_counters_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Cells) * SS_MAX_DATABASES));
}

/* Attaches to the shared memory, and initializes it if it is new (shmem.c). */
void
ss_counters_shmem_init(void)
{
	bool found;

	all_cells = ShmemInitStruct("session_store counters", sizeof(Cells) * SS_MAX_DATABASES, &found);
	if (found)
		return;
	for (int i = 0; i < SS_MAX_DATABASES; i++)
		for (int s = 0; s < STRIPES; s++)
			for (int c = 0; c < SS_COUNTERS; c++)
				pg_atomic_init_u64(&all_cells[i].of[s][c], 0);
}

/* Adds to a counter of this database; without an entry nothing is counted. */
void
ss_counter_add(SsCounter counter, uint64 n)
{
	SsDb *db = ss_database_mine();
	Cells *cells;

	if (db == NULL || n == 0)
		return;
	cells = &all_cells[ss_database_number(db)];
	pg_atomic_fetch_add_u64(&cells->of[MyProcPid % STRIPES][counter], n);
}

/* The value of a counter of a database. */
uint64
ss_counter_sum(const SsDb *db, SsCounter counter)
{
	Cells *cells = &all_cells[ss_database_number(db)];
	uint64 sum = 0;

	for (int s = 0; s < STRIPES; s++)
		sum += pg_atomic_read_u64(&cells->of[s][counter]);
	return sum;
}

/* Sets the counters of a database to 0, because its entry becomes free. */
void
ss_counters_reset(const SsDb *db)
{
	Cells *cells = &all_cells[ss_database_number(db)];

	for (int s = 0; s < STRIPES; s++)
		for (int c = 0; c < SS_COUNTERS; c++)
			pg_atomic_write_u64(&cells->of[s][c], 0);
}
