#!/usr/bin/env bash
# What an append logs, and what it would log to keep the history in the document.
#
# Messages are of about 200 bytes of varied text. Counted: bytes of write-ahead log (without
# full page images, which depend on checkpoints alone) per append at message 10, over SAMPLES
# sessions; at message 10,000 of one session, over SAMPLES appends; and per rewrite of a
# document that holds 10,000 messages, over REWRITES of them. Likewise with a namespace
# that has a tail in Redis: bytes that an append at message 10,000 sends there, and those of the tail.
#
#   SAMPLES (200)  REWRITES (5)
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

SAMPLES=${SAMPLES:-200}
REWRITES=${REWRITES:-5}

sql "CREATE EXTENSION IF NOT EXISTS session_store" 2>/dev/null
set_server full_page_writes off
# nothing else shall log meanwhile
set_server autovacuum off
set_server session_store.purge_interval 0
trap 'for s in full_page_writes autovacuum session_store.purge_interval; do
	sql "ALTER SYSTEM RESET $s"; done; sql "SELECT pg_reload_conf()" >/dev/null' EXIT

sql "INSERT INTO session_namespaces (name, sliding, cache) VALUES ('bench', false, 'off') ON CONFLICT DO NOTHING"
sql "CREATE OR REPLACE FUNCTION message(n int) RETURNS jsonb LANGUAGE sql VOLATILE AS \$\$
	SELECT jsonb_build_object('role', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, 'content',
		(SELECT string_agg(substr(md5(random()::text), 1, 2 + (random() * 9)::int), ' ') FROM generate_series(1, 23) WHERE n > 0)) \$\$"
size=$(sql "SELECT round(avg(length(message(i)::text))) FROM generate_series(1, 1000) i")

# wal COUNT STATEMENTS..: bytes of log per statement, of so many
wal() {
	local before after

	before=$(sql "CHECKPOINT; SELECT pg_current_wal_insert_lsn()")
	psql -XqAt -v ON_ERROR_STOP=1 >/dev/null
	after=$(sql "SELECT pg_current_wal_insert_lsn()")
	sql "SELECT round(pg_wal_lsn_diff('$after', '$before') / $1.0)"
}

appends() {	# FIRST-SESSION LAST-SESSION TIMES
	for ((i = $1; i <= $2; i++)); do
		for ((k = 0; k < $3; k++)); do
			echo "SELECT session_append('s$i', message($((i + k + 1))), namespace => 'bench');"
		done
	done
}

echo "messages of $size bytes; bytes of log, means"
appends 1 "$SAMPLES" 9 | psql -XqAt -v ON_ERROR_STOP=1 >/dev/null
short=$(appends 1 "$SAMPLES" 1 | wal "$SAMPLES")
sql "SELECT session_append('long', (SELECT jsonb_agg(message(i)) FROM generate_series(1, 9999) i), namespace => 'bench')" >/dev/null
long=$(for ((k = 1; k <= SAMPLES; k++)); do
	echo "SELECT session_append('long', message($k), namespace => 'bench');"
done | wal "$SAMPLES")

sql "SELECT session_save('whole', (SELECT jsonb_build_object('messages', jsonb_agg(message)) FROM session_history('long', 9999, namespace => 'bench')), namespace => 'bench')" >/dev/null
whole=$(for ((k = 1; k <= REWRITES; k++)); do
	echo "SELECT session_save('whole', jsonb_insert(session_get('whole', 'bench'), '{messages,-1}', message($k), true), namespace => 'bench');"
done | wal "$REWRITES")
sql "CREATE TABLE IF NOT EXISTS by_hand (session_id text PRIMARY KEY, session_data jsonb NOT NULL)"
sql "INSERT INTO by_hand VALUES ('whole', session_get('whole', 'bench')) ON CONFLICT (session_id) DO UPDATE SET session_data = EXCLUDED.session_data"
hand=$(for ((k = 1; k <= REWRITES; k++)); do
	echo "UPDATE by_hand SET session_data = jsonb_insert(session_data, '{messages,-1}', message($k), true) WHERE session_id = 'whole';"
done | wal "$REWRITES")

row() {
	printf '%-62s %10s\n' "$1" "$2"
}
row "append at message 10" "$short"
row "append at message 10,000" "$long"
row "rewriting the document of 10,000 messages by session_save" "$whole"
row "the same by a hand-written UPDATE" "$hand"
row "append at 10,000 against at 10" "$(ratio "$long" "$short")"
row "append at 10,000 against the hand-written rewrite" "$(awk -v a="$long" -v b="$hand" 'BEGIN {printf "%.6f", a / b}')"
