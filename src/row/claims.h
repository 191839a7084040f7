/*
 * claims.h
 *		Identifies the caller by the JWT claims that PostgREST and Supabase set.
 */
#ifndef SS_CLAIMS_H
#define SS_CLAIMS_H

extern char *ss_claims_subject(void);

#endif
