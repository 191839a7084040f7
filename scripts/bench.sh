# shellcheck shell=bash
#
# scripts/bench.sh
#	./dev bench: the benchmarks of test/bench, one after the other, and their report.
#

# Lines about where the figures come from.
describe_machine() {
	local model memory

	model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
	memory=$(awk '/^MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)
	say "| | |"
	say "|---|---|"
	say "| processors | $(nproc), ${model:-unknown} |"
	say "| memory | $memory GB |"
	say "| system | $(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' /etc/os-release), Linux $(uname -r) |"
	say "| server | $("$pg_config" --version) |"
	say "| Redis | $("$redis_server" --version | sed 's/ sha=.*//') |"
	say "| compiler | $(gcc --version | head -n 1) |"
	! have node || say "| Node.js | $(node --version) |"
	! have pgbouncer || say "| pgbouncer | $(pgbouncer --version | sed -n '1s/^[^0-9]*//p') |"
	! /usr/bin/python3 -c 'import django' 2>/dev/null ||
		say "| Django | $(/usr/bin/python3 -c 'import django; print(django.__version__)') |"
	bench_is_tiny || say "| a flush to disk | $("${as_user[@]}" "$bindir/pg_test_fsync" -s 1 -f "$work/tmp/flush" 2>/dev/null |
		sed -n '/8kB/,/^$/ s/^ *fdatasync *//p' | head -n 1) |"
	say "| revision | $(git -c safe.directory="$repo" -C "$repo" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%F) |"
}

bench_is_tiny() {
	[ "${BENCH_SCALE:-full}" = tiny ]
}

# The server of the benchmarks, whose data is in memory, and the folder of the results.
start_bench_server() {
	local memory settings=()

	if bench_is_tiny; then
		settings=("fsync = off")
	else
		memory=$(awk '/^MemTotal/ {printf "%d", $2 / 1024}' /proc/meminfo)
		settings=("shared_buffers = '$((memory / 3))MB'")
	fi
	start_cluster bench "shared_preload_libraries = '$extension'" "max_connections = 300" \
		"max_wal_size = '16GB'" "checkpoint_timeout = '30min'" "${settings[@]}" ||
		die "the server does not start"
	export BENCH_OUT=$work/results
	make_user_dir "$BENCH_OUT"
	describe_machine >"$BENCH_OUT/machine"
}

# Runs one benchmark there. It begins with an empty database and an empty Redis.
run_bench() {	# NAME [LOG]
	local rc=0 script=(env -C "$work/src" "PGDATABASE=bench" "SS_BINDIR=$bindir" bash "$work/src/test/bench/$1.sh")

	stop_servers "$work/bench-redis"
	rm -rf -- "$work/bench-redis"
	start_redis bench-redis || die "Redis does not start"
	create_database bench
	if [ $# -gt 1 ]; then
		run_test "$2" "${script[@]}" || rc=$?
	else
		run_as_user "${script[@]}" || rc=$?
	fi
	run_as_user psql -Xq -d postgres -c 'ALTER SYSTEM RESET ALL' -c 'SELECT pg_reload_conf()' >/dev/null
	return "$rc"
}

stop_bench_servers() {
	stop_servers "$work/bench"
	stop_servers "$work/bench-redis"
}

# Each comparison of ./dev bench in a small form: checks that it runs and that the report has all of
# them, not how fast it is.
step_bench() {
	local name names rc log skipped

	build_and_install
	export BENCH_SCALE=tiny
	start_bench_server
	mapfile -t names <"$work/src/test/bench/order"
	for name in "${names[@]}"; do
		rc=0 log=$work/log/bench-$name.log
		run_bench "$name" "$log" || rc=$?
		skipped=$(sed -n "s/^$name: //p" "$BENCH_OUT/skipped" 2>/dev/null) || :
		if [ "$rc" -eq 0 ] && [ -n "$skipped" ]; then
			skip "benchmark $name: $skipped"
			continue
		fi
		[ "$rc" -eq 0 ] || show_tail 30 "$log"
		verdict "$rc" "benchmark $name"
	done
	stop_bench_servers
	rc=0 log=$work/log/bench-report.log
	mkdir -- "$work/docs"
	run perl "$work/src/test/bench/report.pl" "$BENCH_OUT" "$work/docs" >"$log" 2>&1 || rc=$?
	[ "$rc" -eq 0 ] || show_tail 10 "$log"
	verdict "$rc" "the report of the benchmarks has every claim"
	check_crashes bench
}

# The benchmark of a name, or those whose names begin with it.
bench_names() {	# NAME
	cd -- "$work/src/test/bench"
	if [ -e "$1.sh" ]; then echo "$1"; else compgen -G "$1_*.sh" | sed 's/\.sh$//'; fi
}

cmd_bench() {
	local name names=() found whole='' rc=0

	if [ "${1:-}" = --tiny ]; then
		export BENCH_SCALE=tiny
		shift
	fi
	need bench
	open_work
	use_copied_postgres
	copy_sources "$work/src"
	for name in "$@"; do
		found=$(bench_names "${name%.sh}") || die "no such benchmark: test/bench/${name%.sh}.sh"
		mapfile -t -O "${#names[@]}" names <<<"$found"
	done
	if [ $# -eq 0 ]; then
		whole=yes
		mapfile -t names <"$work/src/test/bench/order"
	fi
	build_and_install
	start_bench_server
	for name in "${names[@]}"; do
		run_bench "$name" || {
			say "dev: $name failed"
			printf '%s: it failed\n' "$name" >>"$BENCH_OUT/skipped"
			rc=1
		}
	done
	if [ -z "$whole" ]; then
		run perl "$work/src/test/bench/report.pl" "$BENCH_OUT" || rc=1
	elif bench_is_tiny; then
		# a tiny run says nothing about speed, but all comparisons run
		mkdir -- "$work/docs"
		run perl "$work/src/test/bench/report.pl" "$BENCH_OUT" "$work/docs"
	else
		run perl "$work/src/test/bench/report.pl" "$BENCH_OUT" "$repo/docs"
	fi
	return "$rc"
}
