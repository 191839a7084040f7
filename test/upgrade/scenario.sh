#!/usr/bin/env bash
#
# scenario.sh OLD NEW
#	Within the tree of run.sh, as an unprivileged user: a server of version OLD with sessions of
#	every kind and a Redis with their copies is upgraded to NEW by pg_upgrade, while thousands of
#	sessions are due for the purge. Prints ok and not ok.
set -euo pipefail

old=$1 new=$2
bin=/usr/lib/postgresql
run=/upgrade/run-$old-$new
mkdir -p "$run/sock"
cd "$run"
export PGHOST=$run/sock PGUSER=postgres PGDATABASE=postgres PGOPTIONS='-c statement_timeout=120s'
sessions=20000

check() {	# WHAT EXPECTED GOT
	if [ "$2" = "$3" ]; then
		echo "ok: $old-$new: $1"
	else
		echo "not ok: $old-$new: $1: expected '$2', got '$3'"
	fi
}

sql() {
	psql -XAtq -v ON_ERROR_STOP=1 -c "$1" 2>&1 || :
}

redis() {
	redis-cli -s "$run/redis.sock" "$@"
}

wait_for() {	# WHAT COMMAND..
	local what=$1 deadline=$((SECONDS + 100))

	shift
	until "$@"; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			echo "not ok: $old-$new: $what: not in time"
			return 0
		fi
		sleep 0.1
	done
	echo "ok: $old-$new: $what"
}

says_true() {
	[ "$(sql "$1")" = t ]
}

start() {	# VERSION DATA
	"$bin/$1/bin/pg_ctl" -w -s -t 120 -D "$2" -l "$2.log" start
}

stop() {
	"$bin/$1/bin/pg_ctl" -w -s -t 120 -D "$2" -m fast stop
}

make_cluster() {	# VERSION DATA
	local options=()

	[ "$1" -lt 18 ] || options=(--no-data-checksums)
	"$bin/$1/bin/initdb" -D "$2" -U postgres --auth=trust --no-instructions -E UTF8 --locale=C.UTF-8 --no-sync "${options[@]}" >/dev/null
	cat >>"$2/postgresql.conf" <<EOC
listen_addresses = ''
unix_socket_directories = '$run/sock'
shared_preload_libraries = 'session_store'
session_store.redis_url = 'unix://$run/redis.sock'
fsync = off
max_worker_processes = 16
EOC
}

pg_upgrade() {	# FOLDER
	(cd "$1" && "$bin/$new/bin/pg_upgrade" -b "$bin/$old/bin" -B "$bin/$new/bin" -d "$1/old" -D "$1/new" -U postgres -s "$run/sock" -j 2 >"$1/pg_upgrade.log" 2>&1)
}

# Can these packages upgrade one plain table, without us?
control_succeeds() {
	mkdir -p "$run/control"
	make_cluster "$old" control/old
	make_cluster "$new" control/new
	sed -i '/session_store/d' control/old/postgresql.conf control/new/postgresql.conf
	start "$old" control/old
	sql 'CREATE TABLE plain (id int)'
	stop "$old" control/old
	pg_upgrade "$run/control"
}

# The rows that must survive, except those that a purge may remove.
content() {
	sql "SELECT t.name, t.rows FROM (
		SELECT 'sessions' AS name, count(*) || ' ' || md5(string_agg(s::text, ' ' ORDER BY namespace, session_id)) AS rows
			FROM (SELECT namespace, session_id, session_data, owner_id, version, created_at, expires_at, ttl, last_seq, message_count, history_id, dead_until
				  FROM conversation_sessions WHERE expires_at > '$1') s
		UNION ALL SELECT 'history', count(*) || ' ' || md5(string_agg(h::text, ' ' ORDER BY history_id, seq)) FROM conversation_history h
		UNION ALL SELECT 'members', count(*) || ' ' || md5(string_agg(m::text, ' ' ORDER BY history_id, member)) FROM session_members m
		UNION ALL SELECT 'events', count(*) || ' ' || md5(string_agg(e::text, ' ' ORDER BY created_at, event_id)) FROM session_events e WHERE event <> 'expired'
		UNION ALL SELECT 'counters', count(*) || ' ' || md5(string_agg(c::text, ' ' ORDER BY namespace, counter_id)) FROM session_counters c WHERE resets_at > '$1'
		UNION ALL SELECT 'policies', count(*) || ' ' || md5(string_agg(n::text, ' ' ORDER BY name)) FROM session_namespaces n) t ORDER BY 1"
}

# Tables and indexes checked by amcheck; empty if all are intact.
damage() {
	sql "SELECT c.relname, v.* FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store',
			LATERAL verify_heapam(c.oid, check_toast => true) v WHERE c.relkind = 'r' LIMIT 5"
	sql "DO \$\$ DECLARE i regclass; BEGIN
		FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store' AND d.deptype = 'e') LOOP
			PERFORM bt_index_check(i, true);
		END LOOP; END \$\$"
}

# Has a strong reader at any time trusted a copy of a session that was logged out?
watch() {
	local gone lease copy

	while [ ! -e "$run/watch.end" ]; do
		gone=
		[ ! -e "$run/logged_out" ] || gone=yes
		redis MGET session_store:lease chat:logout >"$run/answer" 2>/dev/null || :
		{ read -r lease && read -r copy; } <"$run/answer" || copy=
		[ -z "$gone" ] || [ -z "$lease" ] || [ -z "$copy" ] || echo "$lease $copy" >>"$run/violations"
		echo >>"$run/looks"
		sleep 0.01
	done
}

redis-server --port 0 --unixsocket "$run/redis.sock" --save '' --appendonly no --daemonize yes --pidfile "$run/redis.pid" --logfile "$run/redis.log" --dir "$run" >/dev/null
make_cluster "$old" old
# the purge is off while the sessions are made, so that they are due when pg_upgrade starts the server
echo 'session_store.purge_interval = 0' >>old/postgresql.conf
start "$old" old
sql "CREATE EXTENSION session_store; CREATE EXTENSION amcheck"
wait_for 'the cache runs' says_true "SELECT (session_health() #>> '{cache,running}')::bool"
sql "INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, cache_ttl, audit, tombstone, tail_prefix)
	VALUES ('chat', 'chat:', '3 days', true, 'all', '1 hour', true, '1 hour', 'tail:')"
sql "SELECT count(session_save('s' || i, jsonb_build_object('n', i), owner => 'u' || i % 100, namespace => 'chat')) FROM generate_series(1, $sessions) i" >/dev/null
sql "SELECT count(session_append('s' || i, '[{\"m\": 1}, {\"m\": 2}]', 'op', namespace => 'chat')), count(session_share('s' || i, 'bob', namespace => 'chat')) FROM generate_series(1, 500) i;
	SELECT count(session_delete('s' || i, namespace => 'chat')) FROM generate_series(501, 600) i;
	SELECT count(session_hit('c' || i, '1 day', by => i, namespace => 'chat')) FROM generate_series(1, 200) i;
	SELECT count(session_save('gone' || i, '{}', ttl => '1 ms', namespace => 'chat')) FROM generate_series(1, 500) i;
	SELECT session_save('logout', '{\"in\": true}', namespace => 'chat'), session_save('stays', '{\"in\": true}', namespace => 'chat')" >/dev/null
# as if each had been saved with a short ttl and extended since
sql "UPDATE conversation_sessions SET check_at = clock_timestamp() - interval '1 second' WHERE session_id LIKE 's%'"
alive=$(sql "SELECT count(*) FROM conversation_sessions WHERE expires_at > now() + interval '1 day' AND dead_until IS NULL")
check 'Redis has what was saved' t "$(sql "SELECT session_cache_sync('60 s')")"
check 'a copy is there' '{"in": true}' "$(redis GET chat:logout)"
horizon=$(sql 'SELECT clock_timestamp()')
before=$(content "$horizon")
check 'sessions are due' t "$(sql "SELECT count(*) >= $sessions FROM conversation_sessions WHERE check_at < clock_timestamp()")"
watch &
watcher=$!
stop "$old" old
sed -i '/purge_interval = 0/d' old/postgresql.conf

make_cluster "$new" new
rc=0
pg_upgrade "$run" || rc=$?
if [ "$rc" -ne 0 ] && ! control_succeeds; then
	echo "skipped: $old-$new: pg_upgrade of these packages fails on a plain table as well: $(cat "$run"/control/new/pg_upgrade_output.d/*/log/*.log | grep -m 1 -o 'error: .*')"
	touch "$run/watch.end"
	redis SHUTDOWN NOSAVE >/dev/null 2>&1 || :
	exit 0
fi
check 'pg_upgrade' 0 "$rc"
[ "$rc" -eq 0 ] || tail -n 20 "$run/pg_upgrade.log"

start "$new" new
check 'nothing is missing, nothing differs' "$before" "$(content "$horizon")"
check 'amcheck finds nothing' '' "$(damage)"

# logged out on the new server; the copy of the old one is still in Redis
check 'a logout' t "$(sql "SELECT session_delete('logout', namespace => 'chat')")"
touch "$run/logged_out"
check 'a save of every session' "$alive" "$(sql "SELECT count(session_merge(session_id, '{\"new\": true}', namespace => 'chat')) FROM conversation_sessions WHERE namespace = 'chat' AND expires_at > now() + interval '1 day' AND dead_until IS NULL AND session_id <> 'logout'" | awk '{print $1 + 1}')"
check 'the dead are dead' 100 "$(sql "SELECT count(*) FROM conversation_sessions WHERE session_id IN (SELECT 's' || generate_series(501, 600)) AND dead_until > now()")"
check 'messages' 1000 "$(sql "SELECT count(*) FROM generate_series(1, 500) i, session_history('s' || i, namespace => 'chat')")"
check 'an operation is not repeated' 2 "$(sql "SELECT session_append('s1', '[{\"m\": 1}, {\"m\": 2}]', 'op', namespace => 'chat')")"
wait_for 'the purge has gone on' says_true "SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id LIKE 'gone%') AND NOT EXISTS (SELECT FROM conversation_sessions WHERE check_at < now() - interval '1 minute')"
check 'a delete of many' 1000 "$(sql "SELECT count(*) FROM generate_series(1001, 2000) i WHERE session_delete('s' || i, namespace => 'chat')")"
check 'amcheck finds nothing after that, either' '' "$(damage)"

# the Redis of another system waits for a takeover
wait_for 'the takeover' says_true 'SELECT session_cache_takeover()'
wait_for 'the cache runs' says_true "SELECT (session_health() #>> '{cache,running}')::bool"
check 'it is in step' t "$(sql "SELECT session_cache_sync('60 s')")"
check 'a plain reader does not find what was logged out' '' "$(redis GET chat:logout)"
check '.. nor an old copy of what was changed' '' "$(redis GET chat:stays | grep -v new || :)"
sql "SELECT session_get('stays', namespace => 'chat'); SELECT session_cache_sync('60 s')" >/dev/null
touch "$run/watch.end"
wait "$watcher"
check 'a strong reader has looked' yes "$([ "$(wc -l <"$run/looks")" -gt 20 ] && echo yes)"
check 'no strong reader ever saw a session that was logged out' '' "$(cat "$run/violations" 2>/dev/null || :)"
stop "$new" new
check 'no crash' 0 "$(grep -cE 'PANIC|TRAP|terminated by signal' new.log || :)"
redis SHUTDOWN NOSAVE >/dev/null 2>&1 || :
