/*
 * strike.h
 *		The faults, each from its beginning to its end.
 */
#ifndef STRIKE_H
#define STRIKE_H

#include <stdint.h>

/* fault.c */
extern int strike_db; /* the database that the faults of processes are for at present */
extern void last(int64_t us);

/* strike_redis.c */
extern void strike_redis_stop(uint64_t *r);
extern void strike_redis_empty(uint64_t *r);
extern void strike_redis_old(uint64_t *r);
extern void strike_redis_rollback(uint64_t *r);
extern void strike_redis_flush(uint64_t *r);
extern void strike_redis_pause(uint64_t *r);
extern void strike_redis_guard(uint64_t *r);
extern void strike_redis_clock(uint64_t *r);
extern void strike_redis_full(uint64_t *r);

/* strike_sql.c */
extern void strikes_end(void);
extern void set_for_sure(const char *name, const char *value);
extern void strike_pusher_stop(uint64_t *r);
extern void strike_pusher_end(uint64_t *r);
extern void strike_pusher_kill(uint64_t *r);
extern void strike_backend_stop(uint64_t *r);
extern void strike_server_kill(uint64_t *r);
extern void strike_cache_flush(uint64_t *r);
extern void strike_backend_cancel(uint64_t *r);
extern void strike_table_lock(uint64_t *r);
extern void strike_cache_off(uint64_t *r);
extern void strike_cache_lease(uint64_t *r);
extern void strike_cache_namespace(uint64_t *r);

/* strike_url.c */
extern void strike_cache_late(uint64_t *r);
extern void strike_server_url(uint64_t *r);

#endif
