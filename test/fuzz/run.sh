#!/usr/bin/env bash
#
# test/fuzz/run.sh [sql|alloc|reply] [--seconds 60] [--seed N] [--clients 8] [--only TEXT]
#		[--variants LIST] [--keep]
#	Against the extension that is installed, on a server and a Redis of its own:
#	sql	hostile statements of a seeded generator
#	alloc	calls and workers in which an allocation of memory fails. By default a sample; with
#		--seconds 0 every call with its first allocation failing, then with its second, until
#		none is left to fail, and workers at each of their call sites, which takes an hour or two;
#		--only the calls or workers (ss_) with a text, in the --variants warm, fresh, statements,
#		savepoint, commit, trapped, twice (see alloc/main.c)
#	reply	answers of a lying Redis, without any server: with libFuzzer where clang has it, else
#		random bytes
#	Ends with status 0 when nothing was found; else the logs are kept.
#
# PG_CONFIG (or SS_BINDIR, a folder with a pg_config) says which Postgres, SS_REDIS_SERVER which Redis
# or Valkey. SS_FUZZ_SANITIZED (set to anything) says that the server runs with a sanitizer, which has a
# malloc of its own: then alloc lets fail only what the server allocates with palloc.
#
# Servers listen on sockets in the work folder alone, and are stopped by their process ids.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
. "${here%/*}/as_user.sh"
seconds=60 seed=$((${SESSION_STORE_SEED:-$(od -An -N4 -tu4 /dev/urandom)} % 1000000 + 1)) clients=8 only='' variants='' keep=''
what=sql work='' redis_pid=''
preload='' libraries=session_store fuzzer='' kind=''

die() {
	printf 'fuzz: %s\n' "$*" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
		--seconds | --seed | --clients | --only | --variants) [ $# -gt 1 ] || die "$1 what?" ;;&
		--seconds) seconds=$2; shift ;;
		--seed) seed=$2; shift ;;
		--clients) clients=$2; shift ;;
		--only) only=$2; shift ;;
		--variants) variants=$2; shift ;;
		--keep) keep=yes ;;
		sql | alloc | reply) what=$1 ;;
		*) sed -n '3,/^set /{/^#/!d;s/^# \{0,1\}//p}' "$here/run.sh"; exit 2 ;;
	esac
	shift
done

on_exit() {
	local rc=$?

	trap - EXIT
	trap '' INT TERM HUP
	set +e
	[ -z "$child" ] || { kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; }
	if [ -n "$work" ]; then
		[ ! -e "$work/data/postmaster.pid" ] ||
			"${as_user[@]}" "$bindir/pg_ctl" stop -s -w -t 60 -m immediate -D "$work/data" >/dev/null 2>&1
		[ -z "$redis_pid" ] || { kill -KILL "$redis_pid" 2>/dev/null; wait "$redis_pid" 2>/dev/null; }
		if [ -n "$keep" ] || [ "$rc" -ne 0 ]; then
			rm -rf -- "$work/data/base"
			echo "fuzz: left behind: $work"
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

# The server is compiled with -fwrapv, and so is this: arithmetic on numbers in replies must not be
# undefined.
build_reply() {	# PG_CONFIG
	local src=${here%/test/fuzz}/src files file clang

	for file in redis/redis redis/tls redis/prefixes redis/wire redis/wire_connect redis/wire_keys protocol/protocol protocol/guard protocol/control protocol/cycle protocol/flush protocol/request protocol/ledger protocol/shares protocol/worklist protocol/standing base/url; do
		files+=("$src/$file.c")
	done
	files+=("$here/reply/reply.c" "$here/reply/server.c")
	flags=(-g -O1 -fwrapv -w -D_GNU_SOURCE -fno-sanitize-recover=all -I"$("$1" --includedir-server)"
		-I"$src" -I"$here/reply" -Wl,--wrap=redisConnectUnixNonBlock)
	libs=("$("$1" --pkglibdir)/libpgport.a" -lhiredis -lresolv)
	[ -e "${libs[0]}" ] || libs[0]=$("$1" --libdir)/libpgport.a
	for clang in clang clang-14; do
		if command -v "$clang" >/dev/null && "$clang" "${flags[@]}" -fsanitize=fuzzer,address,undefined \
			-o "$work/reply" "${files[@]}" "${libs[@]}" 2>"$work/log/clang.log"; then
			fuzzer=libFuzzer
			return
		fi
	done
	echo "fuzz: no libFuzzer here; random bytes instead"
	gcc "${flags[@]}" -fsanitize=address,undefined -o "$work/reply" "${files[@]}" "$here/reply/plain.c" "${libs[@]}"
}

# Exit status of the target; a crash leaves the input in the log folder.
run_reply() {
	local rc=0

	mkdir "$work/corpus"
	[ "${#as_user[@]}" -eq 0 ] || chown -R "$user" "$work"
	cd "$work/log"
	if [ -n "$fuzzer" ]; then
		run_as_user "$work/reply" -seed="$seed" -max_total_time="$seconds" -max_len=4096 -len_control=20 \
			-rss_limit_mb=1500 -timeout=60 -print_final_stats=1 "$work/corpus" "$here/reply/corpus" >"$work/log/reply.log" 2>&1 || rc=$?
		grep -E 'DONE|stat::number_of_executed' "$work/log/reply.log" | sed 's/^/fuzz: reply: /' || :
	else
		run_as_user "$work/reply" "$here"/reply/corpus/* --seed "$seed" --seconds "$seconds" >"$work/log/reply.log" 2>&1 || rc=$?
		sed -n 's/^reply:/fuzz: reply:/p' "$work/log/reply.log"
	fi
	[ "$rc" -eq 0 ] || tail -n 60 "$work/log/reply.log"
	return "$rc"
}

build() {	# PG_CONFIG
	local cc=(gcc -std=gnu11 -O1 -g -Wall -Wextra) libpq

	libpq=(-I"$("$1" --includedir)" -L"$("$1" --libdir)" -Wl,-rpath,"$("$1" --libdir)" -lpq)
	if [ "$what" = reply ]; then
		build_reply "$1"
		return
	fi
	if [ "$what" = sql ]; then
		"${cc[@]}" -o "$work/sql" "$here"/*.c "${libpq[@]}" -lhiredis
		return
	fi
	"${cc[@]}" -o "$work/alloc" "$here"/alloc/main.c "${libpq[@]}" || return
	if [ -n "${SS_FUZZ_SANITIZED:-}" ]; then
		kind=palloc
	else
		"${cc[@]}" -shared -fPIC -o "$work/preload.so" "$here/alloc/preload.c" || return
		preload=$work/preload.so
	fi
	"${cc[@]}" -Wno-unused-parameter -Wno-sign-compare -D_GNU_SOURCE -shared -fPIC \
		-I"$("$1" --includedir-server)" -o "$work/fuzz_fail.so" "$here/alloc/module.c" || return
	libraries=session_store,fuzz_fail
}

prepare() {
	local pg_config=${PG_CONFIG:-} base=${TMPDIR:-/tmp}

	[ -n "$pg_config" ] || [ -z "${SS_BINDIR:-}" ] || pg_config=$SS_BINDIR/pg_config
	pg_config=$(command -v "${pg_config:-pg_config}") || die "no pg_config; set PG_CONFIG"
	bindir=$("$pg_config" --bindir)
	[ "$what" = reply ] || redis=$(command -v "${SS_REDIS_SERVER:-redis-server}" || command -v valkey-server) ||
		die "no redis-server; set SS_REDIS_SERVER"
	choose_user
	# the path of a socket may have 107 bytes
	if [ "${#base}" -gt 60 ] || ! "${as_user[@]}" test -x "$base"; then
		base=/tmp
	fi
	work=$(mktemp -d "$(cd -- "$base" && pwd -P)/fuzz.XXXXXX")
	chmod 755 "$work"
	mkdir "$work/log" "$work/redis"
	build "$pg_config" || die "the test does not build"
	[ "${#as_user[@]}" -eq 0 ] || chown -R "$user" "$work"
}

start_servers() {
	"${as_user[@]}" "$redis" --port 0 --unixsocket "$work/redis/socket" --dir "$work/redis" --save '' \
		--appendonly no --logfile "$work/log/redis.log" &
	redis_pid=$!
	run_as_user "$bindir/initdb" -D "$work/data" -U postgres --auth=trust --no-instructions -E UTF8 \
		--locale=C -N >"$work/log/initdb.log" 2>&1 || die "initdb failed: $(tail -n 5 "$work/log/initdb.log")"
	"${as_user[@]}" tee -a "$work/data/postgresql.conf" >/dev/null <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		port = 5432
		shared_preload_libraries = '$libraries'
		dynamic_library_path = '$work:\$libdir'
		session_store.redis_url = 'unix://$work/redis/socket'
		session_store.ledger_size = 2000
		session_store.touch_slots = 500
		fsync = off
		full_page_writes = off
		max_connections = 60
		max_worker_processes = 16
		max_prepared_transactions = 20
		shared_buffers = 32MB
		deadlock_timeout = 100ms
		autovacuum_naptime = 1s
		log_line_prefix = '%m [%p] %b %e '
		log_min_messages = warning
		log_min_error_statement = panic
		log_autovacuum_min_duration = -1
		log_checkpoints = off
		log_parameter_max_length = 0
	CONF
	run_as_user env LD_PRELOAD="$preload" "$bindir/pg_ctl" start -s -w -t 120 -D "$work/data" \
		-l "$work/log/server.log" >/dev/null || die "the server does not start"
}

main() {
	local rc=0 log name codes passed

	while read -r name; do
		unset "$name"
	done < <(compgen -e | grep -E '^PG[A-Z]' | grep -vx 'PG_CONFIG')
	export LC_ALL=C
	umask 022
	echo "fuzz: $what, seed $seed, $seconds s"
	prepare
	if [ "$what" = reply ]; then
		run_reply || return 1
		return 0
	fi
	start_servers
	log=$work/log/server.log
	if [ "$what" = sql ]; then
		run_as_user "$work/sql" --conninfo "host=$work port=5432" --redis "$work/redis/socket" \
			--logs "$work/log" --seed "$seed" --seconds "$seconds" --clients "$clients" || rc=$?
	else
		run_as_user "$work/alloc" --conninfo "host=$work port=5432" --seed "$seed" \
			--seconds "$seconds" --only "$only" ${kind:+--kind "$kind"} ${variants:+--variants "$variants"} || rc=$?
	fi
	run_as_user "$bindir/pg_ctl" stop -s -w -t 120 -m fast -D "$work/data" || {
		echo "fuzz: the server does not stop"
		rc=1
	}
	if grep -hanE 'PANIC: |TRAP: |was terminated by signal|ERROR: AddressSanitizer|runtime error: ' "$log"; then
		echo "fuzz: a server process crashed"
		# where: of a sanitizer, or of alloc/module.c
		grep -haE '^ +#[0-9]+ |\(\+?[a-zA-Z_0-9]*\+?0x[0-9a-f]+\) *\[' "$log" | head -n 40 || :
		rc=1
	fi
	codes='(XX|58)'
	[ "$what" = alloc ] || codes='(XX|58|53200)'
	# the server's warning of a leak has no code of its own; and failing to begin or end a
	# subtransaction for lack of memory is a warning.  Those of PL/pgSQL are explained in client.c
	passed='skipping "|\] autovacuum |'
	if [ "$what" = alloc ]; then
		passed+='(Start|Abort)SubTransaction while in (START|COMMIT) state|did not find subXID'
	else
		passed+='AbortSubTransaction while in ABORT state|trying to insert a function that already exists'
	fi
	if grep -haE ' 01000 WARNING: ' "$log" |
		grep -vE "$passed"; then
		echo "fuzz: warnings of the server"
		rc=1
	fi
	if grep -hanE "\] session_store [a-z]+ $codes" "$log"; then
		echo "fuzz: internal errors of a worker"
		rc=1
	fi
	echo "fuzz: what workers reported:"
	sed -nE 's/^.*\] (session_store [a-z]+) ([0-9A-Z]{5}) ((WARNING|ERROR|FATAL): .*)$/\1 \2 \3/p' "$log" |
		sed 's/[0-9]\{4,\}/N/g' | sort | uniq -c | sort -rn | head -n 12 || :
	return "$rc"
}

main
