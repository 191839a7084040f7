/*
 * names.h
 *		Checks which characters names of sessions, owners and namespaces may contain.
 */
#ifndef SS_NAMES_H
#define SS_NAMES_H

extern bool ss_name_is_plain(const char *name, int len);

#endif
