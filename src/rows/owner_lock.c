/*
 * owner_lock.c
 *		Advisory locks on an owner, or on a whole namespace.
 *
 * The view pg_locks shows their tags to everybody, and a plain hash would let anybody confirm that
 * somebody of that name is logging in or out.  So the tag is a hash keyed with a secret of the
 * server, which all backends know with or without shared memory of ours, and with the database,
 * lest somebody look up names in a database of his own.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "rows/owner_lock.h"

#define NONCE_LEN 32 /* MOCK_AUTH_NONCE_LEN of the control file */

void
ss_owner_lock_tag(LOCKTAG *tag, const SsTarget *target, Datum owner, SsOwnerLock what)
{
	text *name = owner == (Datum) 0 ? NULL : DatumGetTextPP(owner);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	uint32 words[2];

	/* the name of a namespace is padded with zeros, so that what follows begins at a known place */
	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) GetMockAuthenticationNonce(), NONCE_LEN) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) &MyDatabaseId, sizeof(MyDatabaseId)) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) target->policy.name,
							 sizeof(target->policy.name)) < 0 ||
		(name != NULL && pg_cryptohash_update(ctx, (const uint8 *) VARDATA_ANY(name),
											  VARSIZE_ANY_EXHDR(name)) < 0) ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		/* SHA-256 lacks nothing but memory */
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash the name of a lock")));
	pg_cryptohash_free(ctx);
	memcpy(words, digest, sizeof(words));
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, words[0], words[1], (uint16) what);
}
