/*
 * plpgsql_types.h
 *		Checks the types of variables in PL/pgSQL functions that run with the owner's rights.
 */
#ifndef SS_PLPGSQL_TYPES_H
#define SS_PLPGSQL_TYPES_H

extern void ss_plpgsql_types_enter(void);
extern void ss_plpgsql_types_leave(void);
extern bool ss_type_is_trusted(Oid type);

#endif
