#!/usr/bin/env bash
# What it costs to check who may, for a plain role of a backend.
#
# session_get of one of 1,000 sessions by a role that is no superuser, prepared, one client: the
# time of a call in a namespace with allowed_roles (access-roles), in one with owner_isolation by
# a role with BYPASSRLS (access-service), and there by a caller with claims (access-claims), each
# against that in a namespace without any rule.
#
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d)
# roles belong to the server, which other benchmarks use as well
drop_roles() {
	sql "DROP OWNED BY bench_plain, bench_service; DROP ROLE bench_plain, bench_service"
}
trap 'drop_roles; rm -rf "$work"' EXIT
cd "$work"

sql "CREATE ROLE bench_plain LOGIN; CREATE ROLE bench_service LOGIN BYPASSRLS"
sql "GRANT EXECUTE ON FUNCTION session_get TO bench_plain, bench_service"
sql "INSERT INTO session_namespaces (name, key_prefix, sliding, cache, owner_isolation, allowed_roles) VALUES
	('free', 'free:', false, 'off', false, NULL), ('roles', 'roles:', false, 'off', false, '{bench_plain}'),
	('isolated', 'isolated:', false, 'off', true, NULL)"
create_slice_function
sql "SELECT count(session_save('s' || i, sliced_document(1024, i), owner => 'ada', namespace => n))
	FROM generate_series(1, 1000) i, unnest(ARRAY['free', 'roles', 'isolated']) n" >/dev/null
sql "VACUUM ANALYZE"
for namespace in free roles isolated; do
	printf '%s\n' '\set i random(1, 1000)' "SELECT session_get('s' || :i, '$namespace');" >"$namespace"
done

# calls ROLE NAMESPACE [CLAIMS]
calls() {
	PGUSER=$1 PGOPTIONS=${3:+-c request.jwt.claims=$3} bench_us prepared "$2"
}

# a session that is not visible costs less than one that is
[ "$(PGUSER=bench_plain PGOPTIONS='-c request.jwt.claims={"sub":"ada"}' sql "SELECT session_get('s1', 'isolated') IS NOT NULL")" = t ]
[ "$(PGUSER=bench_service sql "SELECT session_get('s1', 'isolated') IS NOT NULL")" = t ]

alternate access-roles "calls bench_plain roles" "calls bench_plain free"
alternate access-service "calls bench_service isolated" "calls bench_plain free"
alternate access-claims 'calls bench_plain isolated {"sub":"ada"}' "calls bench_plain free"
