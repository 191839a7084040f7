#!/usr/bin/env bash
# How table and indexes grow while sessions are saved.
#
# 1,000,000 saves of new documents of 900 to 1,100 bytes on 100,000 sessions at random, by four
# clients, synchronous_commit off, autovacuum on as a server has it. The other side is the
# hand-written upsert into a table as CREATE TABLE makes it, with the index on expires_at that
# its cleanup needs; vacuum has been over both before. A table that becomes smaller has not
# grown: that counts as 0. One round, since it writes gigabytes.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2034 # alternate has as many
ROUNDS=1
sessions=$(scale 100000 500)
saves=$((sessions * 10))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

progress "$sessions sessions of 900 to 1,100 bytes"
create_slice_function
create_hand_table hand
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
	SELECT 'bench', 's' || i, sliced_document(900 + (random() * 200)::int, i), '1 day', now() + interval '1 day'
	FROM generate_series(1, $sessions) i"
sql "INSERT INTO hand (session_id, session_data, expires_at)
	SELECT session_id, session_data, expires_at FROM conversation_sessions"
sql "VACUUM ANALYZE"
set_server synchronous_commit off

head=$(printf '%s\n' "\\set i random(1, $sessions)" '\set bytes random(900, 1100)')
printf '%s\n' "$head" "SELECT session_save('s' || :i, sliced_document(:bytes, :i), namespace => 'bench');" >save
printf '%s\n' "$head" "INSERT INTO hand (session_id, session_data, expires_at)
	VALUES ('s' || :i, sliced_document(:bytes, :i), now() + interval '1 day') ON CONFLICT (session_id) DO UPDATE
	SET session_data = EXCLUDED.session_data, updated_at = now(), expires_at = EXCLUDED.expires_at;" >upsert

size() { # TABLE
	sql "SELECT pg_total_relation_size('$1')"
}
growth() { # TABLE SCRIPT
	local before

	before=$(size "$1")
	bench_calls "$saves" "$2"
	awk -v grown=$(($(size "$1") - before)) 'BEGIN {print (grown > 0 ? grown : 0)}'
}

alternate growth "growth conversation_sessions save" "growth hand upsert"
