#!/usr/bin/env bash
#
# cache.sh
#	What the cache costs those who save, how fast it catches up, and what an outage of Redis
#	costs. Not in the order of ./dev bench, but to be run by its name; what write-through
#	brings against the dual write of an application is in writethrough.sh.
#
# Each comparison runs both sides in turns, and shows the median of the ratios.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 1000)
work=$(mktemp -d)
redis_pid=$(cat "${SS_REDIS_CONF%/*}/redis.pid")

cleanup() {
	kill -CONT "$redis_pid" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

begin_with_cache "$sessions"

running() {
	wait_for 30 "SELECT session_health() #>> '{cache,state}' = 'running'"
}

cache() {	# on, off
	local mode=off

	[ "$1" = off ] || mode=all
	sql "UPDATE session_namespaces SET cache = '$mode' WHERE name = 'bench'"
	sql "SELECT session_cache_sync('30 seconds')" >/dev/null
	running
}

# run MODE CLIENTS: "tps p50 p99 cpu"
run() {
	./client "$1" "$2" "$SECONDS_EACH" "$sessions"
}

field() {	# N of "a b c d"
	awk -v n="$1" '{print $n}'
}

# Ratios of a field of two alternating runs: compare NAME FIELD COMMAND_A COMMAND_B
compare() {
	local name=$1 n=$2 a b i out=() seen=()

	for ((i = 0; i < ROUNDS; i++)); do
		a=$($3 | field "$n")
		b=$($4 | field "$n")
		out+=("$(awk -v a="$a" -v b="$b" 'BEGIN {printf "%d", a / b * 1000}')")
		seen+=("$a/$b")
	done
	printf '%s: %s (median of %s)\n' "$name" \
		"$(printf '%s\n' "${out[@]}" | median | awk '{printf "%.3f", $1 / 1000}')" "${seen[*]}"
}

saving() { run save 8; }
saving_without() {
	cache off
	run save_unsynced 8
	cache on >&2
}

compare "processor time of a save in its backend, cache all against off" 4 saving saving_without

echo "drain of $sessions dirty sessions of 1 KB, in sessions a second:"
for ((i = 0; i < 3; i++)); do
	pusher=$(sql "SELECT session_health() #>> '{cache,pid}'")
	kill -STOP "$pusher"
	for ((n = 0; n < sessions; n += 2000)); do
		echo "UPDATE conversation_sessions SET session_data = jsonb_set(session_data, '{text}', to_jsonb(reverse(session_data ->> 'text')))
			WHERE namespace = 'bench' AND session_id IN (SELECT 's' || g FROM generate_series($((n + 1)), $((n + 2000))) g);"
	done | psql -Xq
	dirty=$(sql "SELECT session_health() #>> '{cache,ledger_used}'")
	start=$(date +%s%N)
	kill -CONT "$pusher"
	sql "SELECT session_cache_sync('1 minute')" >/dev/null
	echo "  $dirty in $((($(date +%s%N) - start) / 1000000)) ms: $((dirty * 1000000 / (($(date +%s%N) - start) / 1000))) a second"
done

# An outage: its effect on clients that read and save.
hung() {
	kill -STOP "$redis_pid"
	sleep 3	# the lease and the first timeouts are over
	"$@"
	kill -CONT "$redis_pid"
	running
}
hung_reading() { hung run get 4; }
hung_saving() { hung run save_unsynced 4; }
four_reading() { run get 4; }
four_saving() { run save_unsynced 4; }
compare "p99 of session_get, Redis hung against well" 3 hung_reading four_reading
compare "p99 of session_save, Redis hung against well" 3 hung_saving four_saving
