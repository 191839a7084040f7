#!/usr/bin/env bash
# Sessions of a Django application: cached_db against session_store.django.
#
# The other side is Django's own engine for who has a Redis: it reads from the cache (django-redis), and writes to its
# table and then to the cache. Ours reads from Redis by the strong read, and saves in Postgres until no reader of Redis
# sees the old session (fence = all), as the next request relies on. Both wait for the disk when they save. One process,
# without HTTP: a request goes through SessionMiddleware to a view that reads the session (django-load) or changes it
# (django-save), and has to see what the last one saved.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

python=/usr/bin/python3	# the interpreter for which the distribution has modules
"$python" -c 'import django, django_redis, psycopg2' 2>/dev/null || skip "no Django"
sessions=$(scale 200 20)
PYTHONPATH=$(readlink -f -- "$bench_folder/../../clients/python")
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1

django() {	# ENGINE WHAT..
	"$python" -W ignore "$bench_folder/clients/django_requests.py" "$1" "$sessions" "${@:2}"
}
requests() {	# ENGINE VIEW
	django "$1" "$2" "$(scale "$SECONDS_EACH" 0.2)"
}

start_cache
set_server session_store.fence "'all'"
ours=session_store.django.sessions
theirs=django.contrib.sessions.backends.cached_db
django "$theirs" migrate
alternate django-load "requests $ours read" "requests $theirs read"
alternate django-save "requests $ours write" "requests $theirs write"
