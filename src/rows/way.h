/*
 * way.h
 *		Is there a way to the rows of conversation_sessions without a statement?
 */
#ifndef SS_WAY_H
#define SS_WAY_H

#include "utils/relcache.h"
#include "storage/lockdefs.h"

/* What is to be done there. */
typedef enum SsWay
{
	SS_WAY_READ,
	SS_WAY_UPDATE,
	SS_WAY_DELETE_DUE /* by the index on check_at */
} SsWay;

extern Relation ss_way_open(LOCKMODE lockmode, SsWay way);
extern Oid ss_way_key(void);
extern Oid ss_way_due(void);

#endif
