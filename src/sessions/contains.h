/*
 * contains.h
 *		An interruptible variant of the jsonb operator @>, for filters of listings.
 */
#ifndef SS_CONTAINS_H
#define SS_CONTAINS_H

#include "utils/jsonb.h"

/* Maximum size of a filter as binary jsonb. */
#define SS_FILTER_MAX_BYTES 8192

extern bool ss_contains(JsonbContainer *document, JsonbContainer *filter);

#endif
