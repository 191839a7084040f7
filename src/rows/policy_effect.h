/*
 * policy_effect.h
 *		What a change of a namespace's policy means for the copies in Redis.
 */
#ifndef SS_POLICY_EFFECT_H
#define SS_POLICY_EFFECT_H

#include "rows/namespaces.h"

typedef enum SsPolicyEffect
{
	SS_POLICY_NOTHING, /* copies stay as they are */
	SS_POLICY_REFRESH, /* they say less than they could: they are made again, nobody waits for it */
	SS_POLICY_FLUSH    /* they must not be seen any more when COMMIT returns (R14) */
} SsPolicyEffect;

extern SsPolicyEffect ss_policy_effect(const SsPolicy *before, const SsPolicy *after);

#endif
