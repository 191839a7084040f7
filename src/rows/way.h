/*
 * way.h
 *		Is there a way to the rows of conversation_sessions without a statement?
 */
#ifndef SS_WAY_H
#define SS_WAY_H

#include "utils/relcache.h"
#include "storage/lockdefs.h"

extern Relation ss_way_open(LOCKMODE lockmode, bool to_write);
extern Oid ss_way_key(void);

#endif
