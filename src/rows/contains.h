/*
 * contains.h
 *		Whether a document contains another one (the filter of a listing).
 */
#ifndef SS_CONTAINS_H
#define SS_CONTAINS_H

#include "utils/jsonb.h"

/* The longest filter of a listing, as binary jsonb. */
#define SS_FILTER_MAX_BYTES 8192

extern bool ss_contains(JsonbContainer *document, JsonbContainer *filter);

#endif
