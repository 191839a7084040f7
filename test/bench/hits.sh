#!/usr/bin/env bash
# A hit of a counter against session_incr of a number in a document of its own, by one client.
#
# Both in a namespace with the defaults, where session_incr waits for the disk and a hit does not, and
# with synchronous_commit off, where neither waits. 10,000 counters and 10,000 sessions, prepared.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

counters=$(scale 10000 100)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

progress "$counters counters, and as many sessions"
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
sql "SELECT count(session_hit('c' || i, '1 day', namespace => 'bench')) FROM generate_series(1, $counters) i" >/dev/null
sql "SELECT count(session_save('c' || i, '{\"n\": 1}', ttl => '1 day', namespace => 'bench')) FROM generate_series(1, $counters) i" >/dev/null
sql "VACUUM ANALYZE"
sql "CHECKPOINT"
head="\\set i random(1, $counters)"
printf '%s\n' "$head" "SELECT session_hit('c' || :i, '1 day', max => 10, namespace => 'bench');" >hit
printf '%s\n' "$head" "SELECT session_incr('c' || :i, '{n}', namespace => 'bench');" >incr

alternate hit-incr-sync "bench_tps prepared 1 hit" "bench_tps prepared 1 incr"
alternate hit-incr-clients "bench_tps prepared 50 hit" "bench_tps prepared 50 incr"
set_server synchronous_commit off
alternate hit-incr "bench_tps prepared 1 hit" "bench_tps prepared 1 incr"
