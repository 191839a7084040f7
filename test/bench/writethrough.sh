#!/usr/bin/env bash
# Saves of eight clients that are in Postgres and in Redis, against the dual write of applications.
#
# The other side is what an application does that writes both by itself (client.c, mode dual): a prepared
# upsert through libpq into a table with a primary key and an index on expires_at, and when Postgres has
# answered, SETEX through hiredis, for whose answer it waits as well. Ours is session_save, and the time
# counts until Redis has the last of them. A fault between its two writes, which leaves the other side's
# Redis wrong, costs it nothing here.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 1000)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

begin_with_cache "$sessions"
./client -a redis_set 8 0 "$sessions" >/dev/null	# the other side's Redis is full as well

saves() {	# MODE [OPTION]
	client_rate "$sessions" "${@:2}" "$1" 8
}

# How long after a commit its copy is in Redis, while the other clients save as well: percentiles in
# milliseconds.
push_lag() {	# SAVES-A-SECOND
	./client -r "$1" lag 8 "$(scale "$SECONDS_EACH" 0.2)" "$sessions" | awk '{printf "%.2f %.2f\n", $2 / 1000, $3 / 1000}'
}

alternate write-through "saves save" "saves dual"
alternate write-through-sync "saves save -s" "saves dual -s"

half=$(($(for ((i = 0; i < ROUNDS; i++)); do saves save; done | median) / 2))
read -r p50 p99 <<<"$(push_lag "$half")"
progress "lag at $half saves a second: p50 $p50 ms, p99 $p99 ms"
[ -z "${BENCH_OUT:-}" ] || cat >"$BENCH_OUT/writethrough.md" <<TEXT
**Push lag.** At $half saves a second by 8 clients, half of what write-through takes, the copy in Redis is there
$p50 ms after the save returned (p50), or $p99 ms (p99). A client polls for it without a pause.

TEXT
