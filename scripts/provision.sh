# shellcheck shell=bash
#
# scripts/provision.sh
#	Finds the programs and packages that a command needs, and installs those that are missing. The only
#	script here that changes the system, and it needs root for that.
#
#	A package may start a service, or make a database cluster. Two files in the system's folders keep it from
#	that while packages are installed: hold_services and hold_main_cluster make them, and on_exit sees to it
#	that they are removed.
#

# Does this pg_config belong to a server that we can build for and run?
pg_config_is_complete() {
	local dir

	dir=$("$1" --bindir 2>/dev/null) && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] &&
		[ -e "$("$1" --pgxs)" ] && [ -e "$("$1" --includedir-server)/postgres.h" ]
}

# Set pg_config: PG_CONFIG if given, else the one on the path, else the newest.
find_postgres() {
	local candidate

	if [ -n "${PG_CONFIG:-}" ]; then
		have "$PG_CONFIG" || die "PG_CONFIG is no program: $PG_CONFIG"
		pg_config=$(realpath -s -- "$(command -v "$PG_CONFIG")")
		pg_config_is_complete "$pg_config" ||
			die "PG_CONFIG: server or development files are missing beside $pg_config"
		return 0
	fi
	for candidate in "$(command -v pg_config || :)" \
		$(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV); do
		if [ -x "$candidate" ] && pg_config_is_complete "$candidate"; then
			pg_config=$candidate
			return 0
		fi
	done
	return 1
}

# Set redis_server: SS_REDIS_SERVER if given, else a Redis or Valkey on the path.
find_redis() {
	local candidate

	for candidate in ${SS_REDIS_SERVER:-redis-server valkey-server}; do
		if have "$candidate"; then
			redis_server=$(command -v "$candidate")
			export SS_REDIS_SERVER=$redis_server
			return 0
		fi
	done
	return 1
}

# A second compiler: clang, or the one that the server's bitcode is made with.
find_clang() {
	local clang

	clang=$(sed -n 's/^CLANG *= *//p' "$(dirname "$pgxs")/../Makefile.global")
	for clang in clang "$clang"; do
		if [ -n "$clang" ] && have "$clang"; then
			echo "$clang"
			return 0
		fi
	done
	return 1
}

# clang-format, if it is of the version that the sources are formatted with.
find_clang_format() {
	local program

	for program in clang-format-14 clang-format; do
		if have "$program" && "$program" --version | grep -q 'version 14\.'; then
			echo "$program"
			return 0
		fi
	done
	return 1
}

# The packages of the distribution's own Postgres. The package "postgresql"
# depends on that of the default version, once apt knows its lists.
postgres_packages() {
	local major

	major=$(apt-cache depends postgresql 2>/dev/null |
		sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p')
	if [ -n "$major" ]; then
		echo "postgresql-$major postgresql-server-dev-$major"
	else
		echo "postgresql postgresql-server-dev-all"
	fi
}

# A new server package creates and starts a cluster "main". It must not here: a file beside
# createcluster.conf prevents that while packages are installed.
hold_main_cluster() {
	local folder=/etc/postgresql-common/createcluster.d

	dropin=$folder/zz-$extension-dev.conf
	while [ ! -d "$folder" ]; do
		dropin_folders+=("$folder")
		folder=${folder%/*}
	done
	mkdir -p "${dropin%/*}"
	say "create_main_cluster = false" >"$dropin"
}

release_main_cluster() {
	[ -n "$dropin" ] || return 0
	rm -f "$dropin"
	# folders that were made for it are removed as well, unless a package uses them now
	[ "${#dropin_folders[@]}" -eq 0 ] ||
		rmdir --ignore-fail-on-non-empty "${dropin_folders[@]}" 2>/dev/null || :
	dropin='' dropin_folders=()
}

# Nor is the service of a Redis started whose package is installed here.
hold_services() {
	[ ! -e "$policy_rc_d" ] || return 0
	printf '#!/bin/sh\nexit 101\n' >"$policy_rc_d"
	chmod 755 "$policy_rc_d"
	services_held=yes
}

release_services() {
	[ -z "$services_held" ] || rm -f "$policy_rc_d"
	services_held=''
}

apt_get() {	# ARG..
	DEBIAN_FRONTEND=noninteractive run apt-get -q -y -o DPkg::Lock::Timeout=300 \
		-o Acquire::Retries=3 "$@" >>"$apt_log" 2>&1 || {
		tail -n 30 "$apt_log" >&2
		die "apt-get $1 failed (above: its last lines)"
	}
}

# Installs packages ("POSTGRES" stands for the server's), or says how to.
install_packages() {	# PACKAGE..
	local packages="$*"

	if ! have apt-get; then
		die "please install what Debian calls: ${packages/POSTGRES/postgresql postgresql-server-dev-all}"
	fi
	if ! is_root; then
		die "packages are missing; as root:
    apt-get update && apt-get install -y --no-install-recommends ${packages/POSTGRES/$(postgres_packages)}"
	fi
	say "dev: missing: ${packages/POSTGRES/postgresql and its development files}; installing by apt-get, which takes a minute or more"
	apt_log=$(mktemp)
	apt_get update
	packages=${packages/POSTGRES/$(postgres_packages)}
	say "dev: apt-get install $packages"
	hold_main_cluster
	hold_services
	# shellcheck disable=SC2086 # a list of words
	apt_get install --no-install-recommends $packages
	release_services
	release_main_cluster
	rm -f -- "$apt_log"
	hash -r
}

# The packages of modules of Python that tests of the clients use and that are not here.
missing_python() {
	local module modules=(psycopg2 psycopg psycopg_pool redis django flask flask_session mypy setuptools wheel)

	# what Flask-Session needs from Debian 13 on, though its package does not depend on it
	# shellcheck disable=SC1091
	[ "$(. /etc/os-release && echo "${VERSION_ID:-99}")" -lt 13 ] 2>/dev/null || modules+=(msgspec)
	for module in "${modules[@]}"; do
		/usr/bin/python3 -c "import sys, importlib.util as u; sys.exit(not u.find_spec('$module'))" 2>/dev/null ||
			echo "python3-${module//_/-}"
	done
}

# Finds or installs everything that purposes need: "run", or "tap", "clients", "test" and "bench", which
# need more; with "check" only the version of the server is used.
need() {	# PURPOSE..
	local purposes=" $* " missing=()

	have gcc || missing+=(gcc)
	have make || missing+=(make)
	[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
	[ -e /usr/include/hiredis/hiredis.h ] || missing+=(libhiredis-dev)
	find_redis || missing+=(redis-server)
	if [[ $purposes = *' test '* ]] || [[ $purposes = *' tap '* ]]; then
		have prove || missing+=(perl)
		# certificates for TLS
		have openssl || missing+=(openssl)
		# a network of a test's own
		have ip || missing+=(iproute2)
		perl -MIPC::Run -e 1 2>/dev/null || missing+=(libipc-run-perl)
	fi
	if [[ $purposes = *' test '* ]]; then
		# the examples in the docs
		/usr/bin/python3 -c 'import psycopg2, redis' 2>/dev/null ||
			missing+=(python3-psycopg2 python3-redis)
	fi
	# the clients, and the deployments in examples/; without these their tests are skipped
	if [[ $purposes = *' test '* || $purposes = *' clients '* ]] && is_root && have apt-get; then
		have node || missing+=(nodejs)
		have npm || missing+=(npm)
		mapfile -t -O "${#missing[@]}" missing < <(missing_python)
	fi
	if [[ $purposes = *' bench '* ]] && is_root && have apt-get; then
		# without these the benchmarks that need them are skipped
		have gnuplot || missing+=(gnuplot-nox)
		have pgbouncer || missing+=(pgbouncer)
		have node || missing+=(nodejs)
		have npm || missing+=(npm)
		/usr/bin/python3 -c 'import django, django_redis, psycopg2' 2>/dev/null ||
			missing+=(python3-django python3-django-redis python3-psycopg2)
	fi
	find_postgres || missing+=(POSTGRES)
	[ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
	[ -n "$pg_config" ] || find_postgres ||
		die "no Postgres server with its development files was found; set PG_CONFIG"
	find_redis || die "no Redis server was found; set SS_REDIS_SERVER"
	choose_user
	[[ $purposes != *' check '* ]] || return 0
	read_pg_config
	if [[ $purposes = *' test '* ]] && ! find_clang >/dev/null; then
		install_packages clang
	fi
}

cmd_prepare() {
	[ $# -eq 0 ] || die "prepare takes no arguments"
	need test
}
