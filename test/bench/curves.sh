#!/usr/bin/env bash
# What things cost as there is more of them: the points of the plots, and session_get among
# 10,000,000 sessions against 100,000.
#
# One database grows by tens from 10,000 sessions to 10,000,000; at each step a tenth of them is
# purged, and reads, saves and pages of an owner's list are timed (medians of one client,
# prepared, synchronous_commit off). Documents are of about 100 bytes, so that the greatest table
# is in memory too; each owner has 100 sessions. The 100,000 that session_get is compared with
# are in a database of their own, for the index of the many would be theirs as well. Both are
# read whole before they are measured, by the measured backend as well.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
largest=$(scale 10000000 10000)
smallest=$(scale 10000 100)
few=$(scale 100000 1000)
times=$(scale 20000 100)	# of a call whose median is taken
work=$(mktemp -d)
running=	# what runs in the background

stop_running() {
	[ -z "$running" ] || kill "$running" 2>/dev/null || :
	[ -z "$running" ] || wait "$running" 2>/dev/null || :
	running=
}
clean_up() {
	stop_running
	drop_other_database few
	rm -rf "$work"
}
trap clean_up EXIT
cd "$work"

# ---- memory against clients

in_megabytes() {
	awk '{printf "%.2f", $1 / 1048576}'
}

# The private memory of the benchmark's backends, in bytes each: no shared memory, not the program, and
# of pages that the postmaster has as well only their share.
private_bytes() {
	local pid

	for pid in $(sql "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'"); do
		awk '/^Pss_Anon:/ {print $2 * 1024}' "/proc/$pid/smaps_rollup"
	done | awk '{sum += $1} END {printf "%.0f", sum / NR}'
}
# The private memory once each client has run a script: sets private.
private_with() { # CLIENTS SCRIPT LAST-STATEMENT
	PGAPPNAME=pgbench pgbench -n -M prepared -c "$1" -j 1 -T 600 -f "$2" >/dev/null 2>&1 &
	running=$!
	wait_for 60 "SELECT count(*) = $1 FROM pg_stat_activity WHERE application_name = 'pgbench' AND state = 'idle'
		AND query LIKE '$3%'"
	private=$(private_bytes | in_megabytes)
	stop_running
	wait_for 60 "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench')"
}
memory() {
	local clients shared private

	printf '%s\n' "\\set i random(1, $smallest)" "SELECT session_get('s' || :i, 'bench');" \
		"SELECT session_save('s' || :i, jsonb_build_object('n', :i::int, 'text', slice(70)), namespace => 'bench');" '\sleep 500 ms' >both
	printf '%s\n' 'SELECT 1;' '\sleep 500 ms' >nothing
	shared=$(sql "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'session_store%'" | in_megabytes)
	for clients in $(scale '1 10 50 100 200' '1 5'); do
		point memory 'shared memory of the extension' "$clients" "$shared"
		private_with "$clients" both 'SELECT session_save'
		point memory 'private memory of a backend' "$clients" "$private"
		private_with "$clients" nothing 'SELECT 1'
		point memory 'private memory of one that has only done SELECT 1' "$clients" "$private"
		progress "memory with $clients clients"
	done
}

# ---- how far Redis is behind, against load

lag() {
	local client=./client percent most answer saves p50 p99 seconds

	seconds=$(scale "$SECONDS_EACH" 0.3)
	build_client
	set_server session_store.redis_url "'unix://$SS_REDIS_SOCKET'"
	sql "UPDATE session_namespaces SET cache = 'all' WHERE name = 'bench'"
	wait_for 30 "SELECT session_health() #>> '{cache,state}' = 'running'"
	most=$("$client" save 4 "$seconds" "$smallest" | awk '{print $1}')
	for percent in $(scale '10 25 50 75 90 100 0' '50 0'); do
		# five clients that save at a rate (0: without a limit), of which one waits for its copies
		answer=$("$client" -r "$((most * percent / 100))" lag 5 "$seconds" "$smallest")
		read -r saves p50 p99 _ <<<"$answer"
		point lag p50 "$saves" "$(awk -v us="$p50" 'BEGIN {print us / 1000}')"
		point lag p99 "$saves" "$(awk -v us="$p99" 'BEGIN {print us / 1000}')"
		progress "lag at $saves saves a second: $p50 us, p99 $p99 us"
	done
	sql "UPDATE session_namespaces SET cache = 'off' WHERE name = 'bench'"
	sql "SELECT session_cache_sync('30 seconds')" >/dev/null
	set_server session_store.redis_url "''"
	wait_for 30 "SELECT (session_health() #>> '{cache,configured}') = 'false'"
}

# ---- appends against the length of the history

appends() {
	local length n value

	create_hand_table hand
	sql "CREATE FUNCTION message() RETURNS jsonb LANGUAGE sql VOLATILE AS \$\$
		SELECT jsonb_build_object('role', 'user', 'content', slice(150 + (random() * 50)::int)) \$\$"
	for length in $(scale '10 100 1000 10000 100000' '10 100'); do
		# many short ones, so that they stay short
		n=$((2000 / length + 1))
		sql "SELECT count(session_append('a$length-' || i, (SELECT jsonb_agg(message()) FROM generate_series(1, $length)
			WHERE i > 0), namespace => 'bench')) FROM generate_series(1, $n) i" >/dev/null
		printf '%s\n' "\\set i random(1, $n)" "SELECT session_append('a$length-' || :i, message(), namespace => 'bench');" >append
		value=$(bench_p50 500 append)
		point append 'session_append' "$length" "$value"
		progress "append after $length messages"
		[ "$length" -le 10000 ] || continue
		sql "INSERT INTO hand (session_id, session_data, expires_at)
			SELECT 'a$length-' || i, (SELECT jsonb_agg(message()) FROM generate_series(1, $length) WHERE i > 0), now() + interval '1 day'
			FROM generate_series(1, $n) i"
		printf '%s\n' "\\set i random(1, $n)" "UPDATE hand SET session_data = jsonb_insert(session_data, '{-1}', message(), true),
			updated_at = now(), expires_at = now() + interval '1 day' WHERE session_id = 'a$length-' || :i;" >rewrite
		value=$(bench_p50 $((length < 10000 ? 500 : 50)) rewrite)
		point append 'rewriting a document of them by hand' "$length" "$value"
	done
	sql "DROP TABLE hand"
	sql "SELECT session_clear('bench', 'a%')" >/dev/null
}

# ---- everything against the number of sessions

# Adds sessions from one number to another, and expired ones among them: a tenth of all living ones.
grow() { # FROM TO
	begin_load
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, ttl, created_at, updated_at, expires_at, check_at)
		SELECT 'bench', CASE WHEN dead THEN 'd' ELSE 's' END || i, jsonb_build_object('n', i, 'text', md5(i::text) || md5(($2 - i)::text)),
			'owner' || $1 / 100 + i % (($2 - $1) / 100), '1 day', now() + i * interval '1 us', now(), ends, ends
		FROM generate_series($1 + 1, $2) i,
			LATERAL (SELECT dead, now() + CASE WHEN dead THEN interval '-1 hour' ELSE interval '1 day' + i * interval '1 us' END
				FROM unnest(CASE WHEN i::bigint * $2 / 10 / ($2 - $1) > (i::bigint - 1) * $2 / 10 / ($2 - $1) THEN '{f,t}' ELSE '{f}' END::bool[]) dead) ends (dead, ends)"
	end_load
}
# Reads all pages of table and indexes into memory.
warm() {
	if [ "$(sql "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_prewarm'")" = 0 ]; then
		sql "SET enable_indexscan = off; SELECT count(session_data) FROM conversation_sessions"
		sql "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(session_data) FROM conversation_sessions
			WHERE namespace = 'bench' AND session_id > ''"
		return 0
	fi >/dev/null
	sql "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS pg_prewarm"
	sql "SELECT sum(pg_prewarm(c)) FROM (SELECT 'conversation_sessions'::regclass UNION ALL
		SELECT indexrelid FROM pg_index WHERE indrelid = 'conversation_sessions'::regclass) s (c)" >/dev/null
}
prepare_database() {
	create_map_functions
	create_slice_function
	sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
	# in transactions of their own, until nothing is due; after a first row, for which the plans are
	# made
	sql "CREATE PROCEDURE purge_all(INOUT seconds float = 0) LANGUAGE plpgsql AS \$\$
		DECLARE start timestamptz;
		BEGIN
			PERFORM session_purge(1);
			COMMIT;
			start := clock_timestamp();
			WHILE session_purge() = 10000 LOOP
				COMMIT;
			END LOOP;
			seconds := extract(epoch FROM clock_timestamp() - start);
		END \$\$"
}

# Rows per second when purging expired sessions, without the keeper's limit
purge_rate() {
	local dead

	dead=$(sql "SELECT count(*) FROM conversation_sessions WHERE check_at < now()")
	awk -v rows=$((dead - 1)) -v seconds="$(sql "CALL purge_all()")" 'BEGIN {printf "%.0f", rows / seconds}'
	[ "$(sql "SELECT count(*) FROM conversation_sessions WHERE check_at < now()")" = 0 ]
}
sessions() {
	local from=0 size value

	mapped_script get '\set i random(1, :size)' "SELECT session_get('s' || :i, 'bench');"
	mapped_script save '\set i random(1, :size)' \
		"SELECT session_save('s' || :i, jsonb_build_object('n', :i::int, 'text', slice(70)), namespace => 'bench');"
	mapped_script list '\set i random(0, :size / 100 - 1)' "SELECT * FROM session_list('owner' || :i, namespace => 'bench');"
	for ((size = smallest; size <= largest; from = size, size *= 10)); do
		grow "$from" "$size"
		warm
		sql "CHECKPOINT"
		progress "$size sessions"
		value=$(purge_rate)
		point purge session_purge "$size" "$value"
		sql "VACUUM conversation_sessions"
		value=$(mapped_p50 "$times" get -D size="$size")
		point sessions session_get "$size" "$value"
		value=$(mapped_p50 "$times" list -D size="$size")
		point sessions 'session_list of 50' "$size" "$value"
		value=$(mapped_p50 "$times" save -D size="$size")
		point sessions session_save "$size" "$value"
		progress "$size sessions: measured"
	done
}
pages_read() {
	sql "SELECT sum(heap_blks_read + idx_blks_read) FROM pg_statio_user_tables WHERE relname = 'conversation_sessions'"
}
get_among() { # DATABASE SESSIONS
	PGDATABASE=$1 mapped_p50 "$times" get -D size="$2"
}

prepare_database
# 600 bytes for each session with its indexes
room=$(sql "SELECT setting::bigint * 8192 / 600 FROM pg_settings WHERE name = 'shared_buffers'")
full=$largest
while [ "$largest" -gt "$room" ]; do
	largest=$((largest / 10))
done
sql "SELECT count(session_save('s' || i, '{}', namespace => 'bench')) FROM generate_series(1, $smallest) i" >/dev/null
set_server synchronous_commit off
memory
lag
set_server autovacuum off
set_server session_store.purge_interval 0
appends
# with the messages, because the purge would find those as well
sql "TRUNCATE conversation_sessions, conversation_history, conversation_history_ended"
sessions
if [ "$largest" -lt "$full" ]; then
	skip "no memory for $full sessions"
fi
create_other_database few
PGDATABASE=few prepare_database
PGDATABASE=few grow 0 "$few"
PGDATABASE=few sql "CALL purge_all()" >/dev/null
PGDATABASE=few warm
warm
before=$(pages_read)
alternate scale-get "get_among $PGDATABASE $largest" "get_among few $few"
progress "pages that were not in memory meanwhile: $(($(pages_read) - before))"
