#!/usr/bin/env bash
#
# tour.sh
#	The second half of the tour: Redis, and health. ./dev up shows it, ./dev test runs it.
#
# The environment says where things are: PGHOST, PGDATABASE and so on; SS_REDIS_SERVER,
# SS_REDIS_SOCKET and SS_REDIS_CONF. It stops at the first unexpected result.
#
set -euo pipefail

cli=${SS_REDIS_SERVER%-server}-cli
folder=${SS_REDIS_CONF%/*}

say() {
	printf '%s\n' "$*"
}

sql() {
	say "SQL>   $1" >&2
	psql -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

redis() {
	say "Redis> $*" >&2
	"$cli" -s "$SS_REDIS_SOCKET" "$@"
}

wait_until() {	# COMMAND..
	local deadline=$((SECONDS + 20))

	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || {
			say "not within 20 seconds: $*"
			exit 1
		}
		sleep 0.05
	done
}

is() {	# WANTED GOT
	say "       $2"
	[ "$1" = "$2" ] || {
		say "expected: $1"
		exit 1
	}
}

cache_runs() {
	[ "$(psql -XAtq -c "SELECT session_health() #>> '{cache,state}'")" = running ]
}

answers() {
	[ "$("$cli" -s "$SS_REDIS_SOCKET" ping)" = PONG ]
}

is_silent() {
	! answers
}

is_cached() {	# DOCUMENT
	[ "$("$cli" -s "$SS_REDIS_SOCKET" GET session:tour-cached)" = "$1" ]
}

say '=== 9. Redis: what session_save wrote is read with a plain GET.'
wait_until cache_runs
psql -XAtq -v ON_ERROR_STOP=1 -c "DELETE FROM conversation_sessions WHERE session_id = 'tour-cached'"
is 1 "$(sql "SELECT session_save('tour-cached', '{\"user\": \"carol\"}')")"
is t "$(sql "SELECT session_cache_sync()")"
is '{"user": "carol"}' "$(redis GET session:tour-cached)"

say '=== 10. Redis is killed. SQL continues to work, and the session changes.'
kill -KILL "$(cat "$folder/redis.pid")"
wait_until is_silent
is 2 "$(sql "SELECT session_save('tour-cached', '{\"user\": \"carol\", \"cart\": 1}')")"
is '{"cart": 1, "user": "carol"}' "$(sql "SELECT session_get('tour-cached')")"

say '=== 11. Redis comes back: empty at first, then with the present document. No old copy.'
"$SS_REDIS_SERVER" "$SS_REDIS_CONF" >/dev/null
wait_until answers
is '' "$(redis GET session:tour-cached | grep -v cart || :)"
wait_until cache_runs
is t "$(sql "SELECT session_cache_sync('20 seconds')")"
is '{"cart": 1, "user": "carol"}' "$(sql "SELECT session_get('tour-cached')")"
wait_until is_cached '{"cart": 1, "user": "carol"}'
is '{"cart": 1, "user": "carol"}' "$(redis GET session:tour-cached)"

say '=== 12. Logout: when session_delete has returned, no reader of Redis finds the session.'
is t "$(sql "SELECT session_delete('tour-cached')")"
is '' "$(redis GET session:tour-cached)"

say '=== 13. Health: what is wrong and what to do, and ten of its facts.'
sql "SELECT session_health() -> 'warnings'"
psql -Xq -v ON_ERROR_STOP=1 -P pager=off -P footer=off -P tuples_only=on <<'SQL'
SELECT fact, value FROM session_health() h, LATERAL (VALUES
	('version', h ->> 'version'),
	('launcher', CASE WHEN (h #>> '{launcher,running}')::boolean THEN 'running' ELSE 'not running' END),
	('keeper', h #>> '{keeper,state}'),
	('purge', (h #>> '{purge,behind_seconds}') || ' seconds behind'),
	('sessions at the last sample', h ->> 'sessions'),
	('pending touches', (h #>> '{touches,used}') || ' of ' || (h #>> '{touches,slots}')),
	('cache', h #>> '{cache,state}'),
	('lease', (h #>> '{cache,lease_left_ms}') || ' ms left'),
	('keys in the ledger', (h #>> '{cache,ledger_used}') || ' of ' || (h #>> '{cache,ledger_room}')),
	('Redis', h #>> '{cache,redis_version}')) facts (fact, value);
SQL
