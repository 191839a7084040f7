#!/usr/bin/env bash
# An express application with express-session: the stores that people use against ours.
#
# express-pg: connect-pg-simple against SqlStore of express/store.js. Both use a pg.Pool of ten connections and
# their defaults, and the server has its own (synchronous_commit is on). connect-pg-simple writes at
# every request, since express-session touches each session that it did not save; a read by session_get in a sliding
# namespace is the touch, so that there SqlStore has nothing to do.
#
# express-redis: connect-redis, which has sessions in Redis alone, against CachedStore: the strong read from Redis, and
# saves in Postgres that wait until no reader of Redis sees the old session (fence = all), which the next
# request of a browser relies on. Its namespace has durability relaxed: the other side's Redis keeps nothing on disk.
#
# Each store must first do what express-session asks of it (express/check.js). One Node serves requests by 32
# browsers, which another Node plays (express/load.js); every fourth request changes the session.
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
node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null || skip "no Node of version 18 or later"
npm --version >/dev/null 2>&1 || skip "no npm"
cp "$bench_folder"/express/*.js* "$work"
cd "$work"

progress "npm install"
# a cache of packages is used, unless it belongs to another user
[ -w "${npm_config_cache:-}" ] || unset npm_config_cache
npm install --no-audit --no-fund --no-package-lock --no-update-notifier --prefer-offline --fetch-timeout=30000 \
	--fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 >npm.log 2>&1 || {
	tail -n 5 npm.log >&2
	skip "no packages from npm"
}

# Serves requests with a store, after a check that it works.
start() {	# STORE
	node server.js "$1" "$work/$1.sock" &
	node check.js "$1" &
	checks+=("$!")
}
load() {	# STORE
	node load.js "$work/$1.sock" "$(scale 32 4)" "$(scale 1000 20)" "$(scale "$SECONDS_EACH" 0.2)"
}

psql -Xq -v ON_ERROR_STOP=1 -f node_modules/connect-pg-simple/table.sql
sql "INSERT INTO session_namespaces (name, key_prefix, ttl, cache) VALUES ('express', 'express:', '1 day', 'off')"
start_cache
sql "UPDATE session_namespaces SET sliding = true, durability = 'relaxed' WHERE name = 'bench'"
set_server session_store.fence "'all'"

checks=()
for store in sql cached connect-pg-simple connect-redis; do
	start "$store"
done
for check in "${checks[@]}"; do
	wait "$check"
done
wait_until 20 test -S sql.sock -a -S cached.sock -a -S connect-pg-simple.sock -a -S connect-redis.sock
alternate express-redis "load cached" "load connect-redis"
# an application without a Redis
set_server session_store.redis_url "''"
alternate express-pg "load sql" "load connect-pg-simple"
