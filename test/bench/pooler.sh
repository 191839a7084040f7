#!/usr/bin/env bash
# 200 clients behind pgbouncer in transaction mode, the functions against the SQL that one would write by hand.
#
# pgbouncer has 20 connections to the server (its default), which its 200 clients share from one transaction
# to the next. So none of them keeps prepared statements: drivers are told to send each statement with its
# parameters, unnamed, in the extended protocol, and the server parses and plans it anew. Both sides do.
# Tables and statements are those of calls.sh. Saves run with synchronous_commit off on both sides.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

pgbouncer=$(command -v pgbouncer) || skip "no pgbouncer"
clients=$(scale 200 50)
sessions=$(scale 100000 1000)
work=$(mktemp -d)
pooler=''

cleanup() {
	[ -z "$pooler" ] || { kill "$pooler" && wait "$pooler"; } 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

start_pooler() {
	cat >pgbouncer.ini <<INI
[databases]
$PGDATABASE = host=$PGHOST port=$PGPORT user=$PGUSER
[pgbouncer]
listen_addr =
unix_socket_dir = $work
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 300
logfile = $work/pgbouncer.log
INI
	"$pgbouncer" -q pgbouncer.ini &
	pooler=$!
	wait_until 10 pooler_answers 2>/dev/null || { cat pgbouncer.log >&2; return 1; }
}
pooler_answers() {
	PGHOST=$work PGPORT=6432 sql "SELECT 1" >/dev/null
}

# The clients through the pooler: pooled COMMAND FILE
pooled() {
	PGHOST=$work PGPORT=6432 "$1" extended "$clients" "$2"
}

create_document_function
create_hand_table hand
fill_sessions "$sessions" hand
write_calls "$sessions" hand
echo "SELECT 1;" >floor
start_pooler

alternate pooler-get "pooled bench_tps get_ours" "pooled bench_tps get_hand"
# the upper limit: a call that costs only the round trip
alternate pooler-get-ceiling "pooled bench_tps floor" "pooled bench_tps get_hand"
set_server synchronous_commit off
alternate pooler-save "pooled save_tps save_ours" "pooled save_tps save_hand"
