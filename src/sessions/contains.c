/*
 * contains.c
 *		An interruptible variant of the jsonb operator @>, for filters of listings.
 *
 * The operator of the server does not check for interrupts.  For two arrays it compares each
 * element of one with each element of the other, so that one row can occupy a backend for hours,
 * ignoring statement_timeout and a fast shutdown.  This variant gives the same answers, checks for
 * interrupts, and looks up the scalars of the filter in a sorted array.  Elements of arrays that
 * are objects or arrays themselves are still compared pair by pair.  So the time for one row is
 * bounded by the size of the document times the number of containers in the filter, and a filter
 * has at most SS_FILTER_MAX_BYTES.
 *
 * Memory: for each level of nesting, an array of the values of the filter at that level.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "sessions/contains.h"

/* The elements of an array of the filter that are yet to be found in the document. */
typedef struct Wanted
{
	JsonbValue *values; /* scalars, sorted, without duplicates; then containers */
	bool *found;        /* for each scalar, whether it was found */
	int nscalars;
	int nvalues; /* number of scalars, and of containers not yet found */
	int missing; /* number of elements not yet found */
} Wanted;

/* A total order of scalars for qsort and bsearch, in which equal means equal for @>. */
static int
compare_scalars(const void *a, const void *b)
{
	const JsonbValue *va = a;
	const JsonbValue *vb = b;

	if (va->type != vb->type)
		return va->type < vb->type ? -1 : 1;
	switch (va->type)
	{
		case jbvNull:
			return 0;
		case jbvBool:
			return (int) va->val.boolean - (int) vb->val.boolean;
		case jbvNumeric:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(va->val.numeric),
													 NumericGetDatum(vb->val.numeric)));
		case jbvString:
			if (va->val.string.len != vb->val.string.len)
				return va->val.string.len < vb->val.string.len ? -1 : 1;
			return memcmp(va->val.string.val, vb->val.string.val, va->val.string.len);
		default:
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("unexpected value in jsonb")));
	}
	return 0; /* keep compilers quiet */
}

/* Does a value contain the value at the same position of the filter? */
static bool
value_contains(const JsonbValue *value, const JsonbValue *filter)
{
	if (value->type != filter->type)
		return false;
	if (value->type == jbvBinary)
		return ss_contains(value->val.binary.data, filter->val.binary.data);
	return compare_scalars(value, filter) == 0;
}

/* ss_contains for two objects. */
static bool
object_contains(JsonbContainer *document, JsonbContainer *filter)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue member;

	/* keys of an object are unique */
	if (JsonContainerSize(document) < JsonContainerSize(filter))
		return false;
	it = JsonbIteratorInit(filter);
	while ((token = JsonbIteratorNext(&it, &member, true)) != WJB_DONE)
	{
		JsonbValue room;
		JsonbValue *value;

		if (token != WJB_KEY)
			continue;
		value = getKeyJsonValueFromContainer(document, member.val.string.val, member.val.string.len,
											 &room);
		if (value == NULL || JsonbIteratorNext(&it, &member, true) != WJB_VALUE ||
			!value_contains(value, &member))
		{
			pfree(it);
			return false;
		}
	}
	return true;
}

/* Collect the elements of an array of the filter; its arrays are palloced. */
static void
collect_wanted(Wanted *wanted, JsonbContainer *filter)
{
	int n = JsonContainerSize(filter);
	int ncontainers = 0;
	int unique = 0;
	JsonbIterator *it = JsonbIteratorInit(filter);
	JsonbIteratorToken token;
	JsonbValue element;

	wanted->values = palloc(sizeof(JsonbValue) * n);
	wanted->nscalars = 0;
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM)
		{
			if (element.type == jbvBinary)
				wanted->values[n - ++ncontainers] = element;
			else
				wanted->values[wanted->nscalars++] = element;
		}
	qsort(wanted->values, wanted->nscalars, sizeof(JsonbValue), compare_scalars);
	for (int i = 0; i < wanted->nscalars; i++)
		if (i == 0 || compare_scalars(&wanted->values[unique - 1], &wanted->values[i]) != 0)
			wanted->values[unique++] = wanted->values[i];
	memmove(wanted->values + unique, wanted->values + n - ncontainers,
			sizeof(JsonbValue) * ncontainers);
	wanted->nscalars = unique;
	wanted->nvalues = unique + ncontainers;
	wanted->missing = wanted->nvalues;
	wanted->found = palloc0(sizeof(bool) * (unique + 1));
}

/* Mark as found what an element of the document's array contains. */
static void
mark_found(Wanted *wanted, const JsonbValue *element)
{
	if (element->type == jbvBinary)
	{
		for (int i = wanted->nscalars; i < wanted->nvalues;)
		{
			if (ss_contains(element->val.binary.data, wanted->values[i].val.binary.data))
			{
				wanted->values[i] = wanted->values[--wanted->nvalues];
				wanted->missing--;
			}
			else
				i++;
		}
	}
	else
	{
		JsonbValue *value = bsearch(element, wanted->values, wanted->nscalars, sizeof(JsonbValue),
									compare_scalars);

		if (value != NULL && !wanted->found[value - wanted->values])
		{
			wanted->found[value - wanted->values] = true;
			wanted->missing--;
		}
	}
}

/* ss_contains for two arrays; a scalar at the top level is an array of one. */
static bool
array_contains(JsonbContainer *document, JsonbContainer *filter)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue element;
	Wanted wanted;

	/* an array contains a scalar that is one of its elements, but a scalar contains no array */
	if (JsonContainerIsScalar(document) && !JsonContainerIsScalar(filter))
		return false;
	if (JsonContainerSize(filter) == 0)
		return true;
	if (JsonContainerSize(document) == 0)
		return false;

	collect_wanted(&wanted, filter);
	it = JsonbIteratorInit(document);
	while (wanted.missing > 0 && (token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_ELEM)
			mark_found(&wanted, &element);
	}
	if (it != NULL)
		pfree(it);
	pfree(wanted.values);
	pfree(wanted.found);
	return wanted.missing == 0;
}

/* The same answer as document @> filter.  Raises an error if interrupted or nested too deeply. */
bool
ss_contains(JsonbContainer *document, JsonbContainer *filter)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (JsonContainerIsObject(document) != JsonContainerIsObject(filter))
		return false;
	return JsonContainerIsObject(filter) ? object_contains(document, filter)
										 : array_contains(document, filter);
}
