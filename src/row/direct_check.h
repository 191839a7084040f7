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

extern Relation ss_direct_open(LOCKMODE lockmode, SsDirectUse use);
extern Oid ss_direct_pkey(void);
extern Oid ss_direct_check_at_index(void);

#endif
