/*
 * document.h
 *		Changes to a JSON document: merge patch (RFC 7396) and counters.
 */
#ifndef SS_DOCUMENT_H
#define SS_DOCUMENT_H

#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "table/namespaces.h"

extern Jsonb *ss_document_merge(Jsonb *target, Jsonb *patch, bool shallow);
extern Jsonb *ss_document_absorb(Jsonb *target, Jsonb *source);
extern Jsonb *ss_document_incr(Jsonb *target, Datum *path, int npath, Numeric by, Numeric max,
							   Numeric *result);
extern void ss_document_check(const SsPolicy *policy, Datum document, const char *what);

#endif
