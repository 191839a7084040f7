#!/usr/bin/env bash
# The honest other end: Redis alone, which has no truth beside it that survives, against what ours costs.
#
# SETEX against session_save with write-through until Redis has it all (synchronous_commit off), GET against
# session_get and against our strong read, MGET with the lease. By 1 client and by 8, through hiredis and
# libpq, prepared.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 100000 1000)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

begin_with_cache "$sessions"
./client -a redis_set 8 0 "$sessions" >/dev/null

for clients in 1 8; do
	alternate "redis-set-$clients" "client_rate $sessions save $clients" "client_rate $sessions redis_set $clients"
	alternate "redis-get-$clients" "client_rate $sessions get $clients" "client_rate $sessions redis_get $clients"
	alternate "redis-strong-$clients" "client_rate $sessions strong $clients" "client_rate $sessions redis_get $clients"
done
