/*
 * login.h
 *		Where Redis is and how to log in, from the settings.
 */
#ifndef SS_LOGIN_H
#define SS_LOGIN_H

#include "redis/wire_connect.h"

extern void ss_login_choose(SsWireLogin *login);
extern bool ss_login_changed(const SsWireLogin *login);
extern bool ss_login_read(SsWireLogin *login, char *problem, size_t size);

#endif
