# shellcheck shell=bash
#
# scripts/matrix.sh
#	./dev matrix: ./dev test in trees of other releases of Debian, by test/tree.sh.
#
#	A tree is kept in .dev/matrix; a lock on TREE.lock, open as file 9, keeps a second run out of it.
#

# The suite of a release's packages.
matrix_suite() {	# NAME
	case $1 in
		12) echo bookworm ;;
		13) echo trixie ;;
		testing) echo testing ;;
		*) return 1 ;;
	esac
}

is_in_matrix() {	# NAME[/SERVER]
	matrix_suite "${1%/*}" >/dev/null && [[ $1 =~ ^[^/]+(/(redis|valkey))?$ ]]
}

# Runs a function of test/tree.sh. It is a command of its own, so that it can be interrupted.
tree() {	# FUNCTION ARG..
	# shellcheck disable=SC2016 # the inner shell has these
	run bash -c 'set -eu; . "$1/test/tree.sh"; "${@:2}"' bash "$repo" "$@"
}

# Make a tree with the packages that tests need, Redis and, where there is one, Valkey.
make_matrix_tree() {	# NAME TREE
	tree tree_make_base "$(matrix_suite "$1")" "$2" &&
		tree tree_enter "$2" apt-get -q update &&
		tree tree_enter "$2" apt-get -q -y --no-install-recommends install ca-certificates procps \
			redis-server &&
		{ ! tree tree_chroot "$2" apt-cache show valkey-server >/dev/null 2>&1 ||
			tree tree_enter "$2" apt-get -q -y --no-install-recommends install valkey-server; } &&
		copy_to_tree "$2" &&
		tree tree_enter "$2" /session_store/dev prepare &&
		touch -- "$2/complete"
}

# Copies the sources, without leftovers of an earlier run.
copy_to_tree() {	# TREE
	rm -rf -- "$1/session_store"
	find "$1/tmp" -mindepth 1 -delete
	copy_sources "$1/session_store"
}

# The name of a tree's distribution, and of its servers, for a row of the table.
describe_tree() {	# TREE SERVER
	local name

	name=$(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' "$1/etc/os-release")
	name="${name/GNU\/Linux /}, $(cat "$1/etc/debian_version")"
	printf '%s | %s | %s %s' "$name" \
		"$(chroot "$1" pg_config --version | sed 's/^PostgreSQL \([^ ]*\).*/\1/')" \
		"${2%-server}" "$(chroot "$1" "$2" --version | sed 's/.* v=\([^ ]*\) .*/\1/')"
}

# The tests in a tree, with one Redis or Valkey. Adds to passed and failed, and a row to the table.
run_in_tree() {	# NAME TREE SERVER STEP..
	local name=$1 tree=$2 server=$3 log=$work/log/matrix-$1-$3.log start=$SECONDS out tee last good=0 bad=1

	shift 3
	say "=== matrix: Debian $name with ${server%-server}: $*"
	copy_to_tree "$tree"
	exec {out}> >(tee -- "$log")
	tee=$!
	# shellcheck disable=SC2048,SC2086 # a step is a list of words
	tree tree_enter "$tree" env "SS_REDIS_SERVER=$server" "DEV_TEST_TIMEOUT=$test_timeout" \
		"DEV_NEMESIS_SECONDS=$nemesis_seconds" "DEV_FUZZ_SECONDS=$fuzz_seconds" "DEV_TAP_JOBS=$tap_jobs" \
		${SESSION_STORE_SEED:+"SESSION_STORE_SEED=$SESSION_STORE_SEED"} /session_store/dev test $* >&"$out" 2>&1 || :
	exec {out}>&-
	wait "$tee" || :
	last=$(tail -n 1 -- "$log")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		good=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
	fi
	pass "$good"
	fail "$bad"
	rows+=("$(describe_tree "$tree" "$server") | $good | $bad | $((SECONDS - start))")
}

# The steps in which a Redis takes part.
steps_with_cache() {
	printf '%s\n' "${steps[@]}" | grep -E '^(tour|tap|nemesis)( |$)'
}

skip_in_matrix() {	# NAME REASON
	rows+=("Debian $1 | skipped: $2 | | | |")
	skip "Debian $1: $2"
}

# One release: makes its tree unless it is there, and runs its tests.
matrix_release() {	# NAME[/SERVER]
	local name=${1%/*} server=${1#"${1%/*}"} tree log cache_steps=()

	server=${server#/} tree=$repo/.dev/matrix/$name log=$work/log/tree-$name.log
	mkdir -p -- "${tree%/*}"
	exec 9>"$tree.lock"
	flock -n 9 || die "another ./dev matrix uses ${tree#"$repo/"}"
	if [ ! -e "$tree/complete" ]; then
		say "dev: installing Debian $name in ${tree#"$repo/"}, once; that takes several minutes"
		make_matrix_tree "$name" "$tree" >"$log" 2>&1 || {
			show_tail 20 "$log"
			skip_in_matrix "$1" "$(tail -n 1 -- "$log")"
			return 0
		}
	fi
	if [ -n "$server" ] && [ ! -x "$tree/usr/bin/$server-server" ]; then
		skip_in_matrix "$1" "it has no $server-server"
	elif [ -n "$server" ]; then
		run_in_tree "$name" "$tree" "$server-server" "${steps[@]}"
	else
		run_in_tree "$name" "$tree" redis-server "${steps[@]}"
		mapfile -t cache_steps < <(steps_with_cache)
		if [ -x "$tree/usr/bin/valkey-server" ] && [ "${#cache_steps[@]}" -gt 0 ]; then
			run_in_tree "$name" "$tree" valkey-server "${cache_steps[@]}"
		fi
	fi
}

remove_from_matrix() {	# NAME..
	local name

	for name in "$@"; do
		is_in_matrix "$name" || die "no such release: $name (see ./dev help)"
		rm -rf -- "$repo/.dev/matrix/${name%/*}"
	done
}

cmd_matrix() {
	local -a names=() steps=() rows=()
	local name

	is_root || die "matrix needs root, for chroot"
	if [ "${1:-}" = --remove ]; then
		shift
		[ $# -gt 0 ] || set -- 12 13 testing
		remove_from_matrix "$@"
		return 0
	fi
	while [ $# -gt 0 ] && is_in_matrix "$1"; do
		names+=("$1")
		shift
	done
	[ "${#names[@]}" -gt 0 ] || names=(12 13 testing)
	read_steps "$@"
	[ $# -gt 0 ] || steps=(build meta unit sim regress isolation nopreload tour tap nemesis fuzz)
	summary_due=yes summary_may_be_empty=yes
	choose_user
	open_work
	if ! tree tree_can_enter; then
		for name in "${names[@]}"; do skip_in_matrix "$name" "root may not make namespaces here"; done
	elif ! tree tree_have_debootstrap >"$work/log/debootstrap.log" 2>&1; then
		show_tail 10 "$work/log/debootstrap.log"
		for name in "${names[@]}"; do skip_in_matrix "$name" "debootstrap cannot be installed"; done
	else
		for name in "${names[@]}"; do matrix_release "$name"; done
	fi
	say "| distribution | PostgreSQL | Redis or Valkey | passed | failed | seconds |"
	say "|---|---|---|---|---|---|"
	printf '| %s |\n' "${rows[@]}"
	summary_complete=yes
}
