# shellcheck shell=bash
# tree.sh
#	Trees of other releases of Debian, made with debootstrap. Sourced by ./dev matrix and
#	test/upgrade/run.sh.
#
# Packages come from the mirror that this machine's own apt sources name, and are checked with
# Debian's keys. A tree is complete when it holds a file "complete"; an incomplete one is made again.
#
# tree_enter runs a command in mount and process namespaces of its own: when the command ends, or
# is killed, everything that it started ends and its mounts are gone. Nothing is mounted outside.

tree_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

tree_have_debootstrap() {
	if ! command -v debootstrap >/dev/null || [ ! -e "$tree_keyring" ]; then
		apt-get -q update
		DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install debootstrap \
			debian-archive-keyring
	fi
}

tree_mirror() {
	local uri

	uri=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
	[ -n "$uri" ] || uri=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
	[ -n "$uri" ] || {
		echo "no source of packages is configured"
		return 1
	}
	echo "$uri"
}

# Make a minimal tree, with certificates and apt settings of this machine.
tree_make_base() {	# SUITE TREE
	local suite=$1 tree=$2 uri file

	uri=$(tree_mirror) || return 1
	rm -rf -- "$tree"
	mkdir -p -- "$tree"
	debootstrap --variant=minbase --keyring="$tree_keyring" \
		"$suite" "$tree" "$uri" || return 1
	# this machine's settings decide whether an old list of packages may be used
	{
		apt-config dump 2>/dev/null | grep -E '^Acquire::(Check-(Valid-Until|Date)|https?::Proxy) ' || :
		printf '%s\n' 'Acquire::Languages "none";' 'Acquire::Retries "3";' 'APT::Sandbox::User "root";'
	} >"$tree/etc/apt/apt.conf.d/90-as-outside"
	# a tree that did not survive a power cut is made again
	echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/unsafe-io"
	# no package starts a service
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
	chmod 755 "$tree/usr/sbin/policy-rc.d"
	printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' >"$tree/etc/hosts"
	for file in /etc/resolv.conf /etc/npmrc; do
		[ ! -r "$file" ] || cp -L -- "$file" "$tree$file" || return 1
	done
	tree_copy_certificates "$tree"
}

# A machine may trust certificate authorities of its own.
tree_copy_certificates() {	# TREE
	local file

	mkdir -p -- "$1/usr/local/share/ca-certificates"
	for file in /usr/local/share/ca-certificates/*.crt; do
		[ ! -r "$file" ] || cp -L -- "$file" "$1/usr/local/share/ca-certificates/" || return 1
	done
}

# Run a command in a tree, by chroot alone.
tree_chroot() {	# TREE COMMAND..
	local tree=$1

	shift
	chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
}

# Can this machine run tree_enter?
tree_can_enter() {
	unshare --mount --pid --fork --kill-child true 2>/dev/null
}

# Run a command in a tree, with /proc, /dev/shm and terminals, in namespaces of its own. The tree
# becomes the root by pivot_root: after a chroot the kernel refuses user namespaces, and tests make some.
tree_enter() {	# TREE COMMAND..
	# shellcheck disable=SC2016 # the inner shell has these
	unshare --mount --propagation private --pid --fork --kill-child sh -ec '
		mount --bind "$1" "$1"
		cd "$1"
		shift
		mount -t proc proc proc
		mount -t tmpfs -o mode=1777 shm dev/shm
		[ -e dev/pts/ptmx ] || mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
		pivot_root . .
		umount -l .
		cd /
		exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
			DEBIAN_FRONTEND=noninteractive "$@"' sh "$@"
}
