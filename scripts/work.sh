# shellcheck shell=bash
#
# scripts/work.sh
#	Work folders: who works in them, how they are made and removed, and the sources in them.
#

# Root lets an unprivileged user do the work: the owner of the work folder, if there is one.
choose_user() {
	user=$(id -un 2>/dev/null || id -u)
	is_root || return 0
	for user in "$(stat -c %U -- "$work/tmp" 2>/dev/null || :)" postgres nobody; do
		if [ -n "$user" ] && [ "$user" != root ] && id -u "$user" >/dev/null 2>&1; then
			as_user=(setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups --)
			return 0
		fi
	done
	die "no unprivileged user to run a server as: neither postgres nor nobody exists"
}

# Make a work folder. Sources, servers and sockets lie in it; the path of a socket
# may have 107 bytes and make takes no spaces, so not every TMPDIR will do.
open_work() {
	local base=${TMPDIR:-/tmp}

	can_hold_work "$base" || base=/tmp
	work=$(mktemp -d "${base%/}/$extension.XXXXXX")
	work_is_ours=yes
	furnish_work
	use_work
}

can_hold_work() {	# FOLDER
	[ "${#1}" -le 50 ] && [[ $1 != *[[:space:]]* ]] && [[ $1 = /* ]] && "${as_user[@]}" test -x "$1"
}

furnish_work() {
	chmod 755 "$work"
	make_user_dir "$work/tmp"
	make_user_dir "$work/log"
}

use_work() {
	export TMPDIR=$work/tmp HOME=$work/tmp
	cd -- "$work"
}

make_user_dir() {
	mkdir -- "$1"
	! is_root || chown "$user:" "$1"
}

remove_work() {
	cd /
	stop_servers "$work"
	rm -rf -- "$work"
	work_is_ours=''
}

# The names of the source files, each ended by a NUL: all that git would include or, outside of a
# checkout, every file.
list_sources() {
	local file

	cd -- "$repo"
	if [ -e .git ] && git -c safe.directory="$repo" rev-parse --git-dir >/dev/null 2>&1; then
		git -c safe.directory="$repo" ls-files -z -co --exclude-standard
	else
		find . \( -name .git -o -name .dev -o -name '*.o' -o -name '*.bc' -o -name '*.so' \
			-o -name '*.d' \) -prune \
			-o \( -type f -o -type l \) -print0
	fi | while IFS= read -r -d '' file; do
		# git lists files that were deleted since, too
		[ ! -f "$file" ] && [ ! -L "$file" ] || printf '%s\0' "${file#./}"
	done
}

# Copy the sources into a folder, to be built by the user; or, if they have been copied there
# before, what has changed since. FOLDER.files says what there was, and when it was changed.
copy_sources() {	# FOLDER
	local old=$1.files new=$1.files.new

	mkdir -p -- "$1"
	[ "$(ls -A -- "$1")" ] && [ -e "$old" ] || : >"$old"
	list_sources | (cd -- "$repo" && xargs -0 -r stat --printf '%.9Y:%s:%a %n\0' --) | sort -z >"$new"
	comm -z -23 <(names_of_sources "$old") <(names_of_sources "$new") | (cd -- "$1" && xargs -0 -r rm -f --)
	# a copy is newer than what was made of it, whatever its date
	comm -z -13 "$old" "$new" | sed -z 's/^[^ ]* //' |
		tar -C "$repo" --null --no-recursion --files-from=- -cf - | tar -C "$1" -xmf -
	! is_root || chown -R "$user:" "$1"
	mv -- "$new" "$old"
}

names_of_sources() {	# FILE
	sed -z 's/^[^ ]* //' -- "$1" | sort -z
}
