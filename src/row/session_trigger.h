/*
 * session_trigger.h
 *		The BEFORE trigger that enforces the invariants of conversation_sessions.
 */
#ifndef SS_SESSION_TRIGGER_H
#define SS_SESSION_TRIGGER_H

#include "nodes/bitmapset.h"

#include "table/catalog.h"
#include "table/schema.h"

extern void ss_session_trigger_update(const SsDeformedRow *old, SsDeformedRow *new,
									  const SsCatalog *catalog, bool apply_end,
									  const Bitmapset *written);

#endif
