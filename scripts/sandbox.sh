# shellcheck shell=bash
#
# scripts/sandbox.sh
#	./dev up, psql and down: a server to look at the extension. Its work folder is kept
#	until down; .dev/state says where it is.
#

# What `up` made is remembered as lines of NAME=VALUE.
recall() {	# NAME
	[ -e "$state" ] || return 0
	sed -n "s/^$1=//p" "$state"
}

remember() {
	mkdir -p -- "${state%/*}"
	printf '%s\n' "work=$work" "pg_config=$pg_config" >"$state.new"
	mv -- "$state.new" "$state"
}

cmd_up() {
	[ $# -eq 0 ] || die "up takes no arguments"
	# a server that is up stays with its Postgres
	[ -n "${PG_CONFIG:-}" ] || PG_CONFIG=$(recall pg_config)
	work=$(recall work)
	need run
	if [ -n "$work" ] && [ "$(recall pg_config)" != "$pg_config" ]; then
		die "a server for $(recall pg_config) is up; ./dev down first"
	fi
	if [ -n "$work" ] && [ -d "$work" ]; then
		use_work
	else
		open_work
		remember
		work_is_ours=''
	fi
	use_copied_postgres
	copy_sources "$work/src"
	say "dev: building"
	build_and_install
	start_for_up
	take_tour
	cat <<EOF

The server is up, with the extension in its database "demo". Continue with
    psql -h $PGHOST -p $PGPORT -U $PGUSER demo
or, the same, ./dev psql, and
    ${redis_server%-server}-cli -s $SS_REDIS_SOCKET
After a change: ./dev up. To stop and remove it: ./dev down
EOF
}

start_for_up() {
	say "dev: starting a server and a Redis in $work"
	start_redis redis || die "Redis does not start"
	if [ -e "$work/main/ready" ]; then
		stop_servers "$work/main"
		start_server "$work/main" || die "the server does not start"
	else
		rm -rf -- "$work/main"
		start_cluster main "shared_preload_libraries = '$extension'" \
			"session_store.redis_url = 'unix://$work/redis/redis.sock'" ||
			die "the server does not start"
		: >"$work/main/ready"
	fi
	create_demo || die "the extension cannot be created"
}

# The database is kept by another `up`, unless the extension's SQL has changed.
create_demo() {
	local made_of=$work/main/demo.sql

	if cmp -s "$made_of" "$work/src/sql/$extension.sql"; then
		return 0
	elif [ -e "$made_of" ]; then
		say "dev: the SQL of the extension has changed: the database demo is made again"
	fi
	create_database demo && cp -- "$work/src/sql/$extension.sql" "$made_of"
}

take_tour() {
	run_as_user psql -X -d demo <"$work/src/test/tour.sql" 2>&1 || die "the tour had an unexpected result"
	PGDATABASE=demo run_as_user bash "$work/src/test/tour.sh" 2>&1 || die "the tour had an unexpected result"
}

cmd_psql() {
	local server

	work=$(recall work)
	if [ -z "$work" ] || [ ! -d "$work/main" ]; then
		die "no server is up; ./dev up starts one"
	fi
	use_cluster "$work/main"
	PGDATABASE=demo exec "$(dirname -- "$(copied_pg_config)")/psql" "$@"
}

cmd_down() {
	[ $# -eq 0 ] || die "down takes no arguments"
	work=$(recall work)
	if [ -z "$work" ]; then
		say "dev: nothing is up"
	elif [ ! -d "$work" ]; then
		say "dev: $work is gone already"
	else
		choose_user
		pg_config=$(copied_pg_config)
		[ -z "$pg_config" ] || read_pg_config
		remove_work
		say "dev: the server is stopped, its folder removed"
	fi
	rm -f -- "$state"
	# the servers of ./dev check are kept
	rmdir -- "${state%/*}" 2>/dev/null || :
}
