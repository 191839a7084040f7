#!/usr/bin/env bash
#
# run.sh
#	pg_upgrade of a server full of sessions, with a Redis full of copies: 15 to 17, 15 to
#	18 and 17 to 18.
#
# Two versions of the server do not live side by side in one release of Debian. So a tree of
# Debian testing, with the packages of the two stable releases that have the older versions,
# is unpacked below .dev/upgrade and kept for the next run. Packages are unpacked and not
# configured: no service is started, and nothing outside of the tree changes. The mirror and the
# keys are those of this machine.
#
# test/upgrade/run.sh [OLD-NEW..]	as root, for chroot. The last line is "N passed, N failed";
# where the distribution cannot be had, "skipped: REASON" comes before it.
#
# UPGRADE_TREE	another place for the tree. UPGRADE_FRESH=1 makes it again.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
repo=$(cd -- "$here/../.." && pwd -P)
# shellcheck source=test/tree.sh
. "$here/../tree.sh"
tree=${UPGRADE_TREE:-$repo/.dev/upgrade/tree}
log=$tree.log
pairs=("${@:-}")
[ -n "${pairs[0]}" ] || pairs=(15-17 15-18 17-18)
passed=0 failed=0

finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
	exit
}

skip() {
	echo "upgrade: skipped: $*"
	finish
}

# Runs a command in the tree, as root or as the user that servers run as.
inside() {
	tree_chroot "$tree" "$@"
}

inside_as_user() {
	chroot --userspec=nobody:nogroup "$tree" /usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 HOME=/upgrade TMPDIR=/upgrade "$@"
}

# A base of testing, and beside it the two releases that come before.
make_base() {
	local uri suite

	tree_make_base testing "$tree" || return 1
	uri=$(tree_mirror)
	for suite in bookworm trixie; do
		echo "deb $uri $suite main"
	done >"$tree/etc/apt/sources.list.d/older.list"
	printf 'Package: *\nPin: release n=%s\nPin-Priority: %s\n\n' bookworm 50 trixie 60 >"$tree/etc/apt/preferences.d/older"
}

# All packages are unpacked, none is configured. The development files without what they depend on.
make_tree() {
	local version servers=() development=()

	for version in 15 17 18; do
		servers+=("postgresql-$version")
		development+=("postgresql-server-dev-$version")
	done
	make_base || return 1
	inside apt-get -q update || return 1
	inside apt-get -q -y --no-install-recommends --download-only install \
		"${servers[@]}" libpq-dev libhiredis-dev libssl-dev redis-server gcc libc6-dev make perl || return 1
	inside sh -c 'cd /var/cache/apt/archives && apt-get -q download "$@"' sh "${development[@]}" || return 1
	inside sh -c 'for deb in /var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" / || exit 1; done; ldconfig' || return 1
	inside rm -rf /var/cache/apt/archives
	for version in 15 17 18; do
		inside test -e "/usr/lib/postgresql/$version/lib/pgxs/src/makefiles/pgxs.mk" || return 1
	done
	touch -- "$tree/complete"
}

build() {	# VERSION
	local src=$tree/upgrade/src-$1

	mkdir -p -- "$src"
	(cd -- "$repo" && tar -c --exclude .git --exclude .dev --exclude '*.o' --exclude '*.so' --exclude '*.bc' --exclude '*.d' --exclude tmp_check .) | tar -x -C "$src"
	inside make -s -j2 -C "/upgrade/src-$1" "PG_CONFIG=/usr/lib/postgresql/$1/bin/pg_config" with_llvm=no WERROR=1 install
}

# Servers that are left of a run that failed, by their data directories.
stop_all() {
	local data

	for data in "$tree"/upgrade/run-*/old "$tree"/upgrade/run-*/new; do
		[ ! -e "$data/postmaster.pid" ] || kill -INT "$(head -n 1 "$data/postmaster.pid")" 2>/dev/null || :
	done
	for data in "$tree"/upgrade/run-*/redis.pid; do
		[ ! -e "$data" ] || kill "$(cat "$data")" 2>/dev/null || :
	done
}

[ "$(id -u)" -eq 0 ] || skip "root is needed for chroot"
mkdir -p -- "${tree%/*}"
tree_have_debootstrap >"$log" 2>&1 || skip "debootstrap cannot be installed: $(tail -n 1 "$log")"
[ -z "${UPGRADE_FRESH:-}" ] || rm -rf -- "$tree"
if [ ! -e "$tree/complete" ]; then
	echo "upgrade: unpacking Debian with PostgreSQL 15, 17 and 18 (once)"
	make_tree >"$log" 2>&1 || skip "the distribution cannot be had today: $(tail -n 1 "$log")"
fi

rm -rf -- "$tree"/upgrade
mkdir -p -- "$tree/upgrade"
trap stop_all EXIT
versions=$(printf '%s\n' "${pairs[@]}" | tr - '\n' | sort -u)
for version in $versions; do
	if build "$version" >"$tree/upgrade/build-$version.log" 2>&1; then
		passed=$((passed + 1))
		echo "ok: builds for PostgreSQL $version"
	else
		failed=$((failed + 1))
		echo "not ok: builds for PostgreSQL $version"
		tail -n 30 "$tree/upgrade/build-$version.log"
		finish
	fi
done
cp -- "$here/scenario.sh" "$tree/upgrade/"
chown -R nobody:nogroup "$tree/upgrade"
for pair in "${pairs[@]}"; do
	echo "=== upgrade $pair"
	out=$tree/upgrade/$pair.log
	rc=0
	inside_as_user timeout -k 10 300 bash /upgrade/scenario.sh "${pair%-*}" "${pair#*-}" >"$out" 2>&1 || rc=$?
	grep -E '^((not )?ok|skipped)' "$out" || :
	good=$(grep -c '^ok' "$out" || :)
	bad=$(grep -c '^not ok' "$out" || :)
	if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then
		bad=1
		echo "not ok: the scenario ended with $rc"
	fi
	[ "$bad" -eq 0 ] || tail -n 60 "$out"
	passed=$((passed + good))
	failed=$((failed + bad))
	stop_all
done
finish
