/*
 * turns.h
 *		Calls that lock more than one session take turns while they lock.
 */
#ifndef SS_TURNS_H
#define SS_TURNS_H

#include "storage/lock.h"

#include "rows/sessions.h"

typedef struct SsTurn
{
	int n;
	LOCKTAG tag[3];
	LOCKMODE mode[3];
} SsTurn;

extern void ss_turn_pair(SsTurn *turn, const SsTarget *a, const SsTarget *b);
extern void ss_turn_many(SsTurn *turn, const SsTarget *target, Datum owner);
extern void ss_turn_end(SsTurn *turn);
extern void ss_turn_name(LOCKTAG *tag, const SsTarget *target, Datum name, uint16 space);

#endif
