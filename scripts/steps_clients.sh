# shellcheck shell=bash
#
# scripts/steps_clients.sh
#	The step clients: what clients/ holds for Node and for Python. Its tests print TAP, and start servers of
#	their own with the programs in SS_BINDIR.
#

# The tests of a name: those called so, or whose names begin so.
client_tests() {	# NAME
	local name=$1

	cd -- "$work/src/clients"
	compgen -G "js/test/$name.test.js" || compgen -G "python/tests/test_${name//-/_}.py" ||
		compgen -G "js/test/$name*.test.js" || compgen -G "python/tests/test_${name//-/_}*.py"
}

# Why nothing can be run by Node here, if so.
lacks_node() {
	if ! have node || ! have npm; then
		say "no Node.js with npm"
	elif ! node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'; then
		say "Node.js $(node --version) is older than 18"
	else
		return 1
	fi
}

# What package-lock.json lists, and nothing else. A cache of packages is used, unless it belongs to another user.
install_npm_packages() {
	local dir=$work/src/clients/js log=$work/log/npm.log cache=()

	! cmp -s "$dir/package-lock.json" "$dir/node_modules/installed" || return 0
	"${as_user[@]}" test -w "${npm_config_cache:-}" || cache=(-u npm_config_cache)
	run_test "$log" env "${cache[@]}" -C "$dir" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier \
		--prefer-offline --fetch-timeout=30000 --fetch-retries=2 --fetch-retry-mintimeout=1000 \
		--fetch-retry-maxtimeout=5000 || return 1
	"${as_user[@]}" cp -- "$dir/package-lock.json" "$dir/node_modules/installed"
}

# A check of all sources, by a program of a package.
check_js() {	# WHAT COMMAND..
	local rc=0 log=$work/log/clients-$2.log

	run_test "$log" env -C "$work/src/clients/js" "PATH=node_modules/.bin:$PATH" "${@:2}" || rc=$?
	[ "$rc" -eq 0 ] || show_tail 40 "$log"
	verdict "$rc" "clients: $1"
}

step_clients() {	# NAME..
	local name names tests=() js=() python=() why

	for name in "$@"; do
		names=$(client_tests "$name") || die "no such test: clients/js/test/$name.test.js, clients/python/tests/test_$name.py"
		mapfile -t -O "${#tests[@]}" tests <<<"$names"
	done
	[ $# -gt 0 ] || mapfile -t tests < <(cd "$work/src/clients" && ls -S js/test/*.test.js python/tests/test_*.py)
	for name in "${tests[@]}"; do
		if [[ $name = js/* ]]; then js+=("$name"); else python+=("$name"); fi
	done
	build_and_install
	if [ "${#js[@]}" -gt 0 ]; then
		if why=$(lacks_node); then
			skip "clients for Node: $why"
			js=()
		elif ! install_npm_packages; then
			if [ -n "${SS_OFFLINE:-}" ]; then
				skip "clients for Node: npm could not install their packages, as SS_OFFLINE allows"
			else
				show_tail 20 "$work/log/npm.log"
				verdict 1 "clients: npm ci (SS_OFFLINE=1 skips what needs the registry)"
			fi
			js=()
		elif [ $# -eq 0 ]; then
			check_js "format (npm run format puts it right)" prettier --check .
			check_js "types" tsc
		fi
	fi
	[ $((${#js[@]} + ${#python[@]})) -eq 0 ] || run_client_tests "${js[@]}" "${python[@]}"
}

run_client_tests() {	# FILE..
	local file log name rc seconds each=$test_timeout

	make_user_dir "$work/clients"
	printf '%s\n' "$@" >"$work/clients.list"
	test_timeout=$((each * $#)) run_test "$work/log/clients.log" env "SS_BINDIR=$bindir" \
		TAP_LOGS="$work/clients" TAP_SECONDS="$each" \
		xargs -a "$work/clients.list" -P "$tap_jobs" -n 1 "$work/src/test/clients/one_test" || :
	for file in $(printf '%s\n' "$@" | sort); do
		name=${file##*/} log=$work/clients/${name%.*}.tap
		read -r rc seconds < <(sed -n '$s/^dev: //p' "$log" 2>/dev/null) || rc=1 seconds='?'
		count_tap "clients/$file" "$log" "$rc" "$seconds"
		[ "$rc" -eq 0 ] || show_client_failure "$log"
	done
	compgen -G "$work/clients/*" >/dev/null || show_tail 40 "$work/log/clients.log"
	rc=0
	wait_until 60 no_client_servers || rc=1
	verdict "$rc" "clients: their tests leave no server behind"
	rm -rf -- "$work/clients"
}

no_client_servers() {
	! compgen -G "$work/tmp/ss-*" >/dev/null
}

# What failed, with its diagnostics, and the end of the log.
show_client_failure() {	# LOG
	awk '/^ *not ok/ {shown = 1} /^ *(ok|# Subtest)/ {shown = 0} shown' "$1" | cut -c1-300 | head -n 120 | sed 's/^/    /'
	show_tail 30 "$1"
}
