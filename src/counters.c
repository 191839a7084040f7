/*
 * counters.c
 *		Counters of what happened in a database.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "counters.h"
#include "databases.h"

/* Add to a counter of this database; without an entry nothing is counted. */
void
ss_counter_add(SsCounter counter, uint64 n)
{
	SsDb *db = ss_database_mine();

	if (db != NULL && n > 0)
		pg_atomic_fetch_add_u64(&db->counters.cells[MyProcPid % SS_STRIPES][counter], n);
}

/* The value of a counter, summed over its stripes without a lock. */
uint64
ss_counter_sum(const SsCounters *counters, SsCounter counter)
{
	uint64 sum = 0;

	for (int s = 0; s < SS_STRIPES; s++)
		sum += pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &counters->cells[s][counter]));
	return sum;
}
