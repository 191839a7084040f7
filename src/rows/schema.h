/*
 * schema.h
 *		Are our tables as they were made?
 */
#ifndef SS_SCHEMA_H
#define SS_SCHEMA_H

#include "nodes/pg_list.h"

extern Oid ss_schema_check(Oid schema, const char *table, List **children);
extern char *ss_schema_damage(Oid schema);
extern char *ss_schema_damage_of(Oid schema, const char *table);
extern char *ss_schema_other_version(void);

#endif
