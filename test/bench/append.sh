#!/usr/bin/env bash
# What an append logs, and what it would log to keep the history in the document.
#
# Messages are of about 200 bytes of varied text. Counted: bytes of write-ahead log, without
# full page images, per append at message 10,000 of one session (append-wal: against a
# hand-written UPDATE that appends to an array of 10,000 messages in a document, by jsonb_insert
# in the server, which spares it the way there and back; append-flat: against an append at
# message 10 of sessions of their own).
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

length=$(scale 10000 1000)
appends=$(scale 200 50)
rewrites=$(scale 5 1)

progress "a history of $length messages, and one in a document"
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
sql "CREATE FUNCTION message(n int) RETURNS jsonb LANGUAGE sql VOLATILE AS \$\$
	SELECT jsonb_build_object('role', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, 'content',
		(SELECT string_agg(substr(md5(random()::text), 1, 2 + (random() * 9)::int), ' ') FROM generate_series(1, 23) WHERE n > 0)) \$\$"
sql "CREATE FUNCTION messages(n int) RETURNS jsonb LANGUAGE sql VOLATILE AS \$\$
	SELECT jsonb_agg(message(i)) FROM generate_series(1, n) i \$\$"
create_hand_table hand
sql "SELECT session_append('long', messages($length - 1), namespace => 'bench')" >/dev/null
sql "INSERT INTO hand (session_id, session_data, expires_at) SELECT 'long', jsonb_build_object('messages', jsonb_agg(message)),
	now() + interval '1 hour' FROM session_history('long', namespace => 'bench')"
sql "SELECT count(session_append('s' || i, messages(9), namespace => 'bench'))
	FROM generate_series(1, $((appends * ROUNDS))) i" >/dev/null
sql "VACUUM ANALYZE"
quiet_server

# Statements, each a transaction
repeat() { # TIMES STATEMENT
	for ((k = 0; k < $1; k++)); do
		printf '%s;\n' "$2"
	done | psql -XqAt -v ON_ERROR_STOP=1
}
append_long() {
	repeat "$appends" "SELECT session_append('long', message(1), namespace => 'bench')"
}
append_short() { # AFTER
	for ((k = $1 + 1; k <= $1 + appends; k++)); do
		echo "SELECT session_append('s$k', message(1), namespace => 'bench');"
	done | psql -XqAt -v ON_ERROR_STOP=1
}
rewrite() {
	repeat "$rewrites" "UPDATE hand SET session_data = jsonb_insert(session_data, '{messages,-1}', message(1), true),
		updated_at = now(), expires_at = now() + interval '1 hour' WHERE session_id = 'long'"
}

at_long() {
	wal_per "$appends" append_long
}
at_ten() {
	local short

	# each round has its own sessions: those with nine messages
	short=$(sql "SELECT count(*) FROM conversation_sessions WHERE namespace = 'bench' AND message_count = 10")
	wal_per "$appends" append_short "$short"
}
whole() {
	wal_per "$rewrites" rewrite
}

alternate append-wal at_long whole
alternate append-flat at_long at_ten
