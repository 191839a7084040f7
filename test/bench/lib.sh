# Shared by the benchmarks: sourced, not run. Expects PGHOST, PGPORT, PGUSER,
# PGDATABASE, SS_BINDIR and the rest as `./dev bench` sets them.
#
# A comparison has a key, which claims.tsv knows, and two sides, ours and theirs. Both are
# measured in the same round, one after the other, taking turns at being the first; a sample is
# one number of one side in one round. report.pl makes the ratios. A figure that is no
# comparison goes to a plot (point) or into a text of its own (BENCH_OUT/NAME.md).
#
#   BENCH_OUT     folder of the results; none: they are only printed
#   BENCH_SCALE   full, or tiny: everything once and small, to see that it works
#   ROUNDS        of each comparison (5)
#   SECONDS_EACH  of one side in one round (3)

set -euo pipefail
shopt -s inherit_errexit
export PATH="$SS_BINDIR:$PATH"

sql() {
	psql -XqAt -v ON_ERROR_STOP=1 -c "$1"
}

# A setting of the whole server; it applies to connections from now on.
set_server() {
	local before

	before=$(sql "SELECT pg_conf_load_time()")
	sql "ALTER SYSTEM SET $1 = $2" && sql "SELECT pg_reload_conf()" >/dev/null
	wait_for 30 "SELECT pg_conf_load_time() > '$before'"
}

# A setting that needs a restart. The benchmark resets it in the end (reset_restarted).
restart_with() {	# SETTING VALUE
	sql "ALTER SYSTEM SET $1 = $2"
	restart_server
}
reset_restarted() {	# SETTING
	sql "ALTER SYSTEM RESET $1"
	restart_server
}
restart_server() {
	local data

	data=$(sql 'SHOW data_directory')
	pg_ctl restart -s -w -t 300 -m fast -D "$data" -l "$data/restart.log" >/dev/null
}

# Only the measured work writes WAL, and without full page images, which depend on checkpoints alone.
quiet_server() {
	set_server full_page_writes off
	set_server autovacuum off
	set_server session_store.purge_interval 0
	wait_for 300 "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')"
}

# wait_until SECONDS COMMAND..: until it succeeds.
wait_until() {
	local deadline=$((SECONDS + $1)) pause=50	# ms

	shift
	until "$@"; do
		if [ $SECONDS -ge $deadline ]; then
			echo "timed out waiting for: $*" >&2
			return 1
		fi
		sleep "$(printf '0.%03d' "$pause")"
		pause=$((pause < 500 ? pause * 2 : 800))
	done
}

# wait_for SECONDS QUERY: until the query says t.
wait_for() {
	wait_until "$1" says_true "$2"
}
says_true() {
	[ "$(sql "$1")" = t ]
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

tiny() {
	[ "${BENCH_SCALE:-full}" = tiny ]
}

# scale FULL TINY
scale() {
	if tiny; then echo "$2"; else echo "$1"; fi
}

ROUNDS=${ROUNDS:-$(scale 5 1)}
SECONDS_EACH=${SECONDS_EACH:-$(scale 3 1)}
bench_name=$(basename -- "$0" .sh)
bench_folder=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")

progress() {
	printf 'bench: %4d s  %-12s %s\n' "$SECONDS" "$bench_name" "$*" >&2
}

# For a benchmark that cannot run here. The report leaves out what it would measure.
skip() {	# WHY
	progress "skipped: $1"
	[ -z "${BENCH_OUT:-}" ] || echo "$bench_name: $1" >>"$BENCH_OUT/skipped"
	exit 0
}

# sample KEY SIDE ROUND VALUE
sample() {
	[ -z "${BENCH_OUT:-}" ] || printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$BENCH_OUT/samples.tsv"
}

# point PLOT SERIES X Y
point() {
	[ -z "${BENCH_OUT:-}" ] || printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$BENCH_OUT/points.tsv"
}

# alternate KEY OURS THEIRS: two commands that print a number each
alternate() {
	local key=$1 round value side sides command
	local -A commands=([ours]=$2 [theirs]=$3)

	for ((round = 1; round <= ROUNDS; round++)); do
		sides='ours theirs'
		((round % 2)) || sides='theirs ours'
		for side in $sides; do
			command=${commands[$side]}
			value=$($command)
			[[ $value =~ ^[0-9.]+(e[+-]?[0-9]+)?$ ]] || { echo "$key: no number from $command: $value" >&2; return 1; }
			sample "$key" "$side" "$round" "$value"
			progress "$key $round/$ROUNDS: $side $value"
		done
	done
}

# One client and its backend take turns. On one processor they do that at once; on two, each waits
# for the other to be woken up, which takes a virtual machine longer than the call does, and as long as it
# likes. So pgbench runs on the last processor, and brings its backend there.
on_one_processor() { # COMMAND..
	local last=$(($(nproc) - 1)) name=pinned$BASHPID pid='' run

	if tiny || ! command -v taskset >/dev/null; then
		"$@"
		return
	fi
	PGAPPNAME=$name taskset -c "$last" "$@" &
	run=$!
	# (pgbench begins with a connection that runs nothing and is closed)
	while [ -z "$pid" ] && kill -0 "$run" 2>/dev/null; do
		pid=$(sql "SELECT pid FROM pg_stat_activity WHERE application_name = '$name' AND query <> '' LIMIT 1")
	done
	[ -z "$pid" ] || taskset -pc "$last" "$pid" >/dev/null 2>&1 || :
	wait "$run"
}

# Transactions a second of a script: bench_tps PROTOCOL CLIENTS FILE [ARG..]
bench_tps() {
	local protocol=$1 clients=$2 file=$3 limit around=()
	shift 3

	# pgbench takes at least a second; for a tiny run that is too long
	if tiny; then limit=(-t 20); else limit=(-T "$SECONDS_EACH"); fi
	if [ "$clients" -eq 1 ]; then around=(on_one_processor); fi
	"${around[@]}" pgbench -n -M "$protocol" -c "$clients" -j "$((clients < 2 ? 1 : 2))" "${limit[@]}" -f "$file" "$@" 2>"$file.err" |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p' | grep . || { cat "$file.err" >&2; return 1; }
}

# The mean of a script's latency in microseconds, one client: bench_us PROTOCOL FILE [ARG..]
bench_us() {
	bench_tps "$1" 1 "${@:2}" | awk '{printf "%.2f\n", 1e6 / $1}'
}

# The median of so many of a script's latencies in microseconds, one client: bench_p50 TRANSACTIONS FILE [ARG..]
bench_p50() {
	rm -f "$2".log.*
	on_one_processor pgbench -n -M prepared -c 1 -t "$1" -l --log-prefix="$2.log" -f "$2" "${@:3}" >"$2.out" 2>&1 || {
		cat "$2.out" >&2
		return 1
	}
	latencies "$2.log" | median
}

# A new backend has to map each page of shared memory that it uses, which those of an application have
# done long before. So the first transaction of these scripts, in a client of its own, reads all
# sessions of the namespace bench; a median does not include it.
create_map_functions() {
	sql "CREATE FUNCTION map_heap() RETURNS bigint LANGUAGE sql SET max_parallel_workers_per_gather = 0
		SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off
		AS 'SELECT count(session_data) FROM conversation_sessions'"
	sql "CREATE FUNCTION map_key() RETURNS bigint LANGUAGE sql SET max_parallel_workers_per_gather = 0
		SET enable_seqscan = off SET enable_bitmapscan = off
		AS \$\$ SELECT count(session_id) FROM conversation_sessions WHERE namespace = 'bench' AND session_id > '' \$\$"
}
mapped_script() {	# NAME LINE..
	printf '%s\n' '\if :first' 'SELECT map_heap();' 'SELECT map_key();' '\set first 0' '\endif' "${@:2}" >"$1"
}
mapped_p50() {	# TRANSACTIONS FILE [ARG..]
	bench_p50 "$@" -D first=1
}

# Runs so many transactions of a script by four clients, at any rate: bench_calls TRANSACTIONS FILE
# [ARG..]
bench_calls() {
	pgbench -n -M prepared -c 4 -j 2 -t $((($1 + 3) / 4)) -f "$2" "${@:3}" >"$2.out" 2>&1 || {
		cat "$2.out" >&2
		return 1
	}
}

# Bytes of write-ahead log that a command makes: wal_of COMMAND..
wal_of() {
	local before

	before=$(sql "CHECKPOINT; SELECT pg_current_wal_insert_lsn()")
	"$@" >/dev/null
	sql "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$before')::bigint"
}

# Random documents of a given size that compress little: hex digits.
create_document_function() {
	sql "CREATE OR REPLACE FUNCTION document(bytes int, n bigint DEFAULT 0) RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL SAFE AS \$\$
		SELECT jsonb_build_object('n', n, 'text', left(string_agg(md5(random()::text || i), ''), greatest(bytes - 30, 1)))
		FROM generate_series(0, bytes / 32) i \$\$"
}

# Bytes of write-ahead log per call, of a command that makes so many: wal_per CALLS COMMAND..
wal_per() {
	awk -v bytes="$(wal_of "${@:2}")" -v calls="$1" 'BEGIN {printf "%.2f\n", bytes / calls}'
}

# Documents of a size that are cheap to make, for loading many: a slice of a random text, another one
# with nearly every call.
create_slice_function() {
	local text

	text=$(sql "SELECT string_agg(md5(random()::text || i), '') FROM generate_series(1, 125) i")
	sql "CREATE OR REPLACE FUNCTION slice(bytes int) RETURNS text LANGUAGE sql VOLATILE PARALLEL SAFE AS \$\$
		SELECT substr('$text', 1 + (random() * 2000)::int, bytes) \$\$"
	sql "CREATE OR REPLACE FUNCTION sliced_document(bytes int, n bigint DEFAULT 0) RETURNS jsonb
		LANGUAGE sql VOLATILE PARALLEL SAFE AS \$\$
		SELECT jsonb_build_object('n', n, 'text', slice(bytes - 30)) \$\$"
}

# The table of an application that keeps its own sessions, with the index that its cleanup needs.
# UNLOGGED or nothing.
create_hand_table() {	# NAME [UNLOGGED]
	sql "CREATE ${2:-} TABLE $1 (session_id text PRIMARY KEY, session_data jsonb NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
		expires_at timestamptz NOT NULL)"
	sql "CREATE INDEX ON $1 (expires_at)"
}

# Runs the statements that a query returns.
run_each() {
	sql "$1" | sed 's/$/;/' | psql -XqAt -v ON_ERROR_STOP=1
}

# Between these two conversation_sessions is quick to fill, by INSERTs that give every column
# that has no default, check_at included: without its triggers, and but for the primary key
# without indexes. It has everything back afterwards.
begin_load() {
	load_indexes=$(sql "SELECT string_agg(pg_get_indexdef(indexrelid), ';') FROM pg_index
		WHERE indrelid = 'conversation_sessions'::regclass AND NOT indisprimary")
	sql "ALTER TABLE conversation_sessions DISABLE TRIGGER USER"
	run_each "SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
		WHERE indrelid = 'conversation_sessions'::regclass AND NOT indisprimary"
}
end_load() {
	sql "SET maintenance_work_mem = '1GB'; $load_indexes"
	# the extension has them ENABLE ALWAYS
	run_each "SELECT format('ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger
		WHERE tgrelid = 'conversation_sessions'::regclass AND NOT tgisinternal"
	sql "VACUUM ANALYZE conversation_sessions"
}

# A second database with the extension, for comparisons that must not share a table.
create_other_database() {	# NAME
	sql "CREATE DATABASE $1"
	PGDATABASE=$1 sql "CREATE EXTENSION session_store"
}
drop_other_database() {
	sql "DROP DATABASE IF EXISTS $1 WITH (FORCE)" 2>/dev/null
}

# Sessions s1 .. sN of 1 KB in the namespace "bench", which has no cache, and in hand tables. They were
# saved within the last hour, each at its time, as those of an application are.
fill_sessions() {	# SESSIONS TABLE..
	local sessions=$1 table
	shift

	progress "$sessions sessions of 1 KB"
	sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
	# the owner of a session is determined by the database, not by each call
	sql "ALTER DATABASE $PGDATABASE SET session_store.namespace = 'bench'"
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
		SELECT 'bench', 's' || i, document(1024, i), '1 day', now() + interval '1 day' - random() * interval '1 hour'
		FROM generate_series(1, $sessions) i"
	for table in "$@"; do
		sql "INSERT INTO $table (session_id, session_data, expires_at)
			SELECT session_id, session_data, expires_at FROM conversation_sessions"
	done
	sql "VACUUM ANALYZE"
	sql "CHECKPOINT"
}

# Scripts for pgbench that read and save any of them: get_ours, get_TABLE, and save_ours.D, save_TABLE.D for
# D = 0 .. 7. The document is a parameter, as drivers send it; one of eight, so that it is new to its session.
write_calls() {	# SESSIONS TABLE..
	local head="\\set i random(1, $1)" table d
	shift

	printf '%s\n' "$head" "SELECT session_get('s' || :i);" >get_ours
	for table in "$@"; do
		printf '%s\n' "$head" "SELECT session_data FROM $table WHERE session_id = 's' || :i AND expires_at > now();" >"get_$table"
	done
	documents=()
	for ((d = 0; d < 8; d++)); do
		documents+=(-D "document$d=$(sql "SELECT document(1024)")")
		printf '%s\n' "$head" "SELECT session_save('s' || :i, :document$d);" >"save_ours.$d"
		for table in "$@"; do
			printf '%s\n' "$head" "INSERT INTO $table (session_id, session_data, expires_at)
				VALUES ('s' || :i, :document$d, now() + interval '1 day') ON CONFLICT (session_id) DO UPDATE
				SET session_data = EXCLUDED.session_data, updated_at = now(), expires_at = EXCLUDED.expires_at;" >"save_$table.$d"
		done
	done
}

# Saves a second: save_tps PROTOCOL CLIENTS FILES
save_tps() {
	bench_tps "$1" "$2" "$3.0" -f "$3.1" -f "$3.2" -f "$3.3" -f "$3.4" -f "$3.5" -f "$3.6" -f "$3.7" "${documents[@]}"
}

# ------------------------------------------------------------------ the cache

# A namespace "bench" that has all its sessions in Redis, and a Redis to write them to.
start_cache() {
	set_server session_store.redis_url "'unix://$SS_REDIS_SOCKET'"
	sql "INSERT INTO session_namespaces (name, key_prefix, ttl, cache, sliding) VALUES ('bench', 'bench:', '1 day', 'all', false)"
	wait_for 30 "SELECT session_health() #>> '{cache,state}' = 'running'"
}

# Sessions s1 .. sN in the namespace, in Redis, and the same in the table of the other side. A part at a
# time: one that is larger than a quarter of the ledger has all copies deleted.
fill_cache() {	# SESSIONS BYTES
	local from

	progress "$1 sessions of $2 bytes"
	for ((from = 1; from <= $1; from += 10000)); do
		sql "INSERT INTO conversation_sessions (namespace, session_id, session_data)
			SELECT 'bench', 's' || i, document($2, i) FROM generate_series($from, least($from + 9999, $1)) i"
		wait_for 60 "SELECT session_cache_sync('1 minute')"
	done
	sql "INSERT INTO hand (session_id, session_data, expires_at)
		SELECT session_id, session_data, expires_at FROM conversation_sessions WHERE namespace = 'bench'"
	sql "VACUUM ANALYZE"
	sql "CHECKPOINT"
}

# Builds the applications of client.c, as ./client.
build_client() {
	gcc -O2 -o client -I"$("$SS_BINDIR/pg_config" --includedir)" "$bench_folder/client.c" -lpq -lhiredis -lpthread
}

# How benchmarks of the cache begin: the applications, and so many sessions of 1 KB on all sides.
begin_with_cache() {	# SESSIONS
	build_client
	create_document_function
	create_hand_table hand
	start_cache
	fill_cache "$1" 1024
}

# Operations per second of one of them: client_rate SESSIONS [OPTION..] MODE CLIENTS
client_rate() {
	local sessions=$1
	shift

	./client "$@" "$(scale "$SECONDS_EACH" 0.2)" "$sessions" | awk '{print $1}'
}

# ---------------------------------------------------- applications in Node

# A folder in which programs find the packages that clients/js is tested with, and session_store itself.
node_folder() {	# FOLDER
	local js packages

	js=$(readlink -f -- "$bench_folder/../../clients/js") packages=$js/node_modules
	node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null || skip "no Node of version 18 or later"
	npm --version >/dev/null 2>&1 || skip "no npm"
	progress "npm ci"
	"$bench_folder/../clients/npm_ci" >"$1/npm.log" 2>&1 || {
		tail -n 5 "$1/npm.log" >&2
		skip "no packages from npm"
	}
	ln -sfn .. "$packages/session_store"
	ln -s "$packages" "$1/node_modules"
	cp "$bench_folder"/clients/*.js "$1"
	echo '{ "type": "module" }' >"$1/package.json"
}
