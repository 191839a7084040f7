/*
 * owner_lock.c
 *		Advisory locks on an owner or a namespace.
 *
 * pg_locks shows lock tags to everybody.  A plain hash of the owner's name would let any role confirm
 * that an owner of that name is logging in or out.  The tag is therefore a hash keyed with a secret of
 * the server, which every backend knows even if our library was not preloaded, and with the
 * database's OID, so that tags observed here cannot be reproduced in another database.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "sessions/owner_lock.h"

#define NONCE_LEN 32 /* MOCK_AUTH_NONCE_LEN of the control file */

/*
 * Sets *tag to the lock of kind `what` on an owner in the target's namespace (0: on the namespace).
 * Two names may share a tag; that only makes them wait for each other.
 */
void
ss_owner_lock_tag(LOCKTAG *tag, const SsTarget *target, Datum owner, SsOwnerLock what)
{
	text *name = owner == (Datum) 0 ? NULL : DatumGetTextPP(owner);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	uint32 words[2];

	/* the namespace's name is zero-padded to a fixed length, which separates it from the owner's */
	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) GetMockAuthenticationNonce(), NONCE_LEN) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) &MyDatabaseId, sizeof(MyDatabaseId)) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) target->policy.name,
							 sizeof(target->policy.name)) < 0 ||
		(name != NULL && pg_cryptohash_update(ctx, (const uint8 *) VARDATA_ANY(name),
											  VARSIZE_ANY_EXHDR(name)) < 0) ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		/* SHA-256 fails only for lack of memory */
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash the name of a lock")));
	pg_cryptohash_free(ctx);
	memcpy(words, digest, sizeof(words));
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, words[0], words[1], (uint16) what);
}
