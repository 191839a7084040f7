#!/usr/bin/env bash
# Sessions of a Django application: cached_db against a session engine over our functions.
#
# The other side is Django's own engine for who has a Redis: it reads from the cache (django-redis), and writes to its
# table and then to the cache. Ours (django/session_store.py) reads from Redis by the strong read, and saves in
# Postgres until no reader of Redis sees the old session (fence = all), as the next request relies on. Both wait for
# the disk when they save. One process, without HTTP: a request goes through SessionMiddleware to a view that reads
# the session (django-load) or changes it (django-save). Each engine must first do what Django asks of it.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

python=/usr/bin/python3	# the interpreter for which the distribution has modules
"$python" -c 'import django, django_redis, psycopg2' 2>/dev/null || skip "no Django"
sessions=$(scale 200 20)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$bench_folder"/django/*.py "$work"
cd "$work"

django() {	# ENGINE WHAT..
	"$python" -W ignore load.py "$1" "$sessions" "${@:2}"
}
requests() {	# ENGINE VIEW
	django "$1" "$2" "$(scale "$SECONDS_EACH" 0.2)"
}

start_cache
set_server session_store.fence "'all'"
cached_db=django.contrib.sessions.backends.cached_db
django "$cached_db" check
django session_store check
alternate django-load "requests session_store read" "requests $cached_db read"
alternate django-save "requests session_store write" "requests $cached_db write"
