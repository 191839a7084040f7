/*
 * shape.h
 *		Are our tables as they were made?
 */
#ifndef SS_SHAPE_H
#define SS_SHAPE_H

#include "nodes/pg_list.h"

extern Oid ss_shape_check(Oid schema, const char *table, List **children);
extern char *ss_shape_damage(Oid schema);
extern char *ss_shape_damage_of(Oid schema, const char *table);
extern char *ss_shape_other_version(void);

#endif
