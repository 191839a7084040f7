/*
 * direct_check.h
 *		Is there a way to the rows of conversation_sessions without a statement?
 */
#ifndef SS_DIRECT_CHECK_H
#define SS_DIRECT_CHECK_H

#include "utils/relcache.h"
#include "storage/lockdefs.h"

/* What is to be done there. */
typedef enum SsDirectUse
{
	SS_DIRECT_READ,
	SS_DIRECT_UPDATE,
	SS_DIRECT_DELETE_DUE /* by the index on check_at */
} SsDirectUse;

extern Relation ss_direct_open(LOCKMODE lockmode, SsDirectUse way);
extern Oid ss_direct_pkey(void);
extern Oid ss_direct_check_at_index(void);

#endif
