#!/usr/bin/env bash
# How full the pages of conversation_sessions should be.
#
# For each fillfactor: SESSIONS sessions of 1 KB, then SAVES saves at random by
# four clients, with autovacuum on. Printed: the share of HOT updates, the size of table
# and indexes before and after, and WAL bytes a save. Counts, not times, so that
# they can be compared between machines.
#
#   SESSIONS (20000)  SAVES (200000)  FACTORS ("60 70 80 90 100")
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

SESSIONS=${SESSIONS:-20000}
SAVES=${SAVES:-200000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >save.sql <<SQL
\\set i random(1, $SESSIONS)
SELECT session_save('s' || :i, jsonb_build_object('user', :i::int, 'at', clock_timestamp(),
	'text', repeat(md5(random()::text), 29 + (random() * 4)::int)));
SQL

sql "CREATE EXTENSION IF NOT EXISTS session_store" 2>/dev/null
set_server full_page_writes off
echo "fillfactor  hot%  table MB before/after  index MB before/after  wal bytes/save"
for factor in ${FACTORS:-60 70 80 90 100}; do
	sql "TRUNCATE conversation_sessions"
	sql "ALTER TABLE conversation_sessions SET (fillfactor = $factor)"
	sql "INSERT INTO conversation_sessions (session_id, session_data)
		 SELECT 's' || i, jsonb_build_object('user', i, 'at', clock_timestamp(),
			'text', repeat(md5(random()::text), 29 + (random() * 4)::int))
		 FROM generate_series(1, $SESSIONS) i"
	sql "VACUUM ANALYZE conversation_sessions"
	sql "SELECT pg_stat_reset_single_table_counters('conversation_sessions'::regclass)" >/dev/null
	sizes="SELECT round(pg_table_size('conversation_sessions') / 1e6, 1) || ' ' ||
		round(pg_indexes_size('conversation_sessions') / 1e6, 1)"
	read -r table0 index0 <<<"$(sql "$sizes")"
	lsn=$(sql "SELECT pg_current_wal_insert_lsn()")
	pgbench -n -M prepared -c 4 -j 1 -t $((SAVES / 4)) -f save.sql >pgbench.out 2>&1
	wal=$(sql "SELECT round(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$lsn') / $SAVES)")
	read -r table1 index1 <<<"$(sql "$sizes")"
	wait_for 20 "SELECT n_tup_upd >= $SAVES FROM pg_stat_user_tables WHERE relname = 'conversation_sessions'"
	hot=$(sql "SELECT round(100.0 * n_tup_hot_upd / n_tup_upd, 1) FROM pg_stat_user_tables WHERE relname = 'conversation_sessions'")
	printf '%10s %5s  %9s / %-9s %9s / %-9s %8s\n' "$factor" "$hot" "$table0" "$table1" "$index0" "$index1" "$wal"
done
sql "ALTER TABLE conversation_sessions SET (fillfactor = 80)"
sql "ALTER SYSTEM RESET full_page_writes" && sql "SELECT pg_reload_conf()" >/dev/null
