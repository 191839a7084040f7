#!/usr/bin/env bash
# What it costs to check who may, for a plain role of a backend.
#
# session_get of one of 1,000 sessions by a role that is no superuser, prepared, one client. In turns:
# a namespace without any rule; one with allowed_roles; one with owner_isolation, by a role with
# BYPASSRLS (a service); one with owner_isolation, by a caller with claims. Printed: the median of the
# time of each over the rounds, and its ratio to that of the namespace without rules.
#
#   ROUNDS (7)  SECONDS (2)
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

ROUNDS=${ROUNDS:-7}
SECONDS_EACH=${SECONDS_EACH:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

sql "CREATE EXTENSION IF NOT EXISTS session_store" 2>/dev/null
sql "DO \$\$ BEGIN
	CREATE ROLE bench_plain LOGIN; CREATE ROLE bench_service LOGIN BYPASSRLS;
	EXCEPTION WHEN duplicate_object THEN NULL; END \$\$"
sql "GRANT EXECUTE ON FUNCTION session_get TO bench_plain, bench_service"
sql "INSERT INTO session_namespaces (name, sliding, cache, owner_isolation, allowed_roles) VALUES
	('free', false, 'off', false, NULL), ('roles', false, 'off', false, '{bench_plain}'), ('isolated', false, 'off', true, NULL)
	ON CONFLICT DO NOTHING"
sql "SELECT count(session_save('s' || i, jsonb_build_object('text', repeat(md5(i::text), 32)), owner => 'ada', namespace => n))
	FROM generate_series(1, 1000) i, unnest(ARRAY['free', 'roles', 'isolated']) n" >/dev/null
for namespace in free roles isolated; do
	printf '\\set i random(1, 1000)\nSELECT session_get($$s$$ || :i, $$%s$$);\n' "$namespace" >"$namespace.sql"
done

# microseconds of a call: ROLE NAMESPACE [CLAIMS]
measure() {
	PGUSER=$1 PGOPTIONS=${3:+-c request.jwt.claims=$3} pgbench -n -M prepared -c 1 -T "$SECONDS_EACH" -f "$2.sql" 2>/dev/null |
		sed -n 's/^latency average = \([0-9.]*\) ms/\1/p' | awk '{print $1 * 1000}'
}

for ((round = 1; round <= ROUNDS; round++)); do
	measure bench_plain free >>free
	measure bench_plain roles >>roles
	measure bench_service isolated >>service
	measure bench_plain isolated '{"sub":"ada"}' >>claims
done
none=$(median <free)
row() {
	printf '%-52s %8.1f us  %s\n' "$1" "$(median <"$2")" "$(ratio "$(median <"$2")" "$none")"
}
row "no rule" free
row "allowed_roles" roles
row "owner_isolation, a service with BYPASSRLS" service
row "owner_isolation, a caller with claims" claims
