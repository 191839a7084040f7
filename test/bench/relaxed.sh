#!/usr/bin/env bash
# Saves a second of a namespace with durability relaxed against one that is strict, by one client.
#
# The server waits for a real disk (fsync on, synchronous_commit on); how much it is hangs on how
# long a flush takes, which the page says of its machine. Documents of 1 KB, 10,000 sessions
# in each namespace, prepared.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 10000 100)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

tiny || [ "$(sql 'SHOW fsync')" = on ] || { echo "fsync is off: this would say nothing" >&2; exit 1; }
progress "$sessions sessions of 1 KB, twice"
create_slice_function
sql "INSERT INTO session_namespaces (name, key_prefix, durability, cache)
	VALUES ('strict', 'strict:', 'strict', 'off'), ('relaxed', 'relaxed:', 'relaxed', 'off')"
for namespace in strict relaxed; do
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data)
		SELECT '$namespace', 's' || i, sliced_document(1024, i) FROM generate_series(1, $sessions) i"
	printf '%s\n' "\\set i random(1, $sessions)" \
		"SELECT session_save('s' || :i, sliced_document(1024, :i), namespace => '$namespace');" >"$namespace"
done
sql "VACUUM ANALYZE"
sql "CHECKPOINT"

alternate relaxed "bench_tps prepared 1 relaxed" "bench_tps prepared 1 strict"
