/*
 * direct.h
 *		Reads, locks and updates a session's row through the table AM instead of SPI.
 */
#ifndef SS_DIRECT_H
#define SS_DIRECT_H

#include "utils/snapshot.h"

#include "compat.h"
#include "row/session.h"
#include "table/schema.h"

extern bool ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found);
extern bool ss_direct_hold(const SsTarget *target, SsHold hold, bool document, SsRow *row,
						   bool *found);
extern bool ss_direct_lock_unchanged(const SsTarget *target, SsRow *row);
extern bool ss_direct_write(const SsTarget *target, const SsRow *row, const AttrNumber *columns);
extern bool ss_direct_find(Relation rel, Oid pkey, Datum ns, Datum id, Snapshot snapshot,
						   TupleTableSlot *slot);
extern bool ss_direct_is_free(TupleTableSlot *slot);
extern void ss_direct_insert_into_indexes(Relation rel, TupleTableSlot *slot,
										  SsUpdateIndexes which);

/*
 * Called for each row that ss_direct_write updates, in place of the trigger zz_session_change.
 * Set by cache_trigger.c, which this file must not depend on.
 */
typedef void (*SsDirectHook)(const SsDeformedRow *old, const SsDeformedRow *new);
extern SsDirectHook ss_direct_updated;

#endif
