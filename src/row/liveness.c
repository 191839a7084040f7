/*
 * liveness.c
 *		Decides whether a session is alive, and until when; see liveness.h.
 */
#include "postgres.h"

#include "row/liveness.h"
#include "touch/touch_xact.h"

/*
 * Returns the expiry of a row: expires_at, or a later one that a pending touch gives it.  The key may
 * be NULL if the names in the row are not valid: no touch has such a key.
 */
int64_t
ss_liveness_expiry(const SsKey *key, int64_t expires_at, int64_t dead_until)
{
	/* touches do not extend a tombstone, not even one that has run out */
	if (key == NULL || dead_until != SS_NEVER)
		return expires_at;
	return ss_touch_effective(key, expires_at);
}
