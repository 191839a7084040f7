/*
 * rules.h
 *		The rules R1 to R22 of the cache's protocol.
 *
 * Each place in the code that implements a rule tests SS_RULE(n), which is always true.  A mutant,
 * built with SS_KNOCK_OUT=n, leaves that rule out, and the simulator (test/sim) must then find a
 * stale read.  So each rule is known to be needed and tested.
 *
 * docs/protocol.md has each rule with its reason and its places.  R13 has three mutants: 13,
 * changes are recorded whatever the cache rule says; 21, keys are entered even while no pusher is
 * attached; 22, a pusher that attaches flushes what was resolved before.
 */
#ifndef SS_RULES_H
#define SS_RULES_H

#ifndef SS_KNOCK_OUT
#define SS_KNOCK_OUT 0
#endif

#define SS_RULE(n) (SS_KNOCK_OUT != (n))

#endif
