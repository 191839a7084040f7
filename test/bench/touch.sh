#!/usr/bin/env bash
# Keeping sessions alive: what an access logs, and how many there are in a second.
#
# Ours are session_touch and session_get in a sliding namespace, the other side an UPDATE of
# expires_at by every access (of documents of 1 KB, with an index on expires_at, as the cleanup
# needs it). 10,000 sessions with the default ttl of an hour, which makes a slack of 5 minutes.
#
# A round stands for one slack of sessions that are in use: each was last written a slack ago,
# and is accessed a hundred times, at random: every three seconds, as a page that polls or a chat does. A
# second comparison has ten accesses in a slack. The first access moves its expiry by the slack, so the keeper
# writes it, and those that follow stay noted until the next round. So all is counted that those
# accesses ever make the keeper write: the measurement ends when it has written every session that was
# accessed. A session that ends is written once more; that is not counted, nor is its deletion on either side.
#
# Accesses come from a procedure that commits after each, so that there are enough of them; what
# they log hardly differs from round to round, so there are three.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

speed_rounds=$ROUNDS
ROUNDS=$((ROUNDS < 3 ? ROUNDS : 3))
sessions=$(scale 10000 100)
updates=$sessions	# each access logs the same, so fewer are enough
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

progress "$sessions sessions of 1 KB"
create_slice_function
create_hand_table hand
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', true, 'off')"
sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at)
	SELECT 'bench', 's' || i, sliced_document(1024, i), '1 hour', now() + interval '50 minutes' FROM generate_series(1, $sessions) i"
sql "INSERT INTO hand (session_id, session_data, expires_at)
	SELECT session_id, session_data, expires_at FROM conversation_sessions"
sql "VACUUM ANALYZE"
quiet_server

access_by() { # NAME STATEMENT: a procedure NAME(n), each of whose accesses is a transaction
	sql "CREATE PROCEDURE $1(n int) LANGUAGE plpgsql AS \$\$
		DECLARE id text;
		BEGIN
			FOR k IN 1 .. n LOOP
				id := 's' || 1 + floor(random() * $sessions)::int;
				$2;
				COMMIT;
			END LOOP;
		END \$\$"
}
access_by touches "PERFORM session_touch(id, namespace => 'bench')"
access_by gets "PERFORM session_get(id, 'bench')"
access_by updates "UPDATE hand SET expires_at = now() + interval '1 hour' WHERE session_id = id"
set_server synchronous_commit off

# Makes all sessions as if they had been written one slack ago; says when they end now. The work of
# vacuum is not counted.
age() {
	sql "UPDATE conversation_sessions SET expires_at = now() + interval '55 minutes'"
	sql "VACUUM conversation_sessions"
	sql "SELECT expires_at FROM conversation_sessions LIMIT 1"
}

# Runs accesses until the keeper has written each session that was accessed.
access() { # PROCEDURE ACCESSES END
	sql "CALL $1($2)"
	wait_for 60 "SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE expires_at = '$3'
		AND session_ttl(session_id, 'bench') > timestamptz '$3' - clock_timestamp() + interval '1 minute')"
}
log_of() { # PROCEDURE ACCESSES-OF-A-SESSION
	local end dropped accesses=$((sessions * $2))

	end=$(age)
	dropped=$(sql "SELECT session_health() #>> '{touches,dropped}'")
	wal_per "$accesses" access "$1" "$accesses" "$end"
	[ "$(sql "SELECT session_health() #>> '{touches,dropped}'")" = "$dropped" ] || progress "$1: some accesses were not noted"
}
log_of_updates() {
	wal_per "$updates" sql "CALL updates($updates)"
}

# the first update of a full page differs from those that follow
log_of_updates >/dev/null
alternate touch-wal "log_of touches 100" log_of_updates
alternate sliding-wal "log_of gets 100" log_of_updates
alternate touch-wal-10 "log_of touches 10" log_of_updates
head="\\set i random(1, $sessions)"
printf '%s\n' "$head" "SELECT session_touch('s' || :i, namespace => 'bench');" >touch
printf '%s\n' "$head" "UPDATE hand SET expires_at = now() + interval '1 hour' WHERE session_id = 's' || :i;" >update
ROUNDS=$speed_rounds
alternate touch-speed "bench_tps prepared 1 touch" "bench_tps prepared 1 update"
