#!/usr/bin/env bash
# Saves a second of a namespace with durability relaxed against one that is strict, by one client.
#
# The server waits for a real disk. In turns, ROUNDS times; printed: the medians and their ratio. How
# much it is hangs on the disk: the time of one flush is shown beside it.
#
#   ROUNDS (5)  SECONDS_EACH (3)
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

sql "CREATE EXTENSION IF NOT EXISTS session_store" 2>/dev/null
sql "INSERT INTO session_namespaces (name, durability, cache) VALUES ('strict', 'strict', 'off'), ('relaxed', 'relaxed', 'off')
	ON CONFLICT DO NOTHING"
[ "$(sql 'SHOW fsync')" = on ] || echo "fsync is off: this says nothing" >&2
for namespace in strict relaxed; do
	sql "SELECT count(session_save('s' || i, '{}', namespace => '$namespace')) FROM generate_series(1, 10000) i" >/dev/null
	cat >"$namespace.sql" <<SQL
\\set i random(1, 10000)
SELECT session_save('s' || :i, jsonb_build_object('user', :i::int, 'text', repeat(md5(random()::text), 30)), namespace => '$namespace');
SQL
done

saves() {
	pgbench -n -M prepared -c 1 -T "$SECONDS_EACH" -f "$1.sql" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

for ((round = 1; round <= ROUNDS; round++)); do
	saves strict >>strict
	saves relaxed >>relaxed
done
"$SS_BINDIR/pg_test_fsync" -s 1 -f "$(sql 'SHOW data_directory')/flush-test" 2>/dev/null | sed -n '/8kB/,/^$/ s/^ *fdatasync  */a flush of 8 kB: /p' | head -1
printf '%-10s %8.0f saves a second\n' strict "$(median <strict)" relaxed "$(median <relaxed)"
echo "ratio      $(ratio "$(median <relaxed)" "$(median <strict)")"
