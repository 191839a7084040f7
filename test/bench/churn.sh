#!/usr/bin/env bash
# How eagerly autovacuum should follow the purge.
#
# For each pair of autovacuum_vacuum_scale_factor and autovacuum_vacuum_cost_delay
# (in ms): two clients create sessions of 1 KB
# with a ttl of TTL seconds for SECS seconds while the keeper purges them, on top of
# LIVE sessions that stay. Printed: sizes at the end beside those at the
# start, and how often autovacuum came (with a nap time of 1 s, so that a
# minute stands for an hour).
#
#   LIVE (100000)  SECS (30)  TTL (3)  PAIRS ("0.2:2 0.2:0 0.05:2 0.05:0")
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

LIVE=${LIVE:-100000}
SECS=${SECS:-30}
TTL=${TTL:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >create.sql <<SQL
SELECT session_create(jsonb_build_object('text', repeat('abcdefgh', 120)), ttl => '$TTL s');
SQL

sql "CREATE EXTENSION IF NOT EXISTS session_store" 2>/dev/null
set_server autovacuum_naptime "'1s'"
set_server synchronous_commit off
echo "  pair  created  table MB before/after  index MB before/after  autovacuums"
for pair in ${PAIRS:-0.2:2 0.2:0 0.05:2 0.05:0}; do
	sql "TRUNCATE conversation_sessions"
	sql "ALTER TABLE conversation_sessions SET (
		autovacuum_vacuum_scale_factor = ${pair%:*}, autovacuum_vacuum_cost_delay = ${pair#*:})"
	sql "INSERT INTO conversation_sessions (session_id, session_data)
		 SELECT 's' || i, jsonb_build_object('text', repeat('abcdefgh', 120)) FROM generate_series(1, $LIVE) i"
	sql "VACUUM ANALYZE conversation_sessions"
	sql "SELECT pg_stat_reset_single_table_counters('conversation_sessions'::regclass)" >/dev/null
	sizes="SELECT round(pg_table_size('conversation_sessions') / 1e6, 1) || ' ' ||
		round(pg_indexes_size('conversation_sessions') / 1e6, 1)"
	read -r table0 index0 <<<"$(sql "$sizes")"
	pgbench -n -M prepared -c 2 -j 1 -T "$SECS" -f create.sql >pgbench.out 2>&1
	created=$(awk '/actually processed/ {print $NF}' pgbench.out)
	wait_for 60 "SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE check_at < now() - interval '5 s')"
	read -r table1 index1 <<<"$(sql "$sizes")"
	vacuums=$(sql "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'conversation_sessions'")
	printf '%6s %8s  %9s / %-9s %9s / %-9s %5s\n' "$pair" "$created" "$table0" "$table1" "$index0" "$index1" "$vacuums"
done
sql "ALTER TABLE conversation_sessions RESET (
	autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay)"
sql "ALTER SYSTEM RESET autovacuum_naptime" && sql "ALTER SYSTEM RESET synchronous_commit"
sql "SELECT pg_reload_conf()" >/dev/null
