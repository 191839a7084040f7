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

# A check of all sources, by a program of a package.
check_js() {	# WHAT COMMAND..
	local rc=0 log=$work/log/clients-$2.log

	run_test "$log" env -C "$work/src/clients/js" "PATH=node_modules/.bin:$PATH" "${@:2}" || rc=$?
	[ "$rc" -eq 0 ] || show_tail 40 "$log"
	verdict "$rc" "clients: $1"
}

# Has Django's own tests in $work/django: those in the source of the distribution's package, of the version that is
# here. A package of sources is not whole on every mirror; what it was made of is enough.
fetch_django_tests() {
	local dir=$work/django upstream version archive

	[ ! -d "$dir/tests" ] || return 0
	upstream=$(/usr/bin/python3 -c 'import django; print(django.__version__)') && have apt-get || return 1
	rm -rf -- "$dir"
	make_user_dir "$dir"
	prepare_apt_sources || return 1
	while read -r version; do
		(cd -- "$dir" && apt_sources apt-get source --download-only "python-django=$version") || :
		archive=$(compgen -G "$dir/*_$upstream.orig.tar.*" | grep -v '\.asc$' | head -n 1) || continue
		tar -C "$dir" --strip-components=1 -xf "$archive" && return 0
	done < <(apt_sources apt-cache showsrc python-django | sed -n 's/^Version: //p' | sort -rVu |
		grep -F ":$upstream-")
	return 1
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
		elif ! run_test "$work/log/npm.log" "$work/src/test/clients/npm_ci"; then
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
	local file log name rc each=$test_timeout

	if [[ " $* " = *' python/tests/test_django_own.py '* ]] && [ -z "${SS_OFFLINE:-}" ]; then
		if fetch_django_tests >"$work/log/django.log" 2>&1; then
			export SS_DJANGO_TESTS=$work/django/tests
		else
			show_tail 5 "$work/log/django.log"
		fi
	fi
	make_user_dir "$work/clients"
	printf '%s\n' "$@" >"$work/clients.list"
	test_timeout=$((each * $#)) run_test "$work/log/clients.log" env "SS_BINDIR=$bindir" \
		TAP_LOGS="$work/clients" TAP_SECONDS="$each" \
		xargs -a "$work/clients.list" -P "$tap_jobs" -n 1 "$work/src/test/clients/one_test" || :
	for file in $(printf '%s\n' "$@" | sort); do
		name=${file##*/} log=$work/clients/${name%.*}.tap
		count_tap_log "clients/$file" "$log" || show_client_failure "$log"
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
