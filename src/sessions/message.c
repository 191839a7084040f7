/*
 * message.c
 *		Recognizes what a message of a conversation is, in the formats of several APIs.
 *
 * The format is recognized per message, from its members, so that one history may mix them:
 *
 *		OpenAI chat completions		role; tool_calls; role "tool" with tool_call_id
 *		OpenAI Responses items		type "message" with role, "reasoning", "*_call" and "*_call_output"
 *									with call_id, "mcp_approval_request" and "mcp_approval_response"
 *		Anthropic messages			role and content; blocks "*tool_use" with id, "*tool_result" with
 *									tool_use_id, "thinking" and "redacted_thinking"
 *		AI SDK UI messages			role and parts; a part of a tool holds call and result
 *		AI SDK model messages		role and content; parts "tool-call", "tool-result" and "tool-error" with
 *									toolCallId, "tool-approval-request" and "tool-approval-response"
 *
 * Members that are missing or have another type are ignored: a message may be any JSON.  Only the
 * members of the message, the elements of its arrays and their members are read, without recursion,
 * so nesting does not matter.  Time and memory are bounded by the size of the message.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "sessions/message.h"

/* What an id is the id of: equal ids of different kinds have nothing to do with each other. */
typedef enum IdKind
{
	ID_OF_CALL = 1,
	ID_OF_APPROVAL
} IdKind;

/* Is this string equal to a word? */
static bool
is_word(const JsonbValue *value, const char *word)
{
	return value->val.string.len == (int) strlen(word) &&
		   memcmp(value->val.string.val, word, value->val.string.len) == 0;
}

/* Does this string end with a word? */
static bool
ends_with(const JsonbValue *value, const char *word)
{
	int len = (int) strlen(word);

	return value->val.string.len >= len &&
		   memcmp(value->val.string.val + value->val.string.len - len, word, len) == 0;
}

/* Fetch a member that is a string; false if there is none. */
static bool
get_string(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, name, (int) strlen(name), value) != NULL &&
		   value->type == jbvString;
}

/* Return a member that is an array; NULL if there is none. */
static JsonbContainer *
get_array(JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(object, name, (int) strlen(name), &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/* Add a call that is made or answered, if the object has its id as a member; false if it has not. */
static bool
add_ref(SsMessageShape *shape, JsonbContainer *object, const char *name, IdKind kind, bool answers)
{
	JsonbValue id;
	SsCallRef *ref;
	const unsigned char *bytes;

	if (!get_string(object, name, &id))
		return false;
	if (shape->nrefs == shape->max_refs)
	{
		shape->max_refs = Max(4, shape->max_refs * 2);
		shape->refs = shape->refs == NULL
						  ? palloc(sizeof(SsCallRef) * shape->max_refs)
						  : repalloc_huge(shape->refs, sizeof(SsCallRef) * (Size) shape->max_refs);
	}
	bytes = (const unsigned char *) id.val.string.val;
	ref = &shape->refs[shape->nrefs++];
	ref->id.hash[0] = hash_bytes_extended(bytes, id.val.string.len, (uint64) kind);
	ref->id.hash[1] = hash_bytes_extended(bytes, id.val.string.len, ~(uint64) kind);
	ref->answers = answers;
	return true;
}

/* An item of OpenAI Responses that has no role. */
static void
describe_item(JsonbContainer *item, const JsonbValue *type, SsMessageShape *shape)
{
	if (is_word(type, "reasoning"))
	{
		shape->speaker = SS_SPEAKER_MODEL;
		shape->reasoning = true;
	}
	else if (ends_with(type, "_call"))
	{
		shape->speaker = SS_SPEAKER_MODEL;
		(void) add_ref(shape, item, "call_id", ID_OF_CALL, false);
		(void) add_ref(shape, item, "id", ID_OF_CALL, false);
	}
	else if (ends_with(type, "_call_output"))
	{
		if (!add_ref(shape, item, "call_id", ID_OF_CALL, true) &&
			!add_ref(shape, item, "id", ID_OF_CALL, true))
			shape->continues = true;
	}
	else if (is_word(type, "mcp_approval_request"))
	{
		shape->speaker = SS_SPEAKER_MODEL;
		(void) add_ref(shape, item, "id", ID_OF_APPROVAL, false);
	}
	else if (is_word(type, "mcp_approval_response"))
	{
		if (!add_ref(shape, item, "approval_request_id", ID_OF_APPROVAL, true))
			shape->continues = true;
	}
}

/* A block of Anthropic, or a part of the AI SDK.  Returns whether it is reasoning. */
static bool
describe_part(JsonbContainer *part, SsMessageShape *shape)
{
	JsonbValue type;

	if (!get_string(part, "type", &type))
		return false;
	if (is_word(&type, "tool-call"))
		(void) add_ref(shape, part, "toolCallId", ID_OF_CALL, false);
	else if (is_word(&type, "tool-result") || is_word(&type, "tool-error"))
		(void) add_ref(shape, part, "toolCallId", ID_OF_CALL, true);
	else if (is_word(&type, "tool-approval-request"))
		(void) add_ref(shape, part, "approvalId", ID_OF_APPROVAL, false);
	else if (is_word(&type, "tool-approval-response"))
		(void) add_ref(shape, part, "approvalId", ID_OF_APPROVAL, true);
	else if (ends_with(&type, "tool_use"))
		(void) add_ref(shape, part, "id", ID_OF_CALL, false);
	else if (ends_with(&type, "tool_result"))
		(void) add_ref(shape, part, "tool_use_id", ID_OF_CALL, true);
	else
		return is_word(&type, "thinking") || is_word(&type, "redacted_thinking") ||
			   is_word(&type, "reasoning") || is_word(&type, "redacted-reasoning") ||
			   is_word(&type, "step-start");
	return false;
}

/* The elements of content, parts or tool_calls.  Returns whether all of them are reasoning. */
static bool
describe_elements(JsonbContainer *array, bool calls, SsMessageShape *shape)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue element;
	bool only_reasoning = JsonContainerSize(array) > 0;

	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
			only_reasoning = false;
		else if (calls)
			(void) add_ref(shape, element.val.binary.data, "id", ID_OF_CALL, false);
		else if (!describe_part(element.val.binary.data, shape))
			only_reasoning = false;
	}
	return only_reasoning;
}

/* Does the message have the result of a call? */
static bool
has_result(const SsMessageShape *shape)
{
	for (int i = 0; i < shape->nrefs; i++)
		if (shape->refs[i].answers)
			return true;
	return false;
}

/* A message that has a role. */
static void
describe_message(JsonbContainer *message, const JsonbValue *role, SsMessageShape *shape)
{
	JsonbContainer *content = get_array(message, "content");
	JsonbContainer *parts = get_array(message, "parts");
	JsonbContainer *calls = get_array(message, "tool_calls");
	bool reasoning = content != NULL || parts != NULL;

	if (is_word(role, "user"))
		shape->speaker = SS_SPEAKER_USER;
	else if (is_word(role, "assistant"))
		shape->speaker = SS_SPEAKER_MODEL;
	else
		(void) add_ref(shape, message, "tool_call_id", ID_OF_CALL, true);
	if (content != NULL && !describe_elements(content, false, shape))
		reasoning = false;
	if (parts != NULL && !describe_elements(parts, false, shape))
		reasoning = false;
	if (calls != NULL && JsonContainerSize(calls) > 0)
	{
		(void) describe_elements(calls, true, shape);
		reasoning = false;
	}
	shape->reasoning = reasoning && shape->speaker == SS_SPEAKER_MODEL;
	if (has_result(shape))
	{
		if (shape->speaker == SS_SPEAKER_USER)
			shape->speaker = SS_SPEAKER_OTHER;
	}
	else
		shape->continues = is_word(role, "tool") || is_word(role, "function");
}

/* Describes a message; its refs are in the current memory context. */
void
ss_message_describe(JsonbContainer *message, SsMessageShape *shape)
{
	JsonbValue role;
	JsonbValue type;

	memset(shape, 0, sizeof(*shape));
	if (!JsonContainerIsObject(message))
		return;
	if (get_string(message, "role", &role))
		describe_message(message, &role, shape);
	else if (get_string(message, "type", &type))
		describe_item(message, &type, shape);
}
