/*
 * rules.h
 *		The rules R1 to R22 that keep the cache from lying.
 *
 * Each place that keeps a rule asks SS_RULE(n), which is always true: a mutant, built
 * with SS_KNOCK_OUT=n, leaves that rule out, and the simulator (test/sim) must find
 * a stale read.  That is how we know that each rule is needed, and tested.
 *
 * R13 has three: 13, changes are recorded whatever the cache rule says; 21, keys are entered while
 * no pusher is attached, too; 22, a pusher that attaches flushes what was settled before.
 */
#ifndef SS_RULES_H
#define SS_RULES_H

#ifndef SS_KNOCK_OUT
#define SS_KNOCK_OUT 0
#endif

#define SS_RULE(n) (SS_KNOCK_OUT != (n))

#endif
