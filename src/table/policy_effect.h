/*
 * policy_effect.h
 *		Determines what a change of a policy means for the copies in Redis.
 */
#ifndef SS_POLICY_EFFECT_H
#define SS_POLICY_EFFECT_H

#include "table/namespaces.h"

/* In ascending order of what has to be done. */
typedef enum SsPolicyEffect
{
	SS_POLICY_NOTHING, /* copies stay as they are */
	SS_POLICY_REFRESH, /* copies are made again, without COMMIT waiting for it */
	SS_POLICY_FLUSH    /* copies must not be visible any more when COMMIT returns (R14) */
} SsPolicyEffect;

extern SsPolicyEffect ss_policy_effect(const SsPolicy *before, const SsPolicy *after);

#endif
