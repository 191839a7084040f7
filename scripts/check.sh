# shellcheck shell=bash
#
# scripts/check.sh
#	./dev check: tests on a server that is built with assertions, and kept in .dev as an
#	archive; and with the library built with sanitizers.
#

# The packages that are needed to build a server.
need_for_server() {
	local missing=() program header

	for program in bison flex; do
		have "$program" || missing+=("$program")
	done
	have dpkg-source || missing+=(dpkg-dev)
	for header in readline/readline.h:libreadline-dev zlib.h:zlib1g-dev unicode/ucol.h:libicu-dev \
		openssl/ssl.h:libssl-dev lz4.h:liblz4-dev; do
		gcc -E -include stdio.h -include "${header%:*}" -xc /dev/null >/dev/null 2>&1 ||
			missing+=("${header#*:}")
	done
	[ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
}

# apt-get or apt-cache with lists of its own: those of the machine's sources, of source packages.
apt_sources() {	# apt-get|apt-cache ARG..
	local program=$1 dir=$work/apt

	shift
	run "$program" -q -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/parts" \
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root \
		-o Acquire::Retries=3 "$@"
}

prepare_apt_sources() {
	local dir=$work/apt file

	mkdir -p -- "$dir/parts" "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/sources.list"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -r "$file" ] ||
			sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file" >>"$dir/sources.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -r "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/parts/${file##*/}"
	done
	apt_sources apt-get update
}

# Gets the source of the distribution's server, into $work/source. If its newest version has left the
# mirror already, an older one is used. The distribution's patches fix paths: they are left out.
fetch_server_source() {	# MAJOR
	local package=postgresql-$1 version versions

	have apt-get || die "only Debian has the source of its server at hand"
	make_user_dir "$work/source"
	prepare_apt_sources || return 1
	mapfile -t versions < <(apt_sources apt-cache showsrc "$package" | sed -n 's/^Version: //p' | sort -rVu)
	for version in "${versions[@]}"; do
		(cd -- "$work/source" && apt_sources apt-get source --download-only "$package=$version") ||
			continue
		dpkg-source --skip-patches -x "$work/source/${package}_${version#*:}.dsc" "$work/source/server" &&
			return 0
	done
	return 1
}

# Builds a server, and keeps what it installs as an archive: it runs from any folder. The source is the
# distribution's, or that in a folder.
build_server() {	# MAJOR ARCHIVE [FOLDER]
	local major=$1 archive=$2 build=$work/build log=$work/log/server.log

	say "dev: building PostgreSQL $major with assertions, once; that takes several minutes"
	if [ -n "${3:-}" ]; then
		mkdir -- "$work/source"
		cp -a -- "$3" "$work/source/server"
	else
		fetch_server_source "$major" >"$log" 2>&1 || {
			show_tail 30 "$log"
			die "the source of postgresql-$major was not found"
		}
	fi
	make_user_dir "$build"
	! is_root || chown -R "$user:" "$work/source"
	# shellcheck disable=SC2016 # the inner shell has these
	test_timeout=3600 run_test "$log" env -C "$build" sh -ec '
		"$1/configure" --prefix="$2" --enable-cassert --enable-debug --enable-tap-tests --with-icu \
			--with-lz4 --with-openssl CFLAGS="-O1 -g -fno-omit-frame-pointer"
		make -s -j"$3" world-bin
		make -s install-world-bin' \
		sh "$work/source/server" "$build/server" "$(nproc)" || {
		show_tail 30 "$log"
		die "the server cannot be built"
	}
	mkdir -p -- "${archive%/*}"
	tar -C "$build" -czf "$archive.new" server
	mv -- "$archive.new" "$archive"
	rm -rf -- "$build" "$work/source" "$work/apt"
}

# Have a server with assertions in $work/server, and build and test with that.
use_checked_server() {	# [SOURCE]
	local major archive

	need_for_server
	if [ -n "${1:-}" ]; then
		major=$(sed -n "s/^PACKAGE_VERSION='\([0-9]*\).*/\1/p" "$1/configure" 2>/dev/null) || :
		[ -n "$major" ] || die "no source of PostgreSQL: $1"
		archive=$repo/.dev/server-$major-source.tar.gz
	else
		major=$("$pg_config" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
		archive=$repo/.dev/server-$major-assert.tar.gz
	fi
	[ -e "$archive" ] || build_server "$major" "$archive" "${1:-}"
	tar -C "$work" -xzf "$archive"
	! is_root || chown -R "$user:" "$work/server"
	pg_config=$work/server/bin/pg_config
	# it was linked in another folder
	export PG_CONFIG=$pg_config LD_LIBRARY_PATH=$work/server/lib
	use_postgres
}

# Build the library with sanitizers, which the server then has to load before anything else.
use_sanitizers() {
	local flags='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'

	# the options of a sanitizer cause additional warnings
	make_args=(-j"$(nproc)" "PG_CONFIG=$pg_config" with_llvm=no "COPT=$flags")
	mv -- "$bindir/postgres" "$bindir/postgres.plain"
	cat >"$bindir/postgres" <<EOF
#!/bin/sh
LD_PRELOAD='$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)' \\
ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0 \\
UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1 \\
exec '$bindir/postgres.plain' "\$@"
EOF
	chmod 755 "$bindir/postgres"
	# for test/fuzz/run.sh
	export SS_FUZZ_SANITIZED=yes
}

cmd_check() {
	local kind=${1:-} source=''
	local -a steps=()

	[ $# -eq 0 ] || shift
	if [ "${1:-}" = --source ]; then
		source=$(realpath -e -- "${2:-}" 2>/dev/null) || die "no such folder: ${2:-}"
		shift 2
	fi
	read_steps "$@"
	case $kind in
		assert) [ $# -gt 0 ] || steps=(regress isolation tap nemesis) ;;
		sanitize) [ $# -gt 0 ] || steps=(regress isolation) ;;
		*) die "check takes assert or sanitize (see ./dev help)" ;;
	esac
	summary_due=yes
	need test check
	open_work
	use_checked_server "$source"
	[ "$kind" = assert ] || use_sanitizers
	run_steps
}
