# shellcheck shell=bash
#
# scripts/postgres.sh
#	The copy of Postgres in a work folder, and the extension in it.
#
#		$work/pg	the copy, of the same shape as the installation
#		$work/pg.of	what describe_postgres said of that when the copy was made
#		$work/src	the sources, and what is built from them
#

# Set what pg_config says.
read_pg_config() {
	bindir=$("$pg_config" --bindir)
	pkglibdir=$("$pg_config" --pkglibdir)
	sharedir=$("$pg_config" --sharedir)
	pgxs=$("$pg_config" --pgxs)
}

# Build for the server of $pg_config, and run that.
use_postgres() {
	read_pg_config
	# Bitcode is only for inlining by the server's JIT; nothing here depends on it.
	make_args=(-j"$(nproc)" "PG_CONFIG=$pg_config" WERROR=1 with_llvm=no)
	PATH=$bindir:$PATH
	say "dev: $("$pg_config" --version) in $bindir, run by $user"
}

# Changes whenever the installation of Postgres does, as far as it is used here.
describe_postgres() {
	say "$bindir"
	"$pg_config" --version
	stat -c '%n %s %Y' -- "$bindir/postgres" "$pgxs" "$pkglibdir" "$sharedir/extension"
}

# The pg_config of the copy in the work folder, if there is one.
copied_pg_config() {
	find "$work/pg" -name pg_config -type f -perm -u+x 2>/dev/null | head -n 1 || :
}

# Makes a copy of the installation in the work folder, unless there is one, and uses it. If the
# installation has changed since, the copy is made again, and what was built and run with it is
# removed.
use_copied_postgres() {
	if [ "$(cat -- "$work/pg.of" 2>/dev/null)" != "$(describe_postgres)" ]; then
		stop_servers "$work"
		rm -rf -- "$work/pg" "$work/src"
		copy_postgres
		describe_postgres >"$work/pg.of"
	fi
	pg_config=$(copied_pg_config)
	if [ -z "$pg_config" ] || ! pg_config_is_complete "$pg_config" ||
		[[ $("$pg_config" --pkglibdir) != "$work"/* ]] || [[ $("$pg_config" --sharedir) != "$work"/* ]]; then
		die "a copy of the Postgres in $bindir does not work"
	fi
	export PG_CONFIG=$pg_config
	use_postgres
}

# Programs find the other folders by their place relative to their own. Those that headers and
# libraries of the client are in are only read.
copy_postgres() {
	local top=$work/pg common=$bindir/ includedir libdir dir

	includedir=$("$pg_config" --includedir) libdir=$("$pg_config" --libdir)
	for dir in "$pkglibdir" "$sharedir" "$includedir" "$libdir"; do
		while [[ $dir/ != "$common"* ]]; do
			common=${common%/}
			common=${common%/*}/
		done
	done
	for dir in "$bindir" "$pkglibdir" "$sharedir"; do
		mkdir -p -- "$top/${dir#"$common"}"
		# a dangling link is no loss
		cp -aL -- "$dir/." "$top/${dir#"$common"}/" 2>>"$work/log/copy.log" || :
	done
	for dir in "$includedir" "$libdir"; do
		if [ ! -e "$top/${dir#"$common"}" ]; then
			mkdir -p -- "$(dirname -- "$top/${dir#"$common"}")"
			ln -s -- "$dir" "$top/${dir#"$common"}"
		elif [ "$dir" != "$pkglibdir" ]; then
			find "$dir" -maxdepth 1 -name 'libp[qg]*' -exec ln -sf -t "$top/${dir#"$common"}" -- {} +
		fi
	done
	installed_files "$top/${pkglibdir#"$common"}" "$top/${sharedir#"$common"}" | xargs -0 -r rm -rf --
}

# Nearly every step needs this; without it the run ends.
build_with_gcc() {
	[ -z "$built" ] || return 0
	run_test "$work/log/gcc.log" make -s -C "$work/src" "${make_args[@]}" || {
		show_tail 60 "$work/log/gcc.log"
		die "the build with gcc failed"
	}
	built=yes
}

build_and_install() {
	build_with_gcc
	install_extension || die "make install failed"
}

# Install what was built in $work/src, unless it is installed already. Servers that have another one
# loaded are stopped.
install_extension() {
	! is_installed || return 0
	stop_postgres "$work"
	installed_files "$pkglibdir" "$sharedir" | xargs -0 -r rm -rf --
	run make -s -C "$work/src" "${make_args[@]}" install >"$work/log/install.log" 2>&1 || {
		show_tail 30 "$work/log/install.log"
		return 1
	}
}

is_installed() {
	local file

	cmp -s -- "$work/src/$extension.so" "$pkglibdir/$extension.so" || return 1
	for file in "$work/src/$extension.control" "$work/src/$extension"--*.sql; do
		cmp -s -- "$file" "$sharedir/extension/${file##*/}" || return 1
	done
}

# The files of the extension in an installation, those there are.
installed_files() {	# PKGLIBDIR SHAREDIR
	local file

	for file in "$1/$extension.so" "$1/bitcode/$extension" "$1/bitcode/$extension.index.bc" \
		"$2/extension/$extension.control" "$2/extension/$extension"--*.sql; do
		[ ! -e "$file" ] || printf '%s\0' "$file"
	done
}
