#!/usr/bin/env bash
# One client that reads and saves sessions, against the SQL that one would write by hand.
#
# The other side is the table of an application that keeps its own: a primary key, an index on
# expires_at, an upsert, SELECT .. AND expires_at > now().
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 1000)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

progress "$sessions sessions of 1 KB"
create_document_function
create_hand_table hand
create_hand_table unlogged_hand UNLOGGED
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
	SELECT 'bench', 's' || i, document(1024, i), '1 day', now() + interval '1 day' FROM generate_series(1, $sessions) i"
for table in hand unlogged_hand; do
	sql "INSERT INTO $table (session_id, session_data, expires_at)
		SELECT session_id, session_data, expires_at FROM conversation_sessions"
done
sql "VACUUM ANALYZE"
sql "CHECKPOINT"

head="\\set i random(1, $sessions)"
printf '%s\n' "$head" "SELECT session_get('s' || :i, 'bench');" >get_ours
printf '%s\n' "$head" "SELECT session_data FROM hand WHERE session_id = 's' || :i AND expires_at > now();" >get_theirs
echo "SELECT 1;" >floor

# Saves: the document is a parameter, as drivers send it; one of eight, so that it is new to its session.
documents=()
for ((d = 0; d < 8; d++)); do
	documents+=(-D "document$d=$(sql "SELECT document(1024)")")
	printf '%s\n' "$head" "SELECT session_save('s' || :i, :document$d, namespace => 'bench');" >"save_ours.$d"
	for table in hand unlogged_hand; do
		printf '%s\n' "$head" "INSERT INTO $table (session_id, session_data, expires_at)
			VALUES ('s' || :i, :document$d, now() + interval '1 day') ON CONFLICT (session_id) DO UPDATE
			SET session_data = EXCLUDED.session_data, updated_at = now(), expires_at = EXCLUDED.expires_at;" >"save_$table.$d"
	done
done

calls() { # PROTOCOL FILE
	bench_tps "$1" 1 "$2"
}
# the same by statements: what a table gets that has triggers of somebody's own
calls_by_statement() {
	PGOPTIONS='-c session_store.direct_rows=off' calls "$@"
}
saves_by_statement() {
	PGOPTIONS='-c session_store.direct_rows=off' saves "$@"
}
saves() { # PROTOCOL FILES
	bench_tps "$1" 1 "$2.0" -f "$2.1" -f "$2.2" -f "$2.3" -f "$2.4" -f "$2.5" -f "$2.6" -f "$2.7" "${documents[@]}"
}

alternate get-unnamed "calls extended get_ours" "calls extended get_theirs"
# what a call would reach that costs nothing but the round trip
alternate get-unnamed-ceiling "calls extended floor" "calls extended get_theirs"
alternate get-simple "calls simple get_ours" "calls simple get_theirs"
alternate get-simple-ceiling "calls simple floor" "calls simple get_theirs"
alternate get-prepared "calls prepared get_ours" "calls prepared get_theirs"
alternate get-floor "calls prepared get_ours" "calls prepared floor"
alternate select-floor "calls prepared get_theirs" "calls prepared floor"
alternate get-direct "calls prepared get_ours" "calls_by_statement prepared get_ours"
set_server synchronous_commit off
alternate save-unnamed "saves extended save_ours" "saves extended save_hand"
alternate save-prepared "saves prepared save_ours" "saves prepared save_hand"
alternate save-direct "saves prepared save_ours" "saves_by_statement prepared save_ours"
alternate save-unlogged "saves prepared save_ours" "saves prepared save_unlogged_hand"
set_server synchronous_commit on
alternate save-prepared-sync "saves prepared save_ours" "saves prepared save_hand"
