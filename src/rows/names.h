/*
 * names.h
 *		What the names of sessions, owners and namespaces may hold.
 */
#ifndef SS_NAMES_H
#define SS_NAMES_H

#define SS_NAME_MAX 200 /* ids, owners, members, operation ids */

extern bool ss_name_is_plain(const char *name, int len);

#endif
