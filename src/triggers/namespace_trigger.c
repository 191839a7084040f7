/*
 * namespace_trigger.c
 *		The triggers on session_namespaces: they validate policies and publish their changes.
 *
 * No key prefix may be the beginning of another.  Otherwise the keys of two namespaces could be
 * the same in the cache, and a Redis access rule by prefix would let one service read the other's
 * sessions.  No index can enforce this, so writers of prefixes are serialized.  Each INSERT, and
 * each UPDATE of a name or prefix, locks the table as an object, which does not conflict with the
 * relation locks that statements hold and so cannot deadlock with them.  It keeps the lock to the
 * end of the transaction, and compares its prefixes with those of all rows in a new snapshot.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "base/key.h"
#include "function.h"
#include "keys/xact_keys.h"
#include "table/catalog.h"
#include "table/namespaces.h"
#include "table/policy_effect.h"
#include "table/schema.h"

/* The pusher's own keys begin with this. */
#define RESERVED_PREFIX "session_store:"

/* Maximum number of elements of token_path. */
#define SS_TOKEN_PATH_MAX 16

SS_FUNCTION(session_namespaces_guard, 1_0, TRIGGEROID);

/* Raise the error for an invalid column; hint may be NULL. */
static void
refuse(const char *column, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid %s for a namespace", column),
					errdetail("%s", what), hint ? errhint("%s", hint) : 0));
}

/* Does b begin with a? */
static bool
begins(const char *a, const char *b)
{
	return strncmp(a, b, strlen(a)) == 0;
}

/* Check a key or tail prefix by itself. */
static void
check_prefix(const char *column, const char *prefix)
{
	int len = strlen(prefix);

	if (len < 1 || len > SS_PREFIX_MAX)
		refuse(column, psprintf("A prefix must be between 1 and %d bytes long.", SS_PREFIX_MAX),
			   NULL);
	if (!ss_name_is_plain(prefix, len))
		refuse(column, "A prefix must not contain control characters.", NULL);
	/* in both directions: with prefix "session_", the id "store:lease" would collide */
	if (begins(RESERVED_PREFIX, prefix) || begins(prefix, RESERVED_PREFIX))
		refuse(column,
			   "Keys that begin with \"" RESERVED_PREFIX "\" belong to session_store itself.",
			   "Use another prefix, such as the name of the service and a colon.");
}

/* Check an interval of at least `least` microseconds. */
static void
check_duration(const char *column, Datum value, int64 least)
{
	Interval *span = DatumGetIntervalP(value);
	int64 ignored;

	switch (ss_duration(span->month, span->day, span->time, least, SS_TTL_MAX_US, &ignored))
	{
		case SS_DURATION_OK:
			break;
		case SS_DURATION_MONTHS:
			refuse(column,
				   "It must be finite and must not contain months or years, which "
				   "have no fixed length.",
				   "Specify days, hours, minutes or seconds; a day is 24 hours.");
			break;
		case SS_DURATION_TOO_SHORT:
			refuse(column,
				   least > 0 ? "It must be at least 1 millisecond." : "It must not be negative.",
				   NULL);
			break;
		case SS_DURATION_TOO_LONG:
			refuse(column, "It must be at most 100 years of 365.25 days.", NULL);
			break;
	}
}

/* Check the path of the number of tokens in a message. */
static void
check_token_path(ArrayType *path)
{
	Datum *names;
	int n;

	if (ARR_NDIM(path) != 1 || array_contains_nulls(path))
		refuse("token_path", "It must be a one-dimensional array of member names without nulls.",
			   "Use null for namespaces whose messages do not have their number of tokens.");
	deconstruct_array(path, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	if (n > SS_TOKEN_PATH_MAX)
		refuse("token_path", psprintf("It must have at most %d elements.", SS_TOKEN_PATH_MAX),
			   NULL);
	for (int i = 0; i < n; i++)
		if (strlen(TextDatumGetCString(names[i])) > SS_NAME_MAX)
			refuse("token_path", psprintf("An element must be at most %d bytes long.", SS_NAME_MAX),
				   NULL);
}

/* BEFORE INSERT OR UPDATE: check one row by itself, and fill in key_prefix if it is null. */
static HeapTuple
check_row(TriggerData *trigdata, HeapTuple tuple)
{
	TupleDesc desc = RelationGetDescr(trigdata->tg_relation);
	Datum values[SS_NS_ATTRS + 1];
	bool nulls[SS_NS_ATTRS + 1];
	char *name;

	ss_ns_deform(tuple, desc, values, nulls);
	if (nulls[SS_NS_NAME])
		return tuple; /* left to NOT NULL */
	name = TextDatumGetCString(values[SS_NS_NAME]);
	if (strlen(name) < 1 || strlen(name) > SS_NAMESPACE_MAX)
		refuse("name",
			   psprintf("The name of a namespace must be between 1 and %d bytes long.",
						SS_NAMESPACE_MAX),
			   NULL);
	if (!ss_name_is_plain(name, strlen(name)))
		refuse("name", "The name of a namespace must not contain control characters.", NULL);

	if (nulls[SS_NS_KEY_PREFIX])
	{
		int column = SS_NS_KEY_PREFIX;
		bool null = false;
		char *prefix = strcmp(name, SS_DEFAULT_NAMESPACE) == 0 ? pstrdup(SS_DEFAULT_PREFIX)
															   : psprintf("%s:", name);

		values[SS_NS_KEY_PREFIX] = CStringGetTextDatum(prefix);
		nulls[SS_NS_KEY_PREFIX] = false;
		tuple = heap_modify_tuple_by_cols(tuple, desc, 1, &column, &values[SS_NS_KEY_PREFIX],
										  &null);
	}
	check_prefix("key_prefix", TextDatumGetCString(values[SS_NS_KEY_PREFIX]));
	if (!nulls[SS_NS_TAIL_PREFIX])
		check_prefix("tail_prefix", TextDatumGetCString(values[SS_NS_TAIL_PREFIX]));
	if (!nulls[SS_NS_TTL])
		check_duration("ttl", values[SS_NS_TTL], SS_TTL_MIN_US);
	if (!nulls[SS_NS_MAX_LIFETIME])
		check_duration("max_lifetime", values[SS_NS_MAX_LIFETIME], SS_TTL_MIN_US);
	if (!nulls[SS_NS_CACHE_TTL])
		check_duration("cache_ttl", values[SS_NS_CACHE_TTL], SS_TTL_MIN_US);
	if (!nulls[SS_NS_TOMBSTONE])
		check_duration("tombstone", values[SS_NS_TOMBSTONE], 0);
	if (!nulls[SS_NS_EVENTS_KEEP])
		check_duration("events_keep", values[SS_NS_EVENTS_KEEP], 0);
	if (!nulls[SS_NS_OPERATION_KEEP])
		check_duration("operation_keep", values[SS_NS_OPERATION_KEEP], SS_TTL_MIN_US);
	if (!nulls[SS_NS_TOKEN_PATH])
		check_token_path(DatumGetArrayTypeP(values[SS_NS_TOKEN_PATH]));
	if (!nulls[SS_NS_ALLOWED_ROLES])
	{
		ArrayType *roles = DatumGetArrayTypeP(values[SS_NS_ALLOWED_ROLES]);

		if (ARR_NDIM(roles) > 1 || array_contains_nulls(roles))
			refuse("allowed_roles",
				   "It must be a one-dimensional array of role names without nulls.", NULL);
	}
	return tuple;
}

/* Raise an error if one of two prefixes begins with the other; either may be NULL. */
static void
compare_prefixes(const char *name, const char *prefix, const char *other_name, const char *other)
{
	if (prefix != NULL && other != NULL && (begins(prefix, other) || begins(other, prefix)))
		ereport(ERROR, (errcode(ERRCODE_EXCLUSION_VIOLATION),
						errmsg("prefix \"%s\" of namespace \"%s\" conflicts with prefix "
							   "\"%s\" of namespace \"%s\"",
							   prefix, name, other, other_name),
						errdetail("No prefix may begin with another one, because keys of two "
								  "namespaces could then be equal."),
						errhint("End each prefix with a separator, such as a colon.")));
}

static char *
text_or_null(Datum value, bool null)
{
	return null ? NULL : TextDatumGetCString(value);
}

/*
 * AFTER a change: compare the prefixes of one namespace with all others.  When the row of
 * namespace "default" was deleted, the arguments are that name and its built-in prefixes.
 */
static void
check_overlap(Relation rel, const char *name, const char *key, const char *tail)
{
	bool default_seen = strcmp(name, SS_DEFAULT_NAMESPACE) == 0;
	SysScanDesc scan;
	HeapTuple tuple;

	LockDatabaseObject(RelationRelationId, RelationGetRelid(rel), 1, ExclusiveLock);
	/* make the rows of this statement visible to the snapshot of the scan */
	CommandCounterIncrement();

	compare_prefixes(name, key, name, tail);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum values[SS_NS_ATTRS + 1];
		bool nulls[SS_NS_ATTRS + 1];
		char *other;
		char *other_key;
		char *other_tail;

		ss_ns_deform(tuple, RelationGetDescr(rel), values, nulls);
		other = TextDatumGetCString(values[SS_NS_NAME]);
		if (strcmp(other, SS_DEFAULT_NAMESPACE) == 0)
			default_seen = true;
		if (strcmp(other, name) == 0)
			continue;
		other_key = text_or_null(values[SS_NS_KEY_PREFIX], nulls[SS_NS_KEY_PREFIX]);
		other_tail = text_or_null(values[SS_NS_TAIL_PREFIX], nulls[SS_NS_TAIL_PREFIX]);
		compare_prefixes(name, key, other, other_key);
		compare_prefixes(name, key, other, other_tail);
		compare_prefixes(name, tail, other, other_key);
		compare_prefixes(name, tail, other, other_tail);
	}
	systable_endscan(scan);
	if (!default_seen)
	{
		compare_prefixes(name, key, SS_DEFAULT_NAMESPACE, SS_DEFAULT_PREFIX);
		compare_prefixes(name, tail, SS_DEFAULT_NAMESPACE, SS_DEFAULT_PREFIX);
	}
}

/* Is this the row of "default", so that its removal brings the built-in policy back? */
static bool
was_default(HeapTuple tuple, TupleDesc desc)
{
	bool null;
	Datum name = heap_getattr(tuple, SS_NS_NAME, desc, &null);

	return !null && strcmp(TextDatumGetCString(name), SS_DEFAULT_NAMESPACE) == 0;
}

/* Record for COMMIT what a change of policy means to the cache; NULL if there is no namespace. */
static void
record_effect(const SsPolicy *before, const SsPolicy *after)
{
	SsPolicyEffect effect = ss_policy_effect(before, after);

	if (effect != SS_POLICY_NOTHING)
		ss_xact_keys_add_policy(before->name, effect == SS_POLICY_FLUSH);
}

/* Read the policy, name included, from a row. */
static void
read_policy(HeapTuple tuple, TupleDesc desc, SsPolicy *policy)
{
	bool null;

	memset(policy, 0, sizeof(*policy));
	strlcpy(policy->name, TextDatumGetCString(heap_getattr(tuple, SS_NS_NAME, desc, &null)),
			sizeof(policy->name));
	ss_ns_read(policy, tuple, desc, CurrentMemoryContext);
}

/*
 * AFTER a change: record its effect on the copies of one namespace, or of two if it was renamed.
 */
static void
record_change(TriggerData *trigdata, HeapTuple now, TupleDesc desc)
{
	SsPolicy before;
	SsPolicy after;
	SsPolicy built_in = {.name = SS_DEFAULT_NAMESPACE};
	bool was = !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event);
	bool is = !TRIGGER_FIRED_BY_DELETE(trigdata->tg_event);

	ss_ns_built_in(&built_in);
	if (was)
		read_policy(trigdata->tg_trigtuple, desc, &before);
	if (is)
		read_policy(now, desc, &after);
	if (was && is && strcmp(before.name, after.name) == 0)
	{
		record_effect(&before, &after);
		return;
	}
	/* without a row, "default" has the built-in policy and others do not exist */
	if (was)
		record_effect(&before, strcmp(before.name, SS_DEFAULT_NAMESPACE) == 0 ? &built_in : NULL);
	if (is && strcmp(after.name, SS_DEFAULT_NAMESPACE) == 0)
		record_effect(&built_in, &after);
}

/* Has an update left name and prefixes as they were? */
static bool
same_prefixes(TupleDesc desc, HeapTuple before, HeapTuple after)
{
	static const int columns[] = {SS_NS_NAME, SS_NS_KEY_PREFIX, SS_NS_TAIL_PREFIX};

	for (int i = 0; i < lengthof(columns); i++)
	{
		bool was_null;
		bool is_null;
		Datum was = heap_getattr(before, columns[i], desc, &was_null);
		Datum is = heap_getattr(after, columns[i], desc, &is_null);

		if (was_null != is_null ||
			(!was_null && strcmp(TextDatumGetCString(was), TextDatumGetCString(is)) != 0))
			return false;
	}
	return true;
}

/* The trigger function, for rows BEFORE and AFTER a change, and for TRUNCATE. */
static Datum
session_namespaces_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation rel;
	TupleDesc desc;
	SsCatalog catalog;
	HeapTuple tuple;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg(
					 "function \"session_namespaces_guard\" was not called by trigger manager")));
	rel = trigdata->tg_relation;
	desc = RelationGetDescr(rel);
	ss_catalog_get(&catalog);
	if (RelationGetRelid(rel) != catalog.namespaces ||
		TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ==
			TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event) ||
		(TRIGGER_FIRED_BEFORE(trigdata->tg_event) &&
		 (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event) ||
		  TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"session_namespaces_guard\" must be called by a "
							   "trigger that session_store created")));

	tuple = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple
														: trigdata->tg_trigtuple;
	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		return PointerGetDatum(check_row(trigdata, tuple));

	CacheInvalidateRelcache(rel);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		if (ss_xact_keys_attach())
			ss_xact_keys_add_all(SS_CHANGED_FENCED | SS_KEY_CACHEABLE);
		return PointerGetDatum(NULL);
	}
	record_change(trigdata, tuple, desc);
	/*
	 * the lock in check_overlap is held while COMMIT waits at the fence, so take it only if needed
	 */
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) &&
		same_prefixes(desc, trigdata->tg_trigtuple, tuple))
		return PointerGetDatum(NULL);

	if (!TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		Datum values[SS_NS_ATTRS + 1];
		bool nulls[SS_NS_ATTRS + 1];

		ss_ns_deform(tuple, desc, values, nulls);
		check_overlap(rel, TextDatumGetCString(values[SS_NS_NAME]),
					  TextDatumGetCString(values[SS_NS_KEY_PREFIX]),
					  text_or_null(values[SS_NS_TAIL_PREFIX], nulls[SS_NS_TAIL_PREFIX]));
	}
	if (!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) && was_default(trigdata->tg_trigtuple, desc) &&
		(TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) || !was_default(tuple, desc)))
		check_overlap(rel, SS_DEFAULT_NAMESPACE, SS_DEFAULT_PREFIX, NULL);
	return PointerGetDatum(NULL);
}
