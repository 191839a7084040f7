#!/usr/bin/env bash
# What a purge costs those who work meanwhile.
#
# 1,000,000 dead among 2,000,000 sessions of 1 KB are purged while two clients
# save. Their p99 is compared with that of the same clients on the same table
# undisturbed, before and after; beside it stands one big DELETE of as many rows.
#
#   SIZE   sessions in all (2000000)    SECS  seconds of an undisturbed run (20)
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

SIZE=${SIZE:-2000000}
SECS=${SECS:-20}
DEAD=$((SIZE / 2))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >save.sql <<SQL
\\set i random(1, $DEAD)
SELECT session_save('live' || :i, jsonb_build_object('user', :i::int, 'text', repeat('abcdefgh', 120)));
SQL

# fill KIND EXPIRES: half the sessions, by plain SQL
fill() {
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, created_at, expires_at)
		 SELECT 'default', '$1' || i, jsonb_build_object('user', i, 'text', repeat('abcdefgh', 120)),
				'1 hour', clock_timestamp() - interval '2 hours', $2
		 FROM generate_series(1, $DEAD) i"
}

save_for() {
	rm -f "$1".*
	pgbench -n -M prepared -c 2 -j 1 -T "$2" -l --log-prefix="$1" -f save.sql >"$1.out" 2>&1
}

undisturbed() {
	save_for "$1" "$SECS"
	latencies "$1" | percentile 99
}

# Saves until the query of the dead says 0; prints p99 and seconds.
disturbed() {
	local start

	pgbench -n -M prepared -c 2 -j 1 -T 3600 -l --log-prefix="$1" -f save.sql >"$1.out" 2>&1 &
	local saver=$!
	sleep 1
	start=$(date +%s.%N)
	$2
	wait_for 3000 "SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE check_at < now() - interval '30 minutes')"
	took=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}')
	# a shell's background job ignores SIGINT
	kill "$saver" && wait "$saver" || true
	p99=$(latencies "$1" | percentile 99)
}

purge_on() { set_server session_store.purge_interval 1000; }
big_delete() { sql "DELETE FROM conversation_sessions WHERE expires_at < now() - interval '30 minutes'"; }

sql "CREATE EXTENSION IF NOT EXISTS session_store"
set_server session_store.purge_interval 0
sql "TRUNCATE conversation_sessions"
echo "loading $SIZE sessions"
fill live "clock_timestamp() + interval '10 hours'"
fill dead "clock_timestamp() - interval '1 hour'"
sql "VACUUM ANALYZE conversation_sessions" && sql "CHECKPOINT"

before=$(undisturbed before)
disturbed purge purge_on
purge_p99=$p99 purge_took=$took
set_server session_store.purge_interval 0
sql "VACUUM conversation_sessions" && sql "CHECKPOINT"
between=$(undisturbed between)

fill dead "clock_timestamp() - interval '1 hour'"
sql "VACUUM ANALYZE conversation_sessions" && sql "CHECKPOINT"
disturbed delete big_delete
delete_p99=$p99 delete_took=$took
sql "VACUUM conversation_sessions" && sql "CHECKPOINT"
after=$(undisturbed after)
calm=$(printf '%s\n%s\n%s\n' "$before" "$between" "$after" | median)

echo "undisturbed p99 (us): $before $between $after, median $calm"
echo "purge:      $DEAD rows in $purge_took s, $(ratio $DEAD "$purge_took") rows/s, p99 $purge_p99 us, $(ratio "$purge_p99" "$calm") x undisturbed"
echo "big DELETE: $DEAD rows in $delete_took s, $(ratio $DEAD "$delete_took") rows/s, p99 $delete_p99 us, $(ratio "$delete_p99" "$calm") x undisturbed"
sql "ALTER SYSTEM RESET session_store.purge_interval" && sql "SELECT pg_reload_conf()" >/dev/null
