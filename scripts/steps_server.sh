# shellcheck shell=bash
#
# scripts/steps_server.sh
#	Steps on real servers: regress, isolation, nopreload, tour, tap, nemesis and fuzz.
#

# The cluster of regress and isolation, with the extension preloaded. It
# need not survive a power cut.
preloaded_cluster() {
	build_and_install
	if [ -e "$work/preload/ready" ]; then
		use_cluster "$work/preload"
		server_runs "$work/preload" || start_server "$work/preload" || die "the server does not start"
		return 0
	fi
	rm -rf -- "$work/preload"
	start_cluster preload "shared_preload_libraries = '$extension'" 'fsync = off' \
		'max_prepared_transactions = 10' 'wal_level = logical' 'max_worker_processes = 16' ||
		die "no server with the extension preloaded"
	: >"$work/preload/ready"
}

# One `make installcheck`, narrowed by variables.
installcheck() {	# LOG DIFFS CLUSTER VARIABLE..
	local log=$work/log/$1.log diffs=$2 cluster=$3 rc=0

	shift 3
	run_test "$log" make -C "$work/src" "${make_args[@]}" installcheck TAP_TESTS= "$@" || rc=$?
	count_regress "$log" "$rc"
	if [ "$rc" -ne 0 ]; then
		if [ -s "$work/src/$diffs" ]; then
			say "--- $diffs"
			head -n 400 -- "$work/src/$diffs"
		fi
		show_tail 40 "$work/log/$cluster.log"
	fi
	check_crashes "$cluster"
}

step_regress() {	# NAME..
	if [ $# -eq 0 ] && ! compgen -G "$work/src/test/sql/*.sql" >/dev/null; then
		skip "regress: no test/sql/*.sql"
		return 0
	fi
	preloaded_cluster
	installcheck regress regression.diffs preload ISOLATION= ${1:+REGRESS="$*"}
}

step_isolation() {	# NAME..
	if [ $# -eq 0 ] && ! compgen -G "$work/src/test/specs/*.spec" >/dev/null; then
		skip "isolation: no test/specs/*.spec"
		return 0
	fi
	preloaded_cluster
	installcheck isolation output_iso/regression.diffs preload REGRESS= ${1:+ISOLATION="$*"}
	# by direct access and by statements
	export PGOPTIONS='-c session_store.direct_rows=off'
	installcheck isolation output_iso/regression.diffs preload REGRESS= ${1:+ISOLATION="$*"}
	unset PGOPTIONS
}

# The guarantees that hold without shared_preload_libraries as well.
step_nopreload() {
	local list=$work/src/test/no_preload.list names

	if [ ! -e "$list" ]; then
		skip "nopreload: no test/no_preload.list"
		return 0
	fi
	names=$(sed 's/#.*//' "$list" | xargs)
	build_and_install
	# .. by both ways, too
	[ -d "$work/plain" ] || start_cluster plain 'fsync = off' 'max_prepared_transactions = 10' \
		"session_store.direct_rows = off" ||
		die "no server without the extension preloaded"
	use_cluster "$work/plain"
	installcheck nopreload regression.diffs plain ISOLATION= REGRESS="$names"
}

step_tour() {
	local rc=0 log=$work/log/tour-test.log

	build_and_install
	start_redis tour-redis && start_cluster tour "shared_preload_libraries = '$extension'" \
		"session_store.redis_url = 'unix://$work/tour-redis/redis.sock'" 'fsync = off' ||
		die "no server with a cache"
	if create_database tour >"$log" 2>&1; then
		run_test "$log" psql -X -d tour <"$work/src/test/tour.sql" || rc=$?
	else
		rc=1
	fi
	[ "$rc" -ne 0 ] || PGDATABASE=tour run_test "$log" bash "$work/src/test/tour.sh" || rc=$?
	stop_servers "$work/tour"
	stop_servers "$work/tour-redis"
	[ "$rc" -eq 0 ] || show_tail 40 "$log"
	verdict "$rc" "the tour of ./dev up"
}

# The TAP files of a name: that file, or those whose names begin so.
tap_files() {	# NAME
	local name=${1##*/}

	name=${name%.pl}
	cd -- "$work/src"
	if [ -e "test/t/$name.pl" ]; then
		echo "test/t/$name.pl"
	else
		compgen -G "test/t/$name*.pl"
	fi
}

# TAP tests make clusters of their own. PGXS knows which environment each version needs, so it runs
# prove, which runs several files at a time: most of them wait most of the time. The longest files
# begin first.
step_tap() {	# FILE..
	local file files=() log name names each=$test_timeout

	for file in "$@"; do
		names=$(tap_files "$file") || die "no such test: test/t/$file"
		mapfile -t -O "${#files[@]}" files <<<"$names"
	done
	if [ $# -eq 0 ]; then
		mapfile -t files < <(cd "$work/src" && ls -S test/t/*.pl)
	fi
	if [ "${#files[@]}" -eq 0 ]; then
		skip "tap: no test/t/*.pl"
		return 0
	fi
	build_and_install
	make_user_dir "$work/tap"
	# a server may take long to start on a busy machine: pg_ctl would give up after a minute
	test_timeout=$((each * ${#files[@]})) run_test "$work/log/prove.log" env PGCTLTIMEOUT="$each" \
		HARNESS_PERL="$work/src/test/perl/one_test" TAP_LOGS="$work/tap" TAP_SECONDS="$each" \
		make -C "$work/src" "${make_args[@]}" installcheck TAP_TESTS=1 \
		REGRESS= ISOLATION= PROVE_TESTS="${files[*]}" PROVE_FLAGS="-j$tap_jobs" || :
	if grep -q 'TAP tests not enabled' "$work/log/prove.log"; then
		verdict 1 "this Postgres was built without TAP tests"
		return 0
	fi
	for file in $(printf '%s\n' "${files[@]}" | sort); do
		name=${file##*/} name=${name%.pl} log=$work/tap/$name.tap
		count_tap_log "$file" "$log" || show_tap_failure "$name" "$log"
	done
	compgen -G "$work/tap/*" >/dev/null || show_tail 40 "$work/log/prove.log"
	# a test that was ended may leave its servers behind
	stop_servers "$work/src/tmp_check"
	rm -rf -- "$work/tap"
}

# Faults on real servers.
step_nemesis() {
	local rc=0 log=$work/log/nemesis.log

	build_and_install
	SS_BINDIR=$bindir run_test "$log" bash "$work/src/test/nemesis/run.sh" --seconds "$nemesis_seconds" || rc=$?
	tail -n 12 "$log" | sed 's/^/        /'
	[ "$rc" -eq 0 ] || show_tail 80 "$log"
	verdict "$rc" "$nemesis_seconds seconds of faults on a real Postgres and a real Redis, and no violation"
}

# Statements from a seed, most of them hostile; allocations of memory that fail; a Redis that sends
# wrong replies.
step_fuzz() {
	build_and_install
	fuzz sql "$fuzz_seconds" "hostile SQL: no crash, no hang, no internal error, no data of others"
	fuzz alloc "$fuzz_seconds" "failing allocations: calls have all of their effect or none, workers continue"
	# seen to crash: a subtransaction that could not be begun or kept
	fuzz alloc 0 "every allocation of session_fork fails once" --only "'forked'" --variants warm,trapped
	fuzz reply 10 "wrong replies of Redis: none crashes the pusher or makes a lease too long"
}

fuzz() {	# WHAT SECONDS CLAIM [OPTION..]
	local rc=0 log=$work/log/fuzz-$1-$2.log claim="$2 seconds of $3"

	[ "$2" != 0 ] || claim=$3
	SS_BINDIR=$bindir run_test "$log" bash "$work/src/test/fuzz/run.sh" "$1" --seconds "$2" "${@:4}" || rc=$?
	grep -E '^(fuzz|alloc):' "$log" | sed 's/^/        /'
	[ "$rc" -eq 0 ] || show_tail 80 "$log"
	verdict "$rc" "$claim"
}
