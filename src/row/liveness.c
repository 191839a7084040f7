/*
 * liveness.c
 *		Decides whether a session is alive, and until when; see liveness.h.
 */
#include "postgres.h"

#include "row/liveness.h"
#include "touch/touch_xact.h"

/*
 * Returns the expiry of a row: expires_at, or a later one that a pending touch gives it.  `fixed`: its
 * ttl is null.  The key may be NULL if the names in the row are not valid: no touch has such a key.
 */
int64_t
ss_liveness_expiry(const SsKey *key, int64_t expires_at, bool fixed, int64_t dead_until)
{
	/* a touch may have been recorded before the expiry was fixed, or the session ended */
	if (key == NULL || fixed || dead_until != SS_NEVER)
		return expires_at;
	return ss_touch_effective(key, expires_at);
}
