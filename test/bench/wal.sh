#!/usr/bin/env bash
# Bytes of write-ahead log of a save and of a merge.
#
# wal-save: session_save of a wholly new document of 1 KB over a session that is there, against
# the hand-written upsert of such a document (with its index on expires_at, which every save
# moves). wal-merge: session_merge of one key, each of the ten of a document of 1 KB in its
# turn, against a session_save of such a document wholly new. All keys have texts of 80 to 100
# bytes, so that what is merged may be longer or shorter than what it replaces.
#
# Both tables are as their makers make them (fillfactor 80 and 100), and each session has been
# saved once on average before it is measured. Without full page images, autovacuum and purge.
# The same with wal_level logical, where Postgres logs new rows whole.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 200)
calls=$(scale 10000 100)
work=$(mktemp -d)
trap 'reset_restarted wal_level; rm -rf "$work"' EXIT
cd "$work"

progress "$sessions sessions of 1 KB, three times"
create_slice_function
sql "CREATE FUNCTION ten_keys() RETURNS jsonb LANGUAGE sql VOLATILE AS \$\$
	SELECT jsonb_object_agg('key' || i, slice(80 + (random() * 20)::int)) FROM generate_series(0, 9) i \$\$"
create_hand_table hand
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache)
	VALUES ('bench', 'bench:', false, 'off'), ('keys', 'keys:', false, 'off')"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
	SELECT 'bench', 's' || i, sliced_document(1024, i), '1 day', now() + interval '1 day' FROM generate_series(1, $sessions) i"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
	SELECT 'keys', 's' || i, ten_keys(), '1 day', now() + interval '1 day' FROM generate_series(1, $sessions) i"
sql "INSERT INTO hand (session_id, session_data, expires_at)
	SELECT session_id, session_data, expires_at FROM conversation_sessions WHERE namespace = 'bench'"
sql "VACUUM ANALYZE"
set_server synchronous_commit off
quiet_server

head="\\set i random(1, $sessions)"
printf '%s\n' "$head" "SELECT session_save('s' || :i, sliced_document(1024, :i), namespace => 'bench');" >save
printf '%s\n' "$head" "INSERT INTO hand (session_id, session_data, expires_at)
	VALUES ('s' || :i, sliced_document(1024, :i), now() + interval '1 day') ON CONFLICT (session_id) DO UPDATE
	SET session_data = EXCLUDED.session_data, updated_at = now(), expires_at = EXCLUDED.expires_at;" >upsert
printf '%s\n' "$head" "SELECT session_save('s' || :i, ten_keys(), namespace => 'keys');" >save_keys
printf '%s\n' "$head" '\set key random(0, 9)' "SELECT session_merge('s' || :i,
	jsonb_build_object('key' || :key, slice(80 + (random() * 20)::int)), namespace => 'keys');" >merge

log_of() { # SCRIPT
	wal_per "$calls" bench_calls "$calls" "$1"
}

progress "saving each once"
for script in save upsert save_keys; do
	bench_calls "$sessions" "$script"
done
alternate wal-save "log_of save" "log_of upsert"
alternate wal-merge "log_of merge" "log_of save_keys"
restart_with wal_level logical
alternate wal-save-logical "log_of save" "log_of upsert"
alternate wal-merge-logical "log_of merge" "log_of save_keys"
