#!/usr/bin/env bash
# A page of an owner's sessions among many and among few.
#
# The median latency of session_list of 50 sessions of one owner, who has 100, prepared, one client:
# among 1,000,000 sessions of 10,000 owners, against 10,000 of 100. Documents are small. Each
# has a database of its own, so that the indexes of the few are no deeper than theirs; the
# sessions of an owner lie scattered over the table in both.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

many=$(scale 1000000 10000)
few=$(scale 10000 1000)
work=$(mktemp -d)
trap 'drop_other_database few; rm -rf "$work"' EXIT
cd "$work"

fill() { # SESSIONS
	sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bench', 'bench:', false, 'off')"
	sql "INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, ttl, created_at, expires_at)
		SELECT 'bench', 's' || i, jsonb_build_object('n', i), 'owner' || i % ($1 / 100), '1 day',
			now() - interval '1 hour' + i * interval '1 us', now() + interval '1 day' FROM generate_series(0, $1 - 1) i"
	sql "VACUUM ANALYZE"
	create_map_functions
}

page() { # DATABASE SESSIONS
	PGDATABASE=$1 mapped_p50 "$(scale 5000 100)" list -D "owners=$(($2 / 100))"
}
mapped_script list '\set i random(0, :owners - 1)' "SELECT * FROM session_list('owner' || :i, namespace => 'bench');"

progress "$many sessions and $few"
fill "$many"
create_other_database few
PGDATABASE=few fill "$few"
[ "$(sql "SELECT count(*) FROM session_list('owner3', namespace => 'bench')")" = 50 ]
sql "CHECKPOINT"
alternate list-scale "page $PGDATABASE $many" "page few $few"
