/*
 * export.h
 *		Returns what a namespace holds of an owner.
 */
#ifndef SS_EXPORT_H
#define SS_EXPORT_H

#include "row/session.h"

/* Called with each item of a page: its cursor (text), its kind, and the item (jsonb). */
typedef void (*SsExportSink)(void *arg, Datum cursor, const char *kind, Datum item);

extern void ss_export_page(const SsTarget *target, Datum owner, Datum after, int32 size,
						   SsExportSink sink, void *arg);

#endif
