# shellcheck shell=bash
#
# scripts/common.sh
#	What every command uses: messages, running commands, waiting, and the end of a run.
#
#	A command that may take long runs by run(), so that a signal to ./dev is acted upon at once and
#	reaches all that the command started. A function that starts something leaves what on_exit
#	needs to end it in one of the variables below.
#

extension=session_store
db_user=postgres
db_port=5432			# the name of a socket, no network port
test_timeout=${DEV_TEST_TIMEOUT:-900}	# seconds that one test command may take

state=$repo/.dev/state
nemesis_seconds=${DEV_NEMESIS_SECONDS:-60}
fuzz_seconds=${DEV_FUZZ_SECONDS:-20}
tap_jobs=${DEV_TAP_JOBS:-$((2 * $(nproc)))}	# TAP files at a time

# Set as we go.
pg_config='' bindir='' pkglibdir='' sharedir='' pgxs=''	# see read_pg_config
make_args=()			# likewise
built=''				# see build_with_gcc
user='' as_user=()		# see choose_user
work=''					# see open_work
work_is_ours=''			# remove it at exit
child=''				# the command that run() waits for; leads its own session
apt_log=''				# see install_packages
dropin='' dropin_folders=()	# see hold_main_cluster
policy_rc_d=/usr/sbin/policy-rc.d services_held=''	# see hold_services
redis_server=''			# see find_redis
passed=0 failed=0
summary_due='' summary_complete='' summary_may_be_empty=''	# see on_exit

say() {
	printf '%s\n' "$*"
}

die() {
	printf 'dev: %s\n' "$*" >&2
	exit 1
}

have() {
	command -v "$1" >/dev/null 2>&1
}

is_root() {
	[ "$(id -u)" -eq 0 ]
}

# Run a command and wait for it. It leads a session of its own, so that a signal
# to this script is acted upon at once and reaches all that the command started.
run() {
	local rc=0

	setsid "$@" <&0 3>&- 9>&- &
	child=$!
	wait "$child" || rc=$?
	child=''
	return "$rc"
}

# The same as the unprivileged user.
run_as_user() {
	run "${as_user[@]}" "$@"
}

# The same with a limit of time, into a log.
run_test() {	# LOG COMMAND..
	local log=$1 rc=0

	shift
	run_as_user timeout -k 10 "$test_timeout" "$@" >"$log" 2>&1 || rc=$?
	case $rc in
		124 | 137) say "dev: stopped after $test_timeout seconds" >>"$log" ;;
	esac
	return "$rc"
}

# Wait up to SECONDS until a command succeeds.
wait_until() {	# SECONDS COMMAND..
	local deadline=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

group_is_gone() {
	! kill -0 -- "-$1" 2>/dev/null
}

# Shows the last lines of a file, indented, to report what went wrong.
show_tail() {	# LINES FILE
	[ -s "$2" ] || return 0
	say "--- ${2#"$work/"}, last lines"
	tail -n "$1" -- "$2" | sed 's/^/    /'
}

# The caller's environment must not affect servers, clients or make.
clean_environment() {
	local name

	while read -r name; do
		unset "$name"
	done < <(compgen -e | grep -E '^PG[A-Z]' | grep -vx 'PG_CONFIG')
	unset MAKEFLAGS MFLAGS MAKELEVEL CDPATH LANG LANGUAGE "${!LC_@}"
	unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
	export LC_ALL=C
	if locale -a 2>/dev/null | grep -ix 'C\.utf-\?8' >/dev/null; then
		LC_ALL=C.UTF-8
	fi
	export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
	[ -d "${TMPDIR:-/tmp}" ] || unset TMPDIR
	umask 022
	# a closed standard stream would give its number to the next file opened
	{ : >&1; } 2>/dev/null || exec >/dev/null
	{ : >&2; } 2>/dev/null || exec 2>&1
	# a signal may come while a function writes to a log: on_exit needs our own stderr
	exec 3>&1
}

# In any case, leaves nothing behind, and ends a test run with its count.
on_exit() {
	local rc=$?

	trap '' INT TERM HUP
	trap - EXIT
	set +e
	exec >&3
	if [ -n "$child" ]; then
		kill -TERM -- "-$child" 2>/dev/null
		wait_until 10 group_is_gone "$child" || kill -KILL -- "-$child" 2>/dev/null
	fi
	release_services
	release_main_cluster
	[ -z "$apt_log" ] || rm -f -- "$apt_log"
	[ -z "$work_is_ours" ] || remove_work
	if [ -n "$summary_due" ]; then
		[ -n "$summary_complete" ] || failed=$((failed + 1))
		if [ "$rc" -eq 0 ] && { [ "$failed" -gt 0 ] || [ "$passed$summary_may_be_empty" = 0 ]; }; then
			rc=1
		fi
		say "$passed passed, $failed failed"
	fi
	exit "$rc"
}
