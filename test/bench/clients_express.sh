#!/usr/bin/env bash
# An express application with express-session: the stores that people use against session_store/express.
#
# express-pg: connect-pg-simple against reads by SQL. Both use a pg.Pool of ten connections and their defaults, and the
# server has its own (synchronous_commit is on). connect-pg-simple writes at every request, since express-session
# touches each session that it did not save; a read by session_get in a sliding namespace is the touch.
#
# express-redis: connect-redis, which has sessions in Redis alone, against the strong read from Redis, and saves in
# Postgres that wait until no reader of Redis sees the old session (fence = all), which the next request of a browser
# relies on. Its namespace has durability relaxed: the other side's Redis keeps nothing on disk.
#
# One Node serves requests by 32 browsers, which another Node plays (clients/browsers.js); every fourth request changes
# the session, and each answer has to be that of the session.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d)

cleanup() {
	local programs

	mapfile -t programs <<<"$(jobs -pr)"
	! kill "${programs[@]}" 2>/dev/null || wait "${programs[@]}" || :
	rm -rf "$work"
}
trap cleanup EXIT
node_folder "$work"
cd "$work"

load() {	# STORE
	node browsers.js "$work/$1.sock" "$(scale 32 4)" "$(scale 1000 20)" "$(scale "$SECONDS_EACH" 0.2)"
}

psql -Xq -v ON_ERROR_STOP=1 -f node_modules/connect-pg-simple/table.sql
sql "INSERT INTO session_namespaces (name, key_prefix, ttl, cache) VALUES ('express', 'express:', '1 day', 'off')"
start_cache
sql "UPDATE session_namespaces SET sliding = true, durability = 'relaxed' WHERE name = 'bench'"
set_server session_store.fence "'all'"
for store in sql strong connect-pg-simple connect-redis; do
	node express.js "$store" "$work/$store.sock" &
	wait_until 60 test -S "$store.sock"
done
alternate express-redis "load strong" "load connect-redis"
# an application without a Redis
set_server session_store.redis_url "''"
alternate express-pg "load sql" "load connect-pg-simple"
