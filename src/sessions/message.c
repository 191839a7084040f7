/*
 * message.c
 *		Recognizes what a message of a conversation is, in the formats of several APIs.
 *
 * The format is recognized per message, from its members, so that one history may mix them:
 *
 *		OpenAI chat completions		role; tool_calls; role "tool" with tool_call_id
 *		OpenAI Responses items		type "message" with role, "reasoning", "*_call" and "*_call_output"
 *									with call_id, "program" and "program_output", "tool_search_output",
 *									"mcp_approval_request" and "mcp_approval_response"
 *		Anthropic messages			role and content; blocks "*tool_use" with id, "*tool_result" with
 *									tool_use_id, "thinking" and "redacted_thinking"
 *		AI SDK UI messages			role and parts; a part of a tool holds call and result, and its type
 *									ends with the name of the tool
 *		AI SDK model messages		role and content; parts "tool-call", "tool-result" and "tool-error" with
 *									toolCallId, "tool-approval-request" and "tool-approval-response"
 *
 * A call that a program of the model makes (a member "caller") is as a result of that program: where
 * it is, the program must be.
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

/* Return a member that is an object; NULL if there is none. */
static JsonbContainer *
get_object(JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(object, name, (int) strlen(name), &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
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

/* Add the program that makes this call, if there is one; `name` is the member with its id. */
static void
add_caller(SsMessageShape *shape, JsonbContainer *call, const char *name)
{
	JsonbContainer *caller = get_object(call, "caller");

	if (caller != NULL)
		(void) add_ref(shape, caller, name, ID_OF_CALL, true);
}

/* An item of OpenAI Responses that is the result of a call. */
static void
describe_output(JsonbContainer *item, const JsonbValue *type, SsMessageShape *shape)
{
	/* the id of a result of the local shell is that of its call; others have an id of their own */
	if (!add_ref(shape, item, "call_id", ID_OF_CALL, true) &&
		!(ends_with(type, "_call_output") && add_ref(shape, item, "id", ID_OF_CALL, true)))
		shape->continues = true;
	/* what the API runs itself is part of the model's answer, before which may be reasoning */
	if (is_word(type, "program_output") || is_word(type, "tool_search_output") ||
		is_word(type, "shell_call_output"))
		shape->speaker = SS_SPEAKER_MODEL;
}

/* An item of OpenAI Responses that is no message. */
static void
describe_item(JsonbContainer *item, const JsonbValue *type, SsMessageShape *shape)
{
	if (is_word(type, "reasoning"))
	{
		shape->speaker = SS_SPEAKER_MODEL;
		shape->reasoning = true;
	}
	else if (ends_with(type, "_call") || is_word(type, "program"))
	{
		shape->speaker = SS_SPEAKER_MODEL;
		add_caller(shape, item, "caller_id");
		(void) add_ref(shape, item, "call_id", ID_OF_CALL, false);
		(void) add_ref(shape, item, "id", ID_OF_CALL, false);
		/* a call of MCP may be the request itself */
		(void) add_ref(shape, item, "approval_request_id", ID_OF_APPROVAL, false);
	}
	else if (ends_with(type, "_call_output") || is_word(type, "program_output") ||
			 is_word(type, "tool_search_output"))
		describe_output(item, type, shape);
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
	else if (is_word(type, "mcp_list_tools") || is_word(type, "compaction"))
		shape->speaker = SS_SPEAKER_MODEL;
}

/* Is a part of this type reasoning, or the mark before it? */
static bool
is_reasoning(const JsonbValue *type)
{
	return is_word(type, "thinking") || is_word(type, "redacted_thinking") ||
		   is_word(type, "reasoning") || is_word(type, "redacted-reasoning") ||
		   is_word(type, "reasoning-file") || is_word(type, "step-start");
}

/* A block of Anthropic, or a part of a model message of the AI SDK. */
static void
describe_part(JsonbContainer *part, const JsonbValue *type, SsMessageShape *shape)
{
	if (is_word(type, "tool-call"))
		(void) add_ref(shape, part, "toolCallId", ID_OF_CALL, false);
	else if (is_word(type, "tool-result") || is_word(type, "tool-error"))
		(void) add_ref(shape, part, "toolCallId", ID_OF_CALL, true);
	else if (is_word(type, "tool-approval-request"))
		(void) add_ref(shape, part, "approvalId", ID_OF_APPROVAL, false);
	else if (is_word(type, "tool-approval-response"))
		(void) add_ref(shape, part, "approvalId", ID_OF_APPROVAL, true);
	else if (ends_with(type, "tool_use"))
	{
		add_caller(shape, part, "tool_id");
		(void) add_ref(shape, part, "id", ID_OF_CALL, false);
	}
	else if (ends_with(type, "tool_result"))
		(void) add_ref(shape, part, "tool_use_id", ID_OF_CALL, true);
}

/* The arrays of a message. */
typedef enum Elements
{
	ELEMENTS_CONTENT,
	ELEMENTS_PARTS,
	ELEMENTS_CALLS
} Elements;

/* Describes the elements of an array.  Returns whether all of them are reasoning. */
static bool
describe_elements(JsonbContainer *array, Elements what, SsMessageShape *shape)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue element;
	bool only_reasoning = JsonContainerSize(array) > 0;

	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		JsonbContainer *part;
		JsonbValue type;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		part = element.type == jbvBinary && JsonContainerIsObject(element.val.binary.data)
				   ? element.val.binary.data
				   : NULL;
		if (part != NULL && what == ELEMENTS_CALLS)
			(void) add_ref(shape, part, "id", ID_OF_CALL, false);
		else if (part != NULL && get_string(part, "type", &type))
		{
			/* in a UI message "tool-result" is a call of the tool "result" */
			if (what == ELEMENTS_CONTENT)
				describe_part(part, &type, shape);
			if (is_reasoning(&type))
				continue;
		}
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
	if (content != NULL && !describe_elements(content, ELEMENTS_CONTENT, shape))
		reasoning = false;
	if (parts != NULL && !describe_elements(parts, ELEMENTS_PARTS, shape))
		reasoning = false;
	if (calls != NULL && JsonContainerSize(calls) > 0)
	{
		(void) describe_elements(calls, ELEMENTS_CALLS, shape);
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
	bool typed;

	memset(shape, 0, sizeof(*shape));
	if (!JsonContainerIsObject(message))
		return;
	typed = get_string(message, "type", &type);
	/* its role says who has given the tools */
	if (typed && is_word(&type, "additional_tools"))
		return;
	if (get_string(message, "role", &role))
		describe_message(message, &role, shape);
	else if (typed)
		describe_item(message, &type, shape);
}
