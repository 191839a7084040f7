/*
 * document.c
 *		Changes to a JSON document: merge patch (RFC 7396) and counters.
 *
 * Both build a new document in one pass over the old one and know nothing of sessions.  jsonb stores
 * the keys of an object sorted, by length and then by bytes, and without duplicates, so merging two
 * objects is merging two sorted lists.
 *
 * Results are palloc'd, or one of the arguments.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/toast_internals.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "compat.h"
#include "sessions/document.h"
#include "shared/counters.h"

/* An iteration over the members of an object. */
typedef struct Members
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;
	bool done;
} Members;

static JsonbValue *merge_into(JsonbParseState **state, JsonbContainer *target,
							  JsonbContainer *patch, bool shallow);

static bool
is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

static void
next_member(Members *m)
{
	JsonbIteratorToken token = JsonbIteratorNext(&m->it, &m->key, true);

	if (token != WJB_KEY)
	{
		m->done = true;
		return;
	}
	(void) JsonbIteratorNext(&m->it, &m->value, true);
}

/* Begins an iteration; NULL stands for the empty object. */
static void
open_members(Members *m, JsonbContainer *object)
{
	JsonbValue ignored;

	memset(m, 0, sizeof(*m));
	if (object == NULL)
	{
		m->done = true;
		return;
	}
	m->it = JsonbIteratorInit(object);
	(void) JsonbIteratorNext(&m->it, &ignored, true);
	next_member(m);
}

/* Compares two keys in the order in which jsonb stores them. */
static int
compare_keys(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len ? -1 : 1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

static void
push_member(JsonbParseState **state, JsonbValue *key, JsonbValue *value)
{
	pushJsonbValue(state, WJB_KEY, key);
	pushJsonbValue(state, WJB_VALUE, value);
}

/*
 * Pushes a member of the patch.  `old` is the target's member of that name if it is an object, else
 * NULL.  `shallow` pushes objects as they are.
 */
static void
push_patched(JsonbParseState **state, JsonbValue *key, JsonbValue *value, JsonbContainer *old,
			 bool shallow)
{
	if (value->type == jbvNull)
		return; /* null removes */
	if (is_object(value) && !shallow)
	{
		pushJsonbValue(state, WJB_KEY, key);
		(void) merge_into(state, old, value->val.binary.data, false);
	}
	else
		push_member(state, key, value);
}

/* Merges two objects and pushes the result; returns it if it is the root. */
static JsonbValue *
merge_into(JsonbParseState **state, JsonbContainer *target, JsonbContainer *patch, bool shallow)
{
	Members t;
	Members p;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	open_members(&t, target);
	open_members(&p, patch);
	while (!t.done || !p.done)
	{
		int order = t.done ? 1 : p.done ? -1 : compare_keys(&t.key, &p.key);

		if (order < 0)
			push_member(state, &t.key, &t.value);
		else
			push_patched(state, &p.key, &p.value,
						 order == 0 && is_object(&t.value) ? t.value.val.binary.data : NULL,
						 shallow);
		if (order <= 0)
			next_member(&t);
		if (order >= 0)
			next_member(&p);
	}
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/*
 * Applies a merge patch (RFC 7396) to the target.  `shallow` applies it to the members of the document
 * only: a member that is an object replaces that of the target, and nulls in it are values.
 */
Jsonb *
ss_document_merge(Jsonb *target, Jsonb *patch, bool shallow)
{
	JsonbParseState *state = NULL;

	if (!JB_ROOT_IS_OBJECT(patch))
		return patch;
	return JsonbValueToJsonb(merge_into(&state, JB_ROOT_IS_OBJECT(target) ? &target->root : NULL,
										&patch->root, shallow));
}

/* Is a document empty: {}, [] or null? */
static bool
is_empty(Jsonb *document)
{
	JsonbValue root;

	if (!JB_ROOT_IS_SCALAR(document))
		return JB_ROOT_COUNT(document) == 0;
	return JsonbExtractScalar(&document->root, &root) && root.type == jbvNull;
}

/*
 * Merges the documents of two sessions: applies the source to the target as a merge patch.  A source
 * that is not an object would replace the whole target, so it is used only if the target is empty.
 * An empty source has no effect.
 */
Jsonb *
ss_document_absorb(Jsonb *target, Jsonb *source)
{
	if (is_empty(source))
		return target;
	if (!JB_ROOT_IS_OBJECT(source))
		return is_empty(target) ? source : target;
	return ss_document_merge(target, source, false);
}

/* An addition in progress. */
typedef struct Increment
{
	JsonbParseState *state;
	Datum *path;
	int npath;
	Numeric by;
	Numeric max;    /* NULL: none */
	Numeric result; /* the sum */
	bool exceeded;  /* it is above max */
} Increment;

static JsonbValue *push_incremented(Increment *inc, int depth, JsonbIteratorToken token,
									JsonbValue *value);

static void
refuse_path(Increment *inc, int depth, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid path for a counter"),
					errdetail("Element %d of the path, \"%s\": %s", depth,
							  depth > 0 ? TextDatumGetCString(inc->path[depth - 1]) : "", what)));
}

/* At the end of the path: pushes the sum of the number there (NULL: 0) and inc->by. */
static JsonbValue *
push_sum(Increment *inc, JsonbIteratorToken token, JsonbValue *value)
{
	JsonbValue sum;

	if (value == NULL)
		inc->result = inc->by;
	else if (value->type == jbvNumeric)
		inc->result = DatumGetNumeric(DirectFunctionCall2(numeric_add,
														  NumericGetDatum(value->val.numeric),
														  NumericGetDatum(inc->by)));
	else
		refuse_path(inc, inc->npath, "the value there is not a number.");
	inc->exceeded = inc->max != NULL &&
					DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(inc->result),
													 NumericGetDatum(inc->max)));
	sum.type = jbvNumeric;
	sum.val.numeric = inc->result;
	return pushJsonbValue(&inc->state, token, &sum);
}

/* Pushes a copy of an object (NULL: an empty one) with one member incremented or added. */
static JsonbValue *
push_object(Increment *inc, int depth, JsonbContainer *object)
{
	Members m;
	JsonbValue key;
	bool found = false;

	key.type = jbvString;
	key.val.string.val = VARDATA_ANY(DatumGetPointer(inc->path[depth]));
	key.val.string.len = VARSIZE_ANY_EXHDR(DatumGetPointer(inc->path[depth]));

	pushJsonbValue(&inc->state, WJB_BEGIN_OBJECT, NULL);
	for (open_members(&m, object); !m.done; next_member(&m))
	{
		bool here = !found && compare_keys(&m.key, &key) == 0;

		pushJsonbValue(&inc->state, WJB_KEY, &m.key);
		if (here)
			(void) push_incremented(inc, depth + 1, WJB_VALUE, &m.value);
		else
			pushJsonbValue(&inc->state, WJB_VALUE, &m.value);
		found = found || here;
	}
	if (!found)
	{
		pushJsonbValue(&inc->state, WJB_KEY, &key);
		(void) push_incremented(inc, depth + 1, WJB_VALUE, NULL);
	}
	return pushJsonbValue(&inc->state, WJB_END_OBJECT, NULL);
}

/* Pushes a copy of an array with one element incremented; raises an error if there is none. */
static JsonbValue *
push_array(Increment *inc, int depth, JsonbContainer *array)
{
	char *wanted = TextDatumGetCString(inc->path[depth]);
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbValue element;
	char *end;
	long index;

	errno = 0;
	index = strtol(wanted, &end, 10);
	if (*wanted == '\0' || *end != '\0' || errno != 0)
		refuse_path(inc, depth + 1, "an array element must be specified by its index.");
	if (index < 0)
		index += JsonContainerSize(array);
	if (index < 0 || index >= JsonContainerSize(array))
		refuse_path(inc, depth + 1, "the array has no such element.");

	(void) JsonbIteratorNext(&it, &element, true);
	pushJsonbValue(&inc->state, WJB_BEGIN_ARRAY, NULL);
	for (long i = 0; JsonbIteratorNext(&it, &element, true) == WJB_ELEM; i++)
		if (i == index)
			(void) push_incremented(inc, depth + 1, WJB_ELEM, &element);
		else
			pushJsonbValue(&inc->state, WJB_ELEM, &element);
	return pushJsonbValue(&inc->state, WJB_END_ARRAY, NULL);
}

/* Pushes the new value of a value on the path (NULL: absent). */
static JsonbValue *
push_incremented(Increment *inc, int depth, JsonbIteratorToken token, JsonbValue *value)
{
	check_stack_depth();
	if (depth == inc->npath)
		return push_sum(inc, token, value);
	if (value == NULL)
		return push_object(inc, depth, NULL);
	if (value->type != jbvBinary || JsonContainerIsScalar(value->val.binary.data))
		refuse_path(inc, depth, "the value there is a scalar, which has no members.");
	if (JsonContainerIsObject(value->val.binary.data))
		return push_object(inc, depth, value->val.binary.data);
	return push_array(inc, depth, value->val.binary.data);
}

/*
 * Adds to the number at a path.  Missing members of objects are created, missing elements of arrays
 * are an error.  Returns NULL when the sum would exceed max; otherwise *result is the sum.
 */
Jsonb *
ss_document_incr(Jsonb *target, Datum *path, int npath, Numeric by, Numeric max, Numeric *result)
{
	Increment inc = {NULL, path, npath, by, max, NULL, false};
	JsonbValue root;
	JsonbValue *changed;

	JsonbToJsonbValue(target, &root);
	changed = push_incremented(&inc, 0, WJB_VALUE, &root);
	if (inc.exceeded)
		return NULL;
	*result = inc.result;
	return JsonbValueToJsonb(changed);
}

/*
 * Raises an error if a document or message exceeds max_bytes of the namespace.  The limit applies to
 * the size before compression.  `what` names it in the error.
 */
void
ss_document_check(const SsPolicy *policy, Datum document, const char *what)
{
	int64 size = toast_raw_datum_size(document) - VARHDRSZ;

	if (size > policy->max_bytes)
	{
		ss_counter_add(SS_ERROR_TOO_LARGE, 1);
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s is too large", what),
						errdetail("It has " INT64_FORMAT
								  " bytes; namespace \"%s\" allows " INT64_FORMAT ".",
								  size, policy->name, policy->max_bytes),
						errhint("Store large or growing parts elsewhere, or increase max_bytes.")));
	}
}
