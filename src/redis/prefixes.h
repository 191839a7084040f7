/*
 * prefixes.h
 *		The prefixes of our keys in Redis.
 */
#ifndef SS_PREFIXES_H
#define SS_PREFIXES_H

/* A prefix of our keys. */
typedef struct SsPrefix
{
	char *text;
	bool owned; /* a policy has it; otherwise it is removed by the next flush */
	bool named; /* the guard names it, since a flush */
} SsPrefix;

typedef struct SsPrefixes
{
	int count;
	int room;
	SsPrefix *prefix;
} SsPrefixes;

extern SsPrefix *ss_prefixes_find(const SsPrefixes *prefixes, const char *prefix, size_t len);
extern SsPrefix *ss_prefixes_add(SsPrefixes *prefixes, const char *prefix, size_t len);
extern void ss_prefixes_flushed(SsPrefixes *prefixes, const SsPrefixes *sent);
extern void ss_prefixes_clear(SsPrefixes *prefixes);

#endif
