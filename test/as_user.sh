#!/usr/bin/env bash
#
# test/as_user.sh
#	For scripts that may be run by root, as which no server runs: chooses the user that runs servers.
#
# Source it. It sets `user` and the words `as_user` that go before a command; `child` is the command
# that run_as_user waits for, for the caller's trap. The caller has a function `die`.

user='' as_user=() child=''

# Runs a command as the unprivileged user and waits, so that a signal is handled at once.
run_as_user() {
	local rc=0

	"${as_user[@]}" "$@" <&0 &
	child=$!
	wait "$child" || rc=$?
	child=''
	return "$rc"
}

choose_user() {
	[ "$(id -u)" -eq 0 ] || return 0
	for user in postgres nobody; do
		if id -u "$user" >/dev/null 2>&1; then
			as_user=(setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups --)
			return 0
		fi
	done
	die "no unprivileged user to run servers as"
}
