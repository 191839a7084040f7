/*
 * columns.h
 *		The columns of the extension's tables.
 *
 * The install script creates the tables, and code in C reaches their columns by number.  This is the
 * only place in C that says which columns there are: attribute numbers, column names in SQL, types of
 * parameters and the check of the tables (schema.c) are generated from these lists.  Each list is in
 * the order of the attribute numbers.  A test compares them with the install script
 * (test/t/016_altered_tables.pl).
 *
 * A list calls a macro for each column, with
 *
 *		number		the enumerator of its attribute number (schema.h)
 *		name		its name, as a string
 *		type		the OID of its type
 *		rule		SsColumnRule: may it be null?
 */
#ifndef SS_COLUMNS_H
#define SS_COLUMNS_H

typedef enum SsColumnRule
{
	SS_NULLABLE,
	SS_NOT_NULL,
	SS_UNCHECKED /* code in C does not read it, so it may be altered */
} SsColumnRule;

#define SS_CONVERSATION_SESSIONS(COLUMN)                                 \
	COLUMN(SS_ROW_CREATED_AT, "created_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_ROW_CHECK_AT, "check_at", TIMESTAMPTZOID, SS_NOT_NULL)     \
	COLUMN(SS_ROW_TTL, "ttl", INTERVALOID, SS_NULLABLE)                  \
	COLUMN(SS_ROW_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)          \
	COLUMN(SS_ROW_SESSION_ID, "session_id", TEXTOID, SS_NOT_NULL)        \
	COLUMN(SS_ROW_OWNER_ID, "owner_id", TEXTOID, SS_NULLABLE)            \
	COLUMN(SS_ROW_LAST_SEQ, "last_seq", INT8OID, SS_NOT_NULL)            \
	COLUMN(SS_ROW_MESSAGE_COUNT, "message_count", INT8OID, SS_NOT_NULL)  \
	COLUMN(SS_ROW_VERSION, "version", INT8OID, SS_NOT_NULL)              \
	COLUMN(SS_ROW_UPDATED_AT, "updated_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_ROW_EXPIRES_AT, "expires_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_ROW_SESSION_DATA, "session_data", JSONBOID, SS_NOT_NULL)   \
	COLUMN(SS_ROW_HISTORY_ID, "history_id", UUIDOID, SS_NULLABLE)        \
	COLUMN(SS_ROW_DEAD_UNTIL, "dead_until", TIMESTAMPTZOID, SS_NULLABLE) \
	COLUMN(SS_ROW_TURN, "turn", INT8OID, SS_NULLABLE)                    \
	COLUMN(SS_ROW_TURN_UNTIL, "turn_until", TIMESTAMPTZOID, SS_NULLABLE) \
	COLUMN(SS_ROW_TURN_HOLDER, "turn_holder", TEXTOID, SS_NULLABLE)      \
	COLUMN(SS_ROW_SUMMARY, "summary", JSONBOID, SS_NULLABLE)             \
	COLUMN(SS_ROW_SUMMARY_UP_TO, "summary_up_to", INT8OID, SS_NULLABLE)

#define SS_SESSION_NAMESPACES(COLUMN)                                                    \
	COLUMN(SS_NS_NAME, "name", TEXTOID, SS_NOT_NULL)                                     \
	COLUMN(SS_NS_KEY_PREFIX, "key_prefix", TEXTOID, SS_NOT_NULL)                         \
	COLUMN(SS_NS_TTL, "ttl", INTERVALOID, SS_NULLABLE)                                   \
	COLUMN(SS_NS_SLIDING, "sliding", BOOLOID, SS_NOT_NULL)                               \
	COLUMN(SS_NS_MAX_LIFETIME, "max_lifetime", INTERVALOID, SS_NULLABLE)                 \
	COLUMN(SS_NS_CACHE, "cache", TEXTOID, SS_NOT_NULL)                                   \
	COLUMN(SS_NS_CACHE_TTL, "cache_ttl", INTERVALOID, SS_NOT_NULL)                       \
	COLUMN(SS_NS_HOT_USES, "hot_uses", INT4OID, SS_NOT_NULL)                             \
	COLUMN(SS_NS_HASH_KEYS, "hash_keys", BOOLOID, SS_NOT_NULL)                           \
	COLUMN(SS_NS_MAX_BYTES, "max_bytes", INT8OID, SS_NOT_NULL)                           \
	COLUMN(SS_NS_MAX_SESSIONS_PER_OWNER, "max_sessions_per_owner", INT4OID, SS_NULLABLE) \
	COLUMN(SS_NS_ON_QUOTA, "on_quota", TEXTOID, SS_NOT_NULL)                             \
	COLUMN(SS_NS_TOMBSTONE, "tombstone", INTERVALOID, SS_NOT_NULL)                       \
	COLUMN(SS_NS_ALLOWED_ROLES, "allowed_roles", NAMEARRAYOID, SS_NULLABLE)              \
	COLUMN(SS_NS_OWNER_ISOLATION, "owner_isolation", BOOLOID, SS_NOT_NULL)               \
	COLUMN(SS_NS_AUDIT, "audit", BOOLOID, SS_NOT_NULL)                                   \
	COLUMN(SS_NS_EVENTS_KEEP, "events_keep", INTERVALOID, SS_NOT_NULL)                   \
	COLUMN(SS_NS_DURABILITY, "durability", TEXTOID, SS_NOT_NULL)                         \
	COLUMN(SS_NS_TAIL_PREFIX, "tail_prefix", TEXTOID, SS_NULLABLE)                       \
	COLUMN(SS_NS_TAIL_SIZE, "tail_size", INT4OID, SS_NOT_NULL)                           \
	COLUMN(SS_NS_AUDIT_SAVES, "audit_saves", BOOLOID, SS_NOT_NULL)                       \
	COLUMN(SS_NS_OPERATION_KEEP, "operation_keep", INTERVALOID, SS_NOT_NULL)             \
	COLUMN(SS_NS_TOKEN_PATH, "token_path", TEXTARRAYOID, SS_NULLABLE)                    \
	COLUMN(SS_NS_TURNS, "turns", TEXTOID, SS_NOT_NULL)

#define SS_CONVERSATION_HISTORY(COLUMN)                                      \
	COLUMN(SS_MESSAGE_HISTORY_ID, "history_id", UUIDOID, SS_NOT_NULL)        \
	COLUMN(SS_MESSAGE_SEQ, "seq", INT8OID, SS_NOT_NULL)                      \
	COLUMN(SS_MESSAGE_CREATED_AT, "created_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_MESSAGE_MESSAGE, "message", JSONBOID, SS_NOT_NULL)

#define SS_SESSION_OPERATIONS(COLUMN)                                          \
	COLUMN(SS_OPERATION_KEEP_UNTIL, "keep_until", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_OPERATION_HISTORY_ID, "history_id", UUIDOID, SS_NOT_NULL)        \
	COLUMN(SS_OPERATION_RESULT, "result", INT8OID, SS_NOT_NULL)                \
	COLUMN(SS_OPERATION_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)          \
	COLUMN(SS_OPERATION_OPERATION_ID, "operation_id", TEXTOID, SS_NOT_NULL)    \
	COLUMN(SS_OPERATION_OPERATION_HASH, "operation_hash", BYTEAOID, SS_NOT_NULL)

#define SS_CONVERSATION_HISTORY_ENDED(COLUMN)                           \
	COLUMN(SS_ENDED_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)       \
	COLUMN(SS_ENDED_HISTORY_ID, "history_id", UUIDOID, SS_NOT_NULL)     \
	COLUMN(SS_ENDED_FROM_SEQ, "from_seq", INT8OID, SS_NOT_NULL)         \
	COLUMN(SS_ENDED_ENDED_AT, "ended_at", TIMESTAMPTZOID, SS_UNCHECKED) \
	COLUMN(SS_ENDED_ENTRY_ID, "entry_id", UUIDOID, SS_NOT_NULL)         \
	COLUMN(SS_ENDED_OWNER_ID, "owner_id", TEXTOID, SS_NULLABLE)

#define SS_SESSION_MEMBERS(COLUMN)                                          \
	COLUMN(SS_MEMBER_HISTORY_ID, "history_id", UUIDOID, SS_NOT_NULL)        \
	COLUMN(SS_MEMBER_MEMBER, "member", TEXTOID, SS_NOT_NULL)                \
	COLUMN(SS_MEMBER_ROLE, "role", TEXTOID, SS_NOT_NULL)                    \
	COLUMN(SS_MEMBER_CREATED_AT, "created_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_MEMBER_ACCEPTED, "accepted", BOOLOID, SS_NOT_NULL)

#define SS_SESSION_COUNTERS(COLUMN)                                        \
	COLUMN(SS_COUNTER_RESETS_AT, "resets_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_COUNTER_HITS, "hits", INT8OID, SS_NOT_NULL)                  \
	COLUMN(SS_COUNTER_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)        \
	COLUMN(SS_COUNTER_COUNTER_ID, "counter_id", TEXTOID, SS_NOT_NULL)

#define SS_SESSION_EVENTS(COLUMN)                                          \
	COLUMN(SS_EVENT_CREATED_AT, "created_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_EVENT_EVENT_ID, "event_id", UUIDOID, SS_UNCHECKED)           \
	COLUMN(SS_EVENT_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)          \
	COLUMN(SS_EVENT_SESSION_ID, "session_id", TEXTOID, SS_NOT_NULL)        \
	COLUMN(SS_EVENT_OWNER_ID, "owner_id", TEXTOID, SS_NULLABLE)            \
	COLUMN(SS_EVENT_EVENT, "event", TEXTOID, SS_NOT_NULL)                  \
	COLUMN(SS_EVENT_ACTOR, "actor", NAMEOID, SS_NOT_NULL)                  \
	COLUMN(SS_EVENT_DETAIL, "detail", JSONBOID, SS_NULLABLE)

#define SS_SESSION_SAMPLES(COLUMN)                                          \
	COLUMN(SS_SAMPLE_NAMESPACE, "namespace", TEXTOID, SS_NOT_NULL)          \
	COLUMN(SS_SAMPLE_SAMPLED_AT, "sampled_at", TIMESTAMPTZOID, SS_NOT_NULL) \
	COLUMN(SS_SAMPLE_ESTIMATED, "estimated", BOOLOID, SS_NOT_NULL)          \
	COLUMN(SS_SAMPLE_SESSIONS, "sessions", INT8OID, SS_NOT_NULL)            \
	COLUMN(SS_SAMPLE_EXPIRED, "expired", INT8OID, SS_NOT_NULL)              \
	COLUMN(SS_SAMPLE_TOMBSTONES, "tombstones", INT8OID, SS_NOT_NULL)        \
	COLUMN(SS_SAMPLE_OWNED, "owned", INT8OID, SS_NOT_NULL)                  \
	COLUMN(SS_SAMPLE_MESSAGES, "messages", INT8OID, SS_NOT_NULL)            \
	COLUMN(SS_SAMPLE_TOTAL_BYTES, "total_bytes", INT8OID, SS_NOT_NULL)      \
	COLUMN(SS_SAMPLE_MAX_BYTES, "max_bytes", INT8OID, SS_NOT_NULL)          \
	COLUMN(SS_SAMPLE_OVER_1MB, "over_1mb", INT8OID, SS_NOT_NULL)

#define SS_SESSION_ORPHANS(COLUMN)                                   \
	COLUMN(SS_ORPHAN_HISTORY_ID, "history_id", UUIDOID, SS_NOT_NULL) \
	COLUMN(SS_ORPHAN_SEEN_AT, "seen_at", TIMESTAMPTZOID, SS_NOT_NULL)

#define SS_SESSION_CACHE_CLAIMS(COLUMN)                                           \
	COLUMN(SS_CLAIM_SYSTEM_IDENTIFIER, "system_identifier", INT8OID, SS_NOT_NULL) \
	COLUMN(SS_CLAIM_DATABASE_OID, "database_oid", OIDOID, SS_NOT_NULL)            \
	COLUMN(SS_CLAIM_DATA_DIRECTORY, "data_directory", TEXTOID, SS_NOT_NULL)       \
	COLUMN(SS_CLAIM_TIMELINE, "timeline", INT8OID, SS_NOT_NULL)                   \
	COLUMN(SS_CLAIM_REDIS, "redis", TEXTOID, SS_NOT_NULL)                         \
	COLUMN(SS_CLAIM_MOVED, "moved", BOOLOID, SS_NOT_NULL)                         \
	COLUMN(SS_CLAIM_TOKENS, "tokens", INT8ARRAYOID, SS_NOT_NULL)                  \
	COLUMN(SS_CLAIM_EPOCHS, "epochs", INT8ARRAYOID, SS_NOT_NULL)                  \
	COLUMN(SS_CLAIM_CLAIMED_AT, "claimed_at", TIMESTAMPTZOID, SS_NOT_NULL)

/* Macros for the lists: the enumerators, the number of columns, and the types as an initializer. */
#define SS_COLUMN_NUMBER(number, name, type, rule) number,
#define SS_COLUMN_COUNT(number, name, type, rule) +1
#define SS_COLUMN_TYPE(number, name, type, rule) type,

#endif
