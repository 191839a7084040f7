# shellcheck shell=bash
#
# scripts/try.sh
#	./dev try: a test in seconds. The work folder, with its objects and its server, is
#	kept from one run to the next.
#
#	Two runs in the same checkout wait for each other, by a lock on the folder.
#

# The work folder of try is kept: .dev/try or, if that cannot hold one, the folder that this links to.
open_try() {
	local kept=$repo/.dev/try log

	mkdir -p -- "$repo/.dev"
	if [ -L "$kept" ] && [ ! -d "$kept" ]; then
		rm -f -- "$kept"
	fi
	if [ -e "$kept" ]; then
		work=$(readlink -f -- "$kept")
	elif can_hold_work "$repo/.dev"; then
		work=$kept
		mkdir -- "$work"
	else
		open_work
		work_is_ours=''
		ln -s -- "$work" "$kept"
	fi
	[ -O "$work" ] || die "$work is another user's, who can run ./dev try --remove"
	lock_try
	[ -d "$work/log" ] || furnish_work
	# empty the logs, which are about earlier runs; a server that runs has them open
	for log in "$work/log"/*; do
		[ ! -f "$log" ] || : >"$log"
	done
	# the files belong to it already
	choose_user
	use_work
}

# One at a time, by a lock on the folder, open as file 9.
lock_try() {
	exec 9<"$work"
	flock -n 9 && return 0
	say "dev: waiting for another ./dev try to end"
	setsid flock 9 &
	child=$!
	wait "$child"
	child=''
}

remove_try() {
	local kept=$repo/.dev/try

	if [ -e "$kept" ]; then
		work=$(readlink -f -- "$kept")
		lock_try
		choose_user
		pg_config=$(copied_pg_config)
		[ -z "$pg_config" ] || read_pg_config
		remove_work
	fi
	rm -f -- "$kept"
	rmdir -- "$repo/.dev" 2>/dev/null || :
}

cmd_try() {
	local -a steps=() purposes=()
	local step

	if [ "${1:-}" = --remove ]; then
		remove_try
		return 0
	fi
	read_steps "$@"
	[ "${#steps[@]}" -gt 0 ] || die "try what? regress, isolation, tap or clients (see ./dev help)"
	for step in "${steps[@]}"; do
		takes_names "$step" ||
			die "try takes regress, isolation, tap and clients; ./dev test $step"
	done
	summary_due=yes
	purposes=(run)
	[[ " ${steps[*]} " != *' tap '* ]] || purposes+=(tap)
	[[ " ${steps[*]} " != *' clients '* ]] || purposes+=(clients)
	need "${purposes[@]}"
	open_try
	use_copied_postgres
	run_steps
}

cmd_try_psql() {
	work=$(readlink -f -- "$repo/.dev/try")
	server_runs "$work/preload" || die "no server runs there; ./dev try regress basics starts it"
	use_cluster "$work/preload"
	PGDATABASE=postgres exec "$(dirname -- "$(copied_pg_config)")/psql" "$@"
}
