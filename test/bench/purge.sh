#!/usr/bin/env bash
# What a purge costs those who work meanwhile, and how fast it is.
#
# 1,000,000 dead among 2,000,000 sessions of 1 KB are purged by the keeper, at the rate that
# it has by default (session_store.purge_rate), while two clients save. purge-rate: rows a second
# against one big DELETE of as many, of the same table, with the same clients. purge-p99 and
# delete-p99: the 99th percentile of those clients' latency over the whole purge, and over the
# whole DELETE, against the median of three runs undisturbed: before, between and after.
# One round, since it takes minutes; autovacuum is on, as a server has it.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

dead=$(scale 1000000 1000)
calm_seconds=$(scale 20 1)
work=$(mktemp -d)
saver=	# the clients in the background

# Ends its sessions, because pgbench itself would not write the end of its log if it were ended.
stop_saver() {
	sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'saver'" >/dev/null
	wait "$saver" || :
	saver=
}
trap '[ -z "$saver" ] || kill "$saver" || :; rm -rf "$work"' EXIT
cd "$work"

# half the sessions
fill() { # KIND EXPIRES
	begin_load
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, created_at, updated_at, expires_at, check_at)
		SELECT 'bench', '$1' || i, sliced_document(1024, i), '1 hour', now() - interval '2 hours', now(), $2, $2
		FROM generate_series(1, $dead) i"
	end_load
	sql "CHECKPOINT"
}
fill_dead() {
	fill dead "now() - interval '1 hour' + i * interval '1 us'"
}

# Two clients in the background that save for at most so long.
start_saver() { # NAME SECONDS
	PGAPPNAME=saver pgbench -n -M prepared -c 2 -j 1 -T "$2" -l --log-prefix="$1" -f save >"$1.out" 2>&1 &
	saver=$!
}
undisturbed() { # NAME
	start_saver "$1" "$calm_seconds"
	wait "$saver"
	saver=
	latencies "$1" | percentile 99
}

# Saves until the expired sessions are gone; sets p99 and rate, in rows per second.
disturbed() { # NAME COMMAND
	local start

	start_saver "$1" 3600
	wait_for 30 "SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'saver' AND query LIKE 'SELECT session_save%'"
	start=$(date +%s%N)
	$2
	wait_for 1000 "SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE check_at < now() - interval '30 minutes')"
	rate=$(awk -v rows="$dead" -v ns="$(($(date +%s%N) - start))" 'BEGIN {printf "%.0f", rows * 1e9 / ns}')
	stop_saver
	wait_for 30 "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'saver')"
	p99=$(latencies "$1" | percentile 99)
	progress "$1: $rate rows a second, p99 $p99 us"
}
by_keeper() {
	set_server session_store.purge_interval 1000
}
by_delete() {
	sql "DELETE FROM conversation_sessions WHERE expires_at < now() - interval '30 minutes'"
}

progress "$((dead * 2)) sessions of 1 KB"
create_slice_function
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
printf '%s\n' "\\set i random(1, $dead)" "SELECT session_save('live' || :i, sliced_document(1024, :i), ttl => '10 hours', namespace => 'bench');" >save
set_server session_store.purge_interval 0
fill live "now() + interval '10 hours' + i * interval '1 us'"
fill_dead

before=$(undisturbed before)
progress "undisturbed: p99 $before us"
disturbed purge by_keeper
purge_rate=$rate purge_p99=$p99
set_server session_store.purge_interval 0
sql "VACUUM conversation_sessions" && sql "CHECKPOINT"
between=$(undisturbed between)
progress "undisturbed: p99 $between us"

fill_dead
disturbed delete by_delete
sql "VACUUM conversation_sessions" && sql "CHECKPOINT"
after=$(undisturbed after)
progress "undisturbed: p99 $after us"
calm=$(printf '%s\n' "$before" "$between" "$after" | median)

sample purge-rate ours 1 "$purge_rate"
sample purge-rate theirs 1 "$rate"
sample purge-p99 ours 1 "$purge_p99"
sample purge-p99 theirs 1 "$calm"
sample delete-p99 ours 1 "$p99"
sample delete-p99 theirs 1 "$calm"
