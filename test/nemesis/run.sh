#!/usr/bin/env bash
#
# test/nemesis/run.sh [--seconds 60] [--seed N] [--faults LIST] [--scenes LIST]
#		[--failover] [--build] [--source FOLDER] [--knock-out N] [--lease MS] [--ledger N] [--keep]
#	A real Postgres and a real Redis, clients, faults from a seed, and a checker of what
#	readers of Redis were promised. Ends with status 0 when nothing was found.
#
# PG_CONFIG (or SS_BINDIR, a folder with a pg_config) says which Postgres, SS_REDIS_SERVER
# which Redis or Valkey. What is tested is the extension that is installed there, or with
# --build this checkout, built and installed privately: Postgres finds its own files
# from where its program lies, so a folder of links with a copy of the programs in it is an
# installation of its own, and nothing outside of it is touched.
#
#	--source FOLDER	build another checkout than this: to see that a defect is found where it still is
#	--knock-out N	build without rule N of src/protocol/rules.h, with faults that suit it; then
#			status 0 means that a violation was found
#	--failover	a standby is promoted half way, with the old primary alive
#	--faults LIST	names with commas between, all or none; a wrong name shows the list
#	--scenes LIST	the same for what clients do besides changing documents
#	--keep		leave the work folder behind
#
# Servers listen in the work folder alone, but for the proxy between pusher and Redis, which has
# a port of 127.0.0.1 that was free. Whatever is started is stopped by its process id.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
. "${here%/*}/as_user.sh"
repo=${here%/test/nemesis}
extension=session_store
seconds=60 seed='' faults='' scenes='' build='' knock_out='' lease='' ledger='' keep='' failover=''
work=''

die() {
	printf 'nemesis: %s\n' "$*" >&2
	exit 2
}

usage() {
	sed -n '3,/^set /{/^#/!d;s/^# \{0,1\}//p}' "$here/run.sh"
	exit "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
		--seconds | --seed | --faults | --scenes | --lease | --ledger | --source)
			[ $# -gt 1 ] || usage 2 ;;&
		--seconds) seconds=$2; shift ;;
		--seed) seed=$2; shift ;;
		--faults) faults=$2; shift ;;
		--scenes) scenes=$2; shift ;;
		--source) repo=$(cd -- "$2" && pwd -P) build=yes; shift ;;
		--lease) lease=$2; shift ;;
		--ledger) ledger=$2; shift ;;
		--knock-out) [ $# -gt 1 ] || usage 2; knock_out=$2 build=yes; shift ;;
		--build) build=yes ;;
		--failover) failover=yes ;;
		--keep) keep=yes ;;
		-h | --help) usage 0 ;;
		*) usage 2 ;;
	esac
	shift
done
[ -n "$seed" ] || seed=$((${SESSION_STORE_SEED:-$(od -An -N4 -tu4 /dev/urandom)} % 1000000 + 1))

# Is this the process that was started in the folder, and not another one with its id?
lives_in() {	# PID FOLDER
	[ -n "$1" ] && [ "$(readlink -f "/proc/$1/cwd" 2>/dev/null)" = "$(readlink -f -- "$2")" ]
}

# Kills a process if it still runs in the folder, and waits until it has ended.
end_process() {	# PID FOLDER
	local tries=100

	lives_in "$1" "$2" || return 0
	kill -CONT "$1" 2>/dev/null || :
	kill "-$3" "$1" 2>/dev/null || :
	while [ $tries -gt 0 ] && lives_in "$1" "$2"; do
		tries=$((tries - 1))
		sleep 0.05
	done
	kill -KILL "$1" 2>/dev/null || :
}

on_exit() {
	local rc=$? data pid

	trap - EXIT
	trap '' INT TERM HUP
	set +e
	if [ -n "$child" ]; then
		kill -KILL "$child" 2>/dev/null
		wait "$child" 2>/dev/null
	fi
	if [ -n "$work" ]; then
		for data in "$work/node0" "$work/node1"; do
			[ -d "$data" ] || continue
			# processes that were stopped by a fault, and those whose postmaster has ended
			for pid in /proc/[0-9]*; do
				lives_in "${pid#/proc/}" "$data" && kill -CONT "${pid#/proc/}" 2>/dev/null
			done
			pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
			[ -z "$pid" ] || end_process "$pid" "$data" QUIT
			for pid in /proc/[0-9]*; do
				lives_in "${pid#/proc/}" "$data" && kill -KILL "${pid#/proc/}" 2>/dev/null
			done
		done
		pid=$(head -n 1 "$work/redis/pid" 2>/dev/null)
		[ -z "$pid" ] || end_process "$pid" "$work/redis" KILL
		if [ -n "$keep" ]; then
			echo "nemesis: left behind: $work"
		else
			rm -rf -- "$work"
		fi
	fi
	exit "$rc"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Makes an installation of Postgres of which everything but our extension is links.
private_installation() {	# PREFIX
	local prefix=$1 common dir file program

	# the common beginning of bindir, pkglibdir and sharedir is the prefix, and the rest must be the
	# same
	common=$bindir/
	for dir in "$pkglibdir" "$sharedir"; do
		while [[ $dir/ != "$common"* ]]; do
			common=${common%/}
			common=${common%/*}/
		done
	done
	mkdir -p "$prefix/${bindir#"$common"}" "$prefix/${pkglibdir#"$common"}" \
		"$prefix/${sharedir#"$common"}/extension"
	for program in postgres initdb pg_ctl pg_basebackup; do
		cp -- "$bindir/$program" "$prefix/${bindir#"$common"}/"
	done
	for file in "$pkglibdir"/*; do
		[ "${file##*/}" = "$extension.so" ] || ln -s "$file" "$prefix/${pkglibdir#"$common"}/"
	done
	for file in "$sharedir"/*; do
		[ "${file##*/}" = extension ] || ln -s "$file" "$prefix/${sharedir#"$common"}/"
	done
	for file in "$sharedir"/extension/*; do
		case ${file##*/} in
			"$extension"[.-]*) ;;
			*) ln -s "$file" "$prefix/${sharedir#"$common"}/extension/" ;;
		esac
	done
	cp -- "$work/src/$extension.so" "$prefix/${pkglibdir#"$common"}/"
	cp -- "$work/src/$extension.control" "$work/src/$extension"--*.sql \
		"$prefix/${sharedir#"$common"}/extension/"
	bindir=$prefix/${bindir#"$common"}
}

build_extension() {
	mkdir "$work/src"
	(cd "$repo" && tar -cf - --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude='*.d' Makefile \
		"$extension.control" sql src) | tar -C "$work/src" -xf -
	make -s -C "$work/src" -j2 PG_CONFIG="$pg_config" with_llvm=no \
		${knock_out:+COPT="-DSS_KNOCK_OUT=$knock_out"} >"$work/log/build.log" 2>&1 || {
		tail -n 30 "$work/log/build.log" >&2
		die "the extension does not build"
	}
}

# The faults that best show the need for a rule, and a lease that gives them time.
suit_rule() {
	case $knock_out in
		1 | 7) : "${faults:=net-delay,redis-stop}" "${lease:=1000}" ;;
		2) : "${faults:=net-delay,pusher-stop}" "${lease:=2000}" ;;
		3) : "${faults:=net-hold,redis-stop,pusher-stop}" "${lease:=500}" ;;
		4) : "${faults:=pusher-stop,net-refuse}" "${lease:=200}" ;;
		5) : "${faults:=redis-rollback}" "${lease:=500}" "${ledger:=4000}" ;;
		6) : "${faults:=redis-old}" "${lease:=500}" "${ledger:=4000}" ;;
		8) : "${faults:=pusher-stop}" "${lease:=500}" ;;
		9) : "${faults:=pusher-kill,server-kill}" "${lease:=5000}" ;;
		10) : "${faults:=net-refuse,redis-stop,net-drop}" "${lease:=300}" "${ledger:=4000}" ;;
		11) : "${faults:=none}" "${lease:=1000}" "${ledger:=1000}" ;;
		12) : "${faults:=net-refuse,redis-clock}" "${lease:=500}" ;;
		13) : "${faults:=none}" "${lease:=500}" ;;
		*) die "rules are 1 to 13" ;;
	esac
}

prepare() {
	local pg_config=${PG_CONFIG:-} base=${TMPDIR:-/tmp}

	[ -n "$pg_config" ] || [ -z "${SS_BINDIR:-}" ] || pg_config=$SS_BINDIR/pg_config
	pg_config=$(command -v "${pg_config:-pg_config}") || die "no pg_config; set PG_CONFIG"
	bindir=$("$pg_config" --bindir)
	pkglibdir=$("$pg_config" --pkglibdir)
	sharedir=$("$pg_config" --sharedir)
	redis=$(command -v "${SS_REDIS_SERVER:-redis-server}" || command -v valkey-server) ||
		die "no redis-server; set SS_REDIS_SERVER"
	choose_user
	# the path of a socket may have 107 bytes
	if [ "${#base}" -gt 60 ] || ! "${as_user[@]}" test -x "$base"; then
		base=/tmp
	fi
	base=$(cd -- "$base" && pwd -P)
	work=$(mktemp -d "${base%/}/nemesis.XXXXXX")
	chmod 755 "$work"
	mkdir "$work/log" "$work/redis"
	if [ -n "$build" ]; then
		build_extension
		private_installation "$work/private"
	elif [ ! -e "$sharedir/extension/$extension.control" ]; then
		die "the extension is not installed for $bindir; --build tests this checkout"
	fi
	gcc -std=gnu11 -O2 -g -Wall -Wextra -I"$("$pg_config" --includedir)" -o "$work/nemesis" \
		"$here"/{main,plan,failover,history,seen,client,calls,hits,turns,turn_log,tail,fork,special,policy,reader,proxy,server}.c \
		"$here"/{fault,strike_redis,strike_sql,strike_url}.c \
		-L"$("$pg_config" --libdir)" -lpq -lhiredis -lpthread || die "the test does not build"
	gcc -std=gnu11 -O2 -Wall -Wextra -shared -fPIC -o "$work/clock.so" "$here/clock.c"
	[ "${#as_user[@]}" -eq 0 ] || chown -R --no-dereference "$user" "$work"
}

make_cluster() {
	run_as_user "$bindir/initdb" -D "$work/node0" -U postgres --auth=trust --no-instructions \
		-E UTF8 --locale=C -N >"$work/log/initdb.log" 2>&1 || {
		tail -n 20 "$work/log/initdb.log" >&2
		die "initdb failed"
	}
	"${as_user[@]}" tee -a "$work/node0/postgresql.conf" >/dev/null <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		port = 5432
		shared_preload_libraries = '$extension'
		fsync = off
		full_page_writes = off
		wal_level = replica
		# replay does not wait for queries on the standby
		max_standby_streaming_delay = 0
		max_connections = 60
		max_worker_processes = 16
		shared_buffers = 32MB
		log_line_prefix = '%m [%p] %b '
		# rows are not purged, so that versions continue: they are the order of the history
		session_store.purge_interval = 0
		session_store.ledger_size = $ledger
		session_store.takeover = $([ -n "$failover" ] && echo promoted || echo silent)
	CONF
}

# The program ends by an alarm, SECONDS + 180 after its start, if something hangs. Just before that this writes down
# what each server process is waiting for.
watch_for_hang() {
	sleep $((seconds + 170))
	for port in 5432 5433; do
		timeout 5 "$bindir/psql" -X -h "$work" -p "$port" -U postgres -d postgres -c "SELECT pid, datname, backend_type, state,
			wait_event_type, wait_event, pg_blocking_pids(pid) AS blocked_by, clock_timestamp() - query_start AS since, left(query, 200) AS query
			FROM pg_stat_activity WHERE pid <> pg_backend_pid()" 2>&1 || :
	done >"$work/log/hang.log"
}

main() {
	local rc=0 watch

	while read -r name; do
		unset "$name"
	done < <(compgen -e | grep -E '^PG[A-Z]' | grep -vx 'PG_CONFIG')
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export LC_ALL=C
	umask 022
	[ -z "$knock_out" ] || suit_rule
	# one that is often too small, or one that hardly ever is
	[ -n "$ledger" ] || ledger=$((seed % 2 == 0 ? 1000 : 4000))
	echo "nemesis: seed $seed, $seconds s${knock_out:+, rule $knock_out left out}${failover:+, with a failover}"
	prepare
	make_cluster
	watch_for_hang &
	watch=$!
	run_as_user "$work/nemesis" --work "$work" --bindir "$bindir" --data "$work/node0" \
		${failover:+--standby "$work/node1"} --redis "$redis" --seconds "$seconds" --seed "$seed" \
		--faults "${faults:-all}" ${scenes:+--scenes "$scenes"} ${lease:+--lease "$lease"} || rc=$?
	pkill -P "$watch" 2>/dev/null || :
	kill "$watch" 2>/dev/null || :
	if grep -hnE 'PANIC: |TRAP: |terminated by signal (6|11)' "$work"/log/node*.log; then
		echo "nemesis: a server crashed by itself"
		rc=1
	fi
	if [ "$rc" -gt 1 ]; then
		tail -n 15 "$work"/log/node*.log "$work/log/redis.log" >&2 || :
		[ ! -s "$work/log/hang.log" ] || cut -c 1-300 "$work/log/hang.log" >&2
	fi
	if [ -n "$knock_out" ]; then
		case $rc in
			0) echo "nemesis: rule $knock_out was NOT missed" && rc=1 ;;
			1) echo "nemesis: rule $knock_out was missed" && rc=0 ;;
		esac
	fi
	return "$rc"
}

main
