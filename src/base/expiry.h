/*
 * expiry.h
 *		Arithmetic of lifetimes.
 *
 * Pure C without server headers, so that test/unit can test every limit.  Times are in the unit
 * and scale of TimestampTz, durations in microseconds.  The expiry of a session is the first
 * instant at which it is no longer alive: it is alive while now < expiry.
 */
#ifndef SS_EXPIRY_H
#define SS_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

#define SS_USEC_PER_MSEC INT64_C(1000)
#define SS_USEC_PER_SEC INT64_C(1000000)
#define SS_USEC_PER_DAY (INT64_C(86400) * SS_USEC_PER_SEC)

/* A ttl is 1 ms to 100 years of 365.25 days. */
#define SS_TTL_MIN_US SS_USEC_PER_MSEC
#define SS_TTL_MAX_US (INT64_C(36525) * SS_USEC_PER_DAY)

/*
 * The ttl of a session whose expiry is fixed: neither reads nor changes move it.  In the tables it is
 * null.
 */
#define SS_FIXED INT64_C(0)

/* A fixed expiry later than any: the session is kept until it is deleted, or SS_TTL_MAX_US old. */
#define SS_FOREVER INT64_MAX

/* "No limit", for max_lifetime. */
#define SS_NO_LIMIT INT64_C(-1)

/* Slack is an eighth of the ttl, and never more than this. */
#define SS_SLACK_MAX_US (INT64_C(300) * SS_USEC_PER_SEC)

/* Result of ss_duration. */
typedef enum SsDurationCheck
{
	SS_DURATION_OK,
	SS_DURATION_MONTHS,    /* has no fixed length */
	SS_DURATION_TOO_SHORT, /* below the minimum */
	SS_DURATION_TOO_LONG   /* above the maximum */
} SsDurationCheck;

extern SsDurationCheck ss_duration(int32_t months, int32_t days, int64_t usec, int64_t least,
								   int64_t most, int64_t *result);
extern int64_t ss_expiry_cap(int64_t expiry, int64_t created_at, int64_t max_lifetime_us);
extern int64_t ss_expiry(int64_t now, int64_t ttl_us, int64_t created_at, int64_t max_lifetime_us);
extern int64_t ss_expiry_fixed(int64_t at, int64_t created_at, int64_t max_lifetime_us);
extern bool ss_expiry_is_forever(int64_t expires_at, int64_t ttl_us, int64_t created_at);
extern int64_t ss_slack(int64_t ttl_us);

#endif
