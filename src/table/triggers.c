/*
 * triggers.c
 *		The triggers that belong to the extension.
 *
 * This is the only place in C that names them: a trigger that the install script creates is added to
 * the list here.  A test compares the two (test/t/077_lists_in_c.pl).  Whether a trigger of
 * another role may fire is decided in foreign_triggers.c.
 *
 * A trigger is ours if it has the name and calls the function, in the schema of its table, that the
 * list says.  A user may have created another one with the same name.
 *
 * The functions look up functions in the catalogs, which may process invalidations, so their callers
 * pass triggers of a copy of rel->trigdesc (CopyTriggerDesc).
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/lsyscache.h"

#include "table/triggers.h"

#define ROW_BEFORE (TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE)
#define UPSERT (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE)
#define ANY_CHANGE (UPSERT | TRIGGER_TYPE_DELETE)

/* By table and name.  TRIGGER_TYPE_AFTER and TRIGGER_TYPE_STATEMENT are 0. */
static const SsOwnTrigger own_triggers[] = {
	{"conversation_sessions", "session_row_guard", "session_row_guard", ROW_BEFORE | UPSERT, false},
	{"conversation_sessions", "zz_session_change", "session_change_note", ROW_BEFORE | ANY_CHANGE,
	 true},
	{"conversation_sessions", "zz_session_truncate", "session_change_note",
	 TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_TRUNCATE, true},
	{"conversation_history", "zz_history_change", "session_history_note", ROW_BEFORE | ANY_CHANGE,
	 true},
	{"conversation_history", "zz_history_truncate", "session_history_note", TRIGGER_TYPE_TRUNCATE,
	 true},
	{"session_namespaces", "session_namespaces_change", "session_namespaces_guard",
	 TRIGGER_TYPE_ROW | ANY_CHANGE, false},
	{"session_namespaces", "session_namespaces_check", "session_namespaces_guard",
	 ROW_BEFORE | UPSERT, false},
	{"session_namespaces", "session_namespaces_truncate", "session_namespaces_guard",
	 TRIGGER_TYPE_TRUNCATE, false},
	{"session_cache_claims", "session_cache_claims_guard", "session_cache_claims_guard",
	 ROW_BEFORE | ANY_CHANGE, false},
};

/*
 * Returns the trigger of ours after `previous` that one of our tables must have, or the first if
 * that is NULL; NULL if there are no more.
 */
const SsOwnTrigger *
ss_own_trigger_next(Relation rel, const SsOwnTrigger *previous)
{
	const SsOwnTrigger *own = previous == NULL ? own_triggers : previous + 1;

	for (; own < own_triggers + lengthof(own_triggers); own++)
		if (strcmp(own->table, RelationGetRelationName(rel)) == 0)
			return own;
	return NULL;
}

static bool
calls_function(const SsOwnTrigger *own, Relation rel, const Trigger *trigger)
{
	char *function = get_func_name(trigger->tgfoid);

	return function != NULL && strcmp(function, own->function) == 0 &&
		   get_func_namespace(trigger->tgfoid) == RelationGetNamespace(rel);
}

/* Returns which trigger of ours a trigger on one of our tables is; NULL if it is none. */
const SsOwnTrigger *
ss_own_trigger_find(Relation rel, const Trigger *trigger)
{
	const SsOwnTrigger *own = NULL;

	while ((own = ss_own_trigger_next(rel, own)) != NULL)
		if (strcmp(own->name, trigger->tgname) == 0)
			return calls_function(own, rel, trigger) ? own : NULL;
	return NULL;
}

/* Returns a trigger of ours among the triggers of its table; NULL if it is missing. */
const Trigger *
ss_own_trigger_in(const SsOwnTrigger *own, Relation rel, const TriggerDesc *triggers)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(own->name, triggers->triggers[i].tgname) == 0)
			return calls_function(own, rel, &triggers->triggers[i]) ? &triggers->triggers[i] : NULL;
	return NULL;
}

/* Does a trigger of ours fire always, and for all that it was created for? */
bool
ss_own_trigger_is_intact(const SsOwnTrigger *own, const Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
		   (trigger->tgtype & own->type) == own->type && trigger->tgqual == NULL &&
		   trigger->tgnattr == 0;
}
