/*
 * direct_check.h
 *		Decides whether sessions may be accessed through the table AM instead of SPI.
 */
#ifndef SS_DIRECT_CHECK_H
#define SS_DIRECT_CHECK_H

#include "utils/relcache.h"
#include "storage/lockdefs.h"

/* What the table is opened for. */
typedef enum SsDirectUse
{
	SS_DIRECT_READ,
	SS_DIRECT_UPDATE,
	SS_DIRECT_DELETE_DUE /* deletes in the order of check_at */
} SsDirectUse;

/* An index that direct access uses. */
typedef struct SsDirectIndex
{
	Oid oid;                    /* InvalidOid if there is none */
	TransactionId usable_after; /* TransactionXmin must follow it, unless it is invalid */
} SsDirectIndex;

extern bool ss_direct_is_key(Relation index, AttrNumber ns, AttrNumber id);
extern SsDirectIndex ss_direct_describe_index(Relation index);
extern bool ss_direct_is_usable(const SsDirectIndex *index);
extern Relation ss_direct_open(LOCKMODE lockmode, SsDirectUse use);
extern Oid ss_direct_pkey(void);
extern Oid ss_direct_check_at_index(void);

#endif
