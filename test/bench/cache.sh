#!/usr/bin/env bash
#
# cache.sh
#	What the cache costs those who save, what it brings against an application that writes
#	Redis by itself, how far behind it is, and what an outage of Redis costs.
#
# Each comparison runs both sides in turns, five times, and shows the median of the ratios.
# SECONDS_EACH (3) is how long a run takes; CLIENTS is 8.
#
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

each=${SECONDS_EACH:-3}
rounds=${ROUNDS:-5}
sessions=100000
client=$(mktemp -d)/client
redis_pid=$(cat "${SS_REDIS_CONF%/*}/redis.pid")

cleanup() {
	kill -CONT "$redis_pid" 2>/dev/null || :
	rm -rf -- "${client%/*}"
}
trap cleanup EXIT

gcc -O2 -o "$client" -I"$("$SS_BINDIR/pg_config" --includedir)" \
	"$(dirname -- "${BASH_SOURCE[0]}")/client.c" -lpq -lhiredis -lpthread

set_server session_store.redis_url "'unix://$SS_REDIS_SOCKET'"
sql "INSERT INTO session_namespaces (name, key_prefix, cache, sliding)
	VALUES ('bench', 'bench:', 'all', false)"
sql "CREATE SCHEMA hand"
sql "CREATE TABLE hand.conversation_sessions (session_id text PRIMARY KEY, session_data jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL)"
sql "CREATE INDEX ON hand.conversation_sessions (expires_at)"

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

# run MODE CLIENTS [RATE]: "tps p50 p99 cpu"
run() {
	"$client" "$1" "$2" "$each" "$sessions" ${3:-}
}

field() {	# N of "a b c d"
	awk -v n="$1" '{print $n}'
}

# Ratios of a field of two runs in turns: compare NAME FIELD COMMAND_A COMMAND_B
compare() {
	local name=$1 n=$2 a b i out=() seen=()

	for ((i = 0; i < rounds; i++)); do
		a=$($3 | field "$n")
		b=$($4 | field "$n")
		out+=("$(awk -v a="$a" -v b="$b" 'BEGIN {printf "%d", a / b * 1000}')")
		seen+=("$a/$b")
	done
	printf '%s: %s (median of %s)\n' "$name" \
		"$(printf '%s\n' "${out[@]}" | median | awk '{printf "%.3f", $1 / 1000}')" "${seen[*]}"
}

saving() { run ours 8; }
saving_without() {
	cache off
	run ours 8
	cache on >&2
}
by_hand() { run dual 8; }
reading() { run get 8; }

running
echo "filling $sessions sessions"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data)
	SELECT 'bench', 's' || i, jsonb_build_object('n', 0, 'text', left(repeat(md5(i::text), 40), 1000))
	FROM generate_series(0, $((sessions - 1))) i"
sql "INSERT INTO hand.conversation_sessions (session_id, session_data, expires_at)
	SELECT session_id, session_data, expires_at FROM conversation_sessions WHERE namespace = 'bench'"
sql "SELECT session_cache_sync('30 seconds')" >/dev/null
run dual 8 >/dev/null

compare "processor time of a save in its backend, cache all against off" 4 saving saving_without
compare "saves a second, 8 clients, until Redis has them: ours against upsert and SETEX" 1 saving by_hand

half=$(($(run ours 2 | field 1) / 2))
echo "lag from commit to GET at $half saves a second (p50 and p99, microseconds): $(run lag 2 "$half" | awk '{print $2, $3}')"

echo "drain of $sessions dirty sessions of 1 KB, in sessions a second:"
for ((i = 0; i < 3; i++)); do
	pusher=$(sql "SELECT session_health() #>> '{cache,pid}'")
	kill -STOP "$pusher"
	for ((n = 0; n < sessions; n += 2000)); do
		echo "UPDATE conversation_sessions SET session_data = session_data || jsonb_build_object('n', $RANDOM)
			WHERE namespace = 'bench' AND session_id IN (SELECT 's' || g FROM generate_series($n, $((n + 1999))) g);"
	done | psql -Xq
	dirty=$(sql "SELECT session_health() #>> '{cache,ledger_used}'")
	start=$(date +%s%N)
	kill -CONT "$pusher"
	sql "SELECT session_cache_sync('1 minute')" >/dev/null
	echo "  $dirty in $((($(date +%s%N) - start) / 1000000)) ms: $((dirty * 1000000 / (($(date +%s%N) - start) / 1000))) a second"
done

# An outage: what it does to those who read and save.
hung() {
	kill -STOP "$redis_pid"
	sleep 3	# the lease and the first timeouts are over
	"$@"
	kill -CONT "$redis_pid"
	running
}
hung_reading() { hung run get 4; }
hung_saving() { hung run ours_unsynced 4; }
four_reading() { run get 4; }
four_saving() { run ours_unsynced 4; }
compare "p99 of session_get, Redis hung against well" 3 hung_reading four_reading
compare "p99 of session_save, Redis hung against well" 3 hung_saving four_saving
