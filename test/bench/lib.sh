# Shared by the benchmarks: sourced, not run. Expects PGHOST, PGPORT, PGUSER,
# PGDATABASE and SS_BINDIR, as `./dev bench` sets them.

set -euo pipefail
shopt -s inherit_errexit
export PATH="$SS_BINDIR:$PATH"

sql() {
	psql -XqAt -v ON_ERROR_STOP=1 -c "$1"
}

# A setting for the whole server, at once.
set_server() {
	sql "ALTER SYSTEM SET $1 = $2" && sql "SELECT pg_reload_conf()" >/dev/null
}

# wait_for SECONDS QUERY: until the query says t.
wait_for() {
	local deadline=$((SECONDS + $1))

	until [ "$(sql "$2")" = t ]; do
		if [ $SECONDS -ge $deadline ]; then
			echo "timed out waiting for: $2" >&2
			return 1
		fi
		sleep 0.5
	done
}

# percentile P < numbers: of microseconds, one a line.
percentile() {
	sort -n | awk -v p="$1" '{v[NR] = $1} END {i = int(NR * p / 100 + 0.5); print v[i < 1 ? 1 : i]}'
}

median() {
	percentile 50
}

# Latencies in microseconds out of pgbench's transaction logs with a prefix.
latencies() {
	# a run that was ended may leave half a line
	cat "$1".[0-9]* | awk 'NF >= 6 {print $3}'
}

ratio() {
	awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'
}
