/*
 * identity.h
 *		Identifies the data directory, and tells whether it was that of a standby.
 */
#ifndef SS_IDENTITY_H
#define SS_IDENTITY_H

#include "protocol/claim.h"

extern void ss_identity_at_start(void);
extern void ss_identity_read(SsClaim *me);
extern bool ss_identity_was_standby(void);

#endif
