# shellcheck shell=bash
#
# scripts/server.sh
#	Servers of a work folder, of Postgres and of Redis. Each has a folder of its own in $work, and
#	listens on a socket in it.
#

# Make and start a cluster in $work/NAME, with lines for postgresql.conf; point
# clients at it.
start_cluster() {	# NAME LINE..
	local dir=$work/$1 log=$work/log/$1.log

	shift
	make_user_dir "$dir"
	make_user_dir "$dir/socket"
	chmod 700 "$dir/socket"
	run_as_user "$bindir/initdb" -D "$dir/data" -U "$db_user" --auth=trust --no-instructions \
		-E UTF8 --locale="$LC_ALL" >"$log.initdb" 2>&1 || {
		show_tail 20 "$log.initdb"
		return 1
	}
	"${as_user[@]}" tee -a "$dir/data/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$dir/socket'
port = $db_port
$(printf '%s\n' "$@")
EOF
	start_server "$dir"
}

start_server() {	# FOLDER
	local log=$work/log/${1##*/}.log

	run_as_user "$bindir/pg_ctl" start -s -w -t "$test_timeout" -D "$1/data" -l "$log" || {
		show_tail 30 "$log"
		return 1
	}
	use_cluster "$1"
}

server_runs() {	# FOLDER
	server_is_alive "$(head -n 1 -- "$1/data/postmaster.pid" 2>/dev/null)" "$1/data"
}

use_cluster() {	# FOLDER
	export PGHOST=$1/socket PGPORT=$db_port PGUSER=$db_user
}

# A fresh database with the extension.
create_database() {	# NAME
	run_as_user psql -X -q -v ON_ERROR_STOP=1 -d postgres -c 'SET client_min_messages = warning' \
		-c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1" &&
		run_as_user psql -X -q -v ON_ERROR_STOP=1 -d "$1" -c "CREATE EXTENSION $extension"
}

# Make and start a Redis in $work/NAME, on a socket, with nothing on disk; start it
# again if it is there.
start_redis() {	# NAME
	local dir=$work/$1

	if [ ! -d "$dir" ]; then
		make_user_dir "$dir"
		chmod 700 "$dir"
		"${as_user[@]}" tee "$dir/redis.conf" >/dev/null <<EOF
port 0
unixsocket $dir/redis.sock
dir $dir
pidfile $dir/redis.pid
logfile $dir/redis.log
daemonize yes
save ""
EOF
	fi
	export SS_REDIS_SOCKET=$dir/redis.sock SS_REDIS_CONF=$dir/redis.conf
	redis_runs "$dir" || run_as_user "$redis_server" "$dir/redis.conf" >/dev/null
	wait_until 10 redis_runs "$dir" || {
		show_tail 20 "$dir/redis.log"
		return 1
	}
}

redis_runs() {	# FOLDER
	[ -S "$1/redis.sock" ] && server_is_alive "$(cat "$1/redis.pid" 2>/dev/null)" "$1"
}

# Stops the servers whose data is below a folder, without a message.
stop_servers() {	# FOLDER
	stop_postgres "$1"
	stop_redis "$1"
}

stop_postgres() {	# FOLDER
	local file data pid

	while IFS= read -r -d '' file; do
		data=${file%/postmaster.pid}
		pid=$(head -n 1 -- "$file" 2>/dev/null) || continue
		server_is_alive "$pid" "$data" || continue
		"${as_user[@]}" "$bindir/pg_ctl" stop -s -D "$data" -m fast -t 30 ||
			"${as_user[@]}" "$bindir/pg_ctl" stop -s -D "$data" -m immediate -t 10 ||
			kill -KILL "$pid" || :
	done < <(find "$1" -name postmaster.pid -print0 2>/dev/null) >/dev/null 2>&1
}

stop_redis() {	# FOLDER
	local file pid

	while IFS= read -r -d '' file; do
		pid=$(cat "$file" 2>/dev/null) || continue
		! server_is_alive "$pid" "${file%/*}" || kill -KILL "$pid" || :
	done < <(find "$1" -name redis.pid -print0 2>/dev/null) 2>/dev/null
}

# A file with a process id may outlive the process, and another process may get the id. A server's
# current folder is its data directory.
server_is_alive() {	# PID FOLDER
	[ "$(readlink -f "/proc/$1/cwd" 2>/dev/null)" = "$(readlink -f -- "$2")" ]
}
