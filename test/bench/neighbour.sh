#!/usr/bin/env bash
# What a database at full throttle costs another one on the same server: how long after its COMMIT a session's copy
# is in Redis.
#
# One client of the measured database saves at a steady rate and waits for each of its copies. Meanwhile eight
# clients save in the neighbour, as fast as they can, all of it written through to Redis by a pusher of its own. On
# our side the neighbour is a database of the same server; on the other, it is the only database of a second server
# on the same machine. The work and the processors are the same, and the same Redis takes both. What the second
# server does not share is the ledger, its locks, the log and the list of transactions, so the ratio tells what those
# cost. Both against the lag with no neighbour at all are there as well: that is what the processors cost.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

sessions=$(scale 20000 500)
rate=$(scale 200 50)
work=$(mktemp -d)
clients=	# the clients of the neighbour, in the background

cleanup() {
	[ -z "$clients" ] || kill "$clients" 2>/dev/null || :
	drop_other_database neighbour || :
	[ ! -e "$work/server/postmaster.pid" ] || pg_ctl stop -s -m immediate -D "$work/server"
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

# A server of its own for the neighbour, with the settings of the first.
start_second_server() {
	local name

	initdb -D "$work/server" -A trust -U "$(sql 'SELECT current_user')" --no-instructions >/dev/null
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$work'"
		for name in shared_preload_libraries max_connections max_wal_size checkpoint_timeout fsync shared_buffers full_page_writes autovacuum; do
			echo "$name = '$(sql "SHOW $name")'"
		done
		echo "session_store.redis_url = 'unix://$SS_REDIS_SOCKET'"
	} >>"$work/server/postgresql.conf"
	pg_ctl start -s -w -t 300 -D "$work/server" -l "$work/server.log"
}

# Runs a command on the neighbour of a side: at ours|theirs COMMAND..
at() {
	local PGDATABASE=neighbour
	export PGDATABASE

	if [ "$1" = theirs ]; then
		local PGHOST=$work
		export PGHOST
	fi
	"${@:2}"
}

fill() {
	sql "INSERT INTO session_namespaces (name, key_prefix, ttl, cache, sliding) VALUES ('bench', 'bench:', '1 day', 'all', false)"
	wait_for 30 "SELECT session_health() #>> '{cache,state}' = 'running'"
	create_document_function
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data)
		SELECT 'bench', 's' || i, document(1024, i) FROM generate_series(1, $sessions) i"
	wait_for 60 "SELECT session_cache_sync('1 minute')"
	sql "VACUUM ANALYZE"
	sql "CHECKPOINT"
}

create_neighbour() { # SIDE NUMBER
	[ "$1" = ours ] || start_second_server
	PGDATABASE=postgres
	[ "$1" = ours ] || PGHOST=$work
	sql 'CREATE DATABASE neighbour'
	# a database of the same Redis for it alone, before a pusher can claim another
	sql "ALTER DATABASE neighbour SET session_store.redis_db = $2"
	PGDATABASE=neighbour
	sql 'CREATE EXTENSION session_store'
	fill
}

saving() {
	sql "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'neighbour' AND query LIKE '%session_save%'"
}

# How long a copy takes, and how many sessions the neighbour saves per second meanwhile: "p50 saves"
measure() { # SIDE, or none
	local seconds p50 load=0

	seconds=$(scale "$SECONDS_EACH" 0.3)
	if [ "$1" != none ]; then
		# it continues for a second if we began late
		at "$1" ./client save_unsynced 8 "$(scale "$((SECONDS_EACH + 1))" 1)" "$sessions" >load &
		clients=$!
		wait_until 60 neighbour_saves "$1"
	fi
	p50=$(./client -r "$rate" lag 1 "$seconds" "$sessions" | awk '{print $2}')
	if [ "$1" != none ]; then
		wait "$clients"
		clients=
		load=$(awk '{print $1}' load)
		at "$1" sql "SELECT session_cache_sync('1 minute')" >/dev/null
	fi
	echo "$p50 $load"
}
neighbour_saves() {
	[ "$(at "$1" saving)" = t ]
}

build_client
set_server session_store.redis_url "'unix://$SS_REDIS_SOCKET'"
fill
(create_neighbour ours 1)
(create_neighbour theirs 2)

for ((round = 1; round <= ROUNDS; round++)); do
	sides='ours theirs none'
	((round % 2)) || sides='none theirs ours'
	for side in $sides; do
		read -r p50 load <<<"$(measure "$side")"
		[[ $p50 =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "no latency: $p50" >&2; exit 1; }
		progress "round $round/$ROUNDS, neighbour $side: the copy after $p50 us; the neighbour saves $load a second"
		case $side in
			ours) sample neighbour-lag ours "$round" "$p50"; sample neighbour-processors ours "$round" "$p50"; sample neighbour-load ours "$round" "$load" ;;
			theirs) sample neighbour-lag theirs "$round" "$p50"; sample neighbour-load theirs "$round" "$load" ;;
			none) sample neighbour-processors theirs "$round" "$p50" ;;
		esac
	done
done
