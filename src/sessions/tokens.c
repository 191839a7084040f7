/*
 * tokens.c
 *		The number of tokens of a message: its own, or an estimate.
 *
 * The estimate is 4 tokens for the message, one for 4 bytes of text, and 1000 for a file or an image.
 * Text is every string; a number, a boolean and a null count 4 bytes.  The names of members are text
 * where data of the user begins, which is below the parts of the message: the input of a tool, say.
 * Above, names are the format's, and ids, types, roles and signatures are not for the model.
 *
 * A message may be any JSON.  Containers that are nested more deeply than MAX_DEPTH count their size
 * in the table, so that recursion is bounded.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "sessions/tokens.h"

#define MESSAGE_TOKENS 4
#define FILE_TOKENS 1000
#define BYTES_PER_TOKEN 4
#define SCALAR_BYTES 4
#define MAX_DEPTH 32

/* The depth of the parts in the arrays of a message, which has depth 0. */
#define PART_DEPTH 2

/* What the estimate depends on. */
typedef struct Weight
{
	int64 bytes;
	int64 files;
} Weight;

/* Types of parts, and of items, that are a file. */
static const char *const file_types[] = {"image",
										 "image_url",
										 "image_file",
										 "input_image",
										 "image-data",
										 "image-url",
										 "image-file-id",
										 "image_generation_call",
										 "computer_screenshot",
										 "file",
										 "input_file",
										 "file-data",
										 "file-url",
										 "file-id",
										 "file-reference",
										 "image-file-reference",
										 "reasoning-file",
										 "document",
										 "container_upload",
										 "audio",
										 "input_audio",
										 "video",
										 "media"};

/* Members of messages and parts that are not for the model. */
static const char *const ignored_members[] = {"id",
											  "type",
											  "role",
											  "status",
											  "state",
											  "call_id",
											  "tool_call_id",
											  "tool_use_id",
											  "toolCallId",
											  "approvalId",
											  "approval_request_id",
											  "signature",
											  "encrypted_content",
											  "cache_control",
											  "metadata",
											  "providerMetadata",
											  "callProviderMetadata",
											  "providerOptions"};

/* Is this string one of the words? */
static bool
is_one_of(const JsonbValue *value, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (value->val.string.len == (int) strlen(words[i]) &&
			memcmp(value->val.string.val, words[i], value->val.string.len) == 0)
			return true;
	return false;
}

/* Is this object a file or an image? */
static bool
is_file(JsonbContainer *object)
{
	JsonbValue type;

	return getKeyJsonValueFromContainer(object, "type", 4, &type) != NULL &&
		   type.type == jbvString && is_one_of(&type, file_types, lengthof(file_types));
}

/* Is this string a data URL with a file in base64? */
static bool
is_data_url(const JsonbValue *string)
{
	static const char mark[] = ";base64,";
	int len = Min(string->val.string.len, 200);

	if (len < 5 || memcmp(string->val.string.val, "data:", 5) != 0)
		return false;
	for (int i = 5; i + (int) strlen(mark) <= len; i++)
		if (memcmp(string->val.string.val + i, mark, strlen(mark)) == 0)
			return true;
	return false;
}

static void weigh_container(JsonbContainer *container, int depth, Weight *weight);

/* Add a value in a container of the given depth. */
static void
weigh_value(const JsonbValue *value, int depth, Weight *weight)
{
	if (value->type == jbvBinary)
	{
		if (depth < MAX_DEPTH)
			weigh_container(value->val.binary.data, depth + 1, weight);
		else
			weight->bytes += value->val.binary.len;
	}
	else if (value->type != jbvString)
		weight->bytes += SCALAR_BYTES;
	else if (is_data_url(value))
		weight->files++;
	else
		weight->bytes += value->val.string.len;
}

/* Add an object or an array. */
static void
weigh_container(JsonbContainer *container, int depth, Weight *weight)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue value;
	bool ignored = false;

	if (JsonContainerIsObject(container) && is_file(container))
	{
		weight->files++;
		return;
	}
	it = JsonbIteratorInit(container);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_KEY)
		{
			ignored = depth <= PART_DEPTH &&
					  is_one_of(&value, ignored_members, lengthof(ignored_members));
			if (depth > PART_DEPTH)
				weight->bytes += value.val.string.len;
		}
		else if (token == WJB_ELEM || (token == WJB_VALUE && !ignored))
			weigh_value(&value, depth, weight);
	}
}

/* Fetch the number at a path of the message; false if there is none that can be a number of tokens. */
static bool
stated_tokens(Jsonb *message, ArrayType *path, int64 *tokens)
{
	Datum *names;
	int n;
	bool null;
	Datum found;
	JsonbValue number;
	Datum rounded;

	deconstruct_array(path, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	found = jsonb_get_element(message, names, n, &null, false);
	if (null || !JB_ROOT_IS_SCALAR(DatumGetJsonbP(found)) ||
		!JsonbExtractScalar(&DatumGetJsonbP(found)->root, &number) || number.type != jbvNumeric)
		return false;
	rounded = DirectFunctionCall1(numeric_ceil, NumericGetDatum(number.val.numeric));
	if (DatumGetBool(
			DirectFunctionCall2(numeric_lt, rounded, NumericGetDatum(int64_to_numeric(0)))))
		return false;
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, rounded,
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX)))))
		*tokens = PG_INT64_MAX;
	else
		*tokens = DatumGetInt64(DirectFunctionCall1(numeric_int8, rounded));
	return true;
}

/*
 * The tokens of a message: the number at the path (rounded up), or else an estimate.  The path may be
 * NULL; otherwise it is an array of text without nulls.
 */
int64
ss_message_tokens(Jsonb *message, ArrayType *path)
{
	Weight weight = {0};
	int64 tokens;

	if (path != NULL && stated_tokens(message, path, &tokens))
		return tokens;
	weigh_container(&message->root, 0, &weight);
	return MESSAGE_TOKENS + (weight.bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN +
		   FILE_TOKENS * weight.files;
}
