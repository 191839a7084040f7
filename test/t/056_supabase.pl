# A role without superuser that administers the extension, like "postgres" of Supabase: what
# packaging/supabase/after-create.sql grants, and what docs/supabase.md says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('supabase', extension => 0);
my $script = slurp_file("$FindBin::RealBin/../../packaging/supabase/after-create.sql");
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

# supautils creates the extension and runs the script as a superuser, on behalf of the role that has
# logged in. Here a function of the superuser does so.
sub create_as_tenant
{
	my ($dbname, $schema) = @_;

	$node->safe_psql($dbname, <<"EOS");
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.run(command text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS \$\$BEGIN EXECUTE command; END\$\$;
GRANT USAGE ON SCHEMA hidden TO tenant;
SET SESSION AUTHORIZATION tenant;
SELECT hidden.run('CREATE EXTENSION session_store SCHEMA $schema');
SELECT hidden.run(\$script\$$script\$script\$);
RESET SESSION AUTHORIZATION;
DROP SCHEMA hidden CASCADE;
EOS
	wait_for_keeper($node, $dbname);
	return;
}

sub as_tenant
{
	my ($dbname, $sql) = @_;

	return $node->safe_psql($dbname, $sql, extra_params => [ '-U', 'tenant' ]);
}

# Privileges of other roles than the tenant on the objects of the extension and its schema.
sub granted_to_others
{
	my ($dbname) = @_;

	return $node->safe_psql($dbname, q{
WITH extension AS (SELECT oid, extnamespace FROM pg_extension WHERE extname = 'session_store'),
object AS (
	SELECT 'function ' || p.proname AS name, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
	FROM extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.objid
	UNION ALL
	SELECT 'relation ' || c.relname, coalesce(c.relacl, acldefault('r', c.relowner))
	FROM extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_class'::regclass JOIN pg_class c ON c.oid = d.objid
	UNION ALL
	SELECT 'schema', coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM extension e JOIN pg_namespace n ON n.oid = e.extnamespace)
SELECT name || ': ' || g.privilege_type || ' to ' || coalesce(r.rolname, 'PUBLIC')
FROM object, aclexplode(acl) g LEFT JOIN pg_roles r ON r.oid = g.grantee WHERE r.rolname IS DISTINCT FROM 'tenant' ORDER BY 1});
}

# dump or restore, as that role
sub run_as_tenant
{
	my ($what, @command) = @_;
	my ($out, $err) = ('', '');

	ok(IPC::Run::run([ @command[ 0, 1 ], '-h', $node->host, '-p', $node->port, '-U', 'tenant', @command[ 2 .. $#command ] ],
			'<', \'', '>', \$out, '2>', \$err), $what) or diag($err);
	return $err;
}

$node->safe_psql('postgres', <<'EOS');
CREATE ROLE tenant LOGIN CREATEROLE CREATEDB BYPASSRLS;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon, authenticated TO authenticator;
CREATE DATABASE restored OWNER tenant;
CREATE SCHEMA extensions;
EOS
$node->safe_psql('restored', 'CREATE SCHEMA extensions');
create_as_tenant('postgres', 'extensions');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('plain', 'CREATE SCHEMA extensions; CREATE EXTENSION session_store SCHEMA extensions');

# ---- what the role may do

is(granted_to_others('postgres'), granted_to_others('plain'), 'the script grants other roles nothing');
as_tenant('postgres', <<'EOS');
SET search_path = extensions;
INSERT INTO session_namespaces (name, audit) VALUES ('chat', true);
SELECT session_save('a', '{"n": 1}', owner => 'ann', namespace => 'chat'), session_append('a', '[{"m": 1}, {"m": 2}]', namespace => 'chat');
SELECT session_save('b', '{}'), session_delete('b');
GRANT USAGE ON SCHEMA extensions TO authenticated;
GRANT EXECUTE ON FUNCTION session_save, session_get TO authenticated;
EOS
is(as_tenant('postgres', 'SELECT extensions.session_health() IS NOT NULL, count(*) >= 0 FROM extensions.session_stats'), 't|t', 'health and stats');
is($node->safe_psql('postgres', q{SET ROLE authenticated; SELECT extensions.session_get('a', 'chat')}), '{"n": 1}', 'the role grants functions to others');
for my $privilege (qw(TRIGGER REFERENCES TRUNCATE))
{
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relnamespace = 'extensions'::regnamespace AND relkind = 'r' AND has_table_privilege('tenant', oid, '$privilege')"),
		'0', "no $privilege: code of the role's never runs as the owner");
}
my ($rc, undef, $err) = $node->psql('postgres', 'SELECT extensions.session_clear(NULL)', extra_params => [ '-U', 'authenticator' ]);
isnt($rc, 0, '.. nor may other roles call the functions that the role administers');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'extensions'::regnamespace AND prorettype <> 'trigger'::regtype AND NOT has_function_privilege('tenant', oid, 'EXECUTE WITH GRANT OPTION')}),
	'0', 'no function is missing');

# ---- dump and restore

run_as_tenant('pg_dump', 'pg_dump', '-Fc', '-f', $dump, 'postgres');
create_as_tenant('restored', 'extensions');
run_as_tenant('pg_restore of the rows', 'pg_restore', '--data-only', '-d', 'restored', $dump);
is(as_tenant('restored', q{SELECT extensions.session_get('a', 'chat')}), '{"n": 1}', 'a session arrives');
is(as_tenant('restored', q{SELECT count(*) FROM extensions.session_history('a', namespace => 'chat')}), '2', 'its messages arrive');
is(as_tenant('restored', q{SELECT dead_until IS NOT NULL FROM extensions.conversation_sessions WHERE session_id = 'b'}), 't', 'a tombstone arrives');

# One schema: the rows come with it, the extension only with -e.
run_as_tenant('pg_dump -n -e', 'pg_dump', '-Fc', '-f', "$dump.schema", '-n', 'extensions', '-e', 'session_store', 'postgres');
my $contents = `pg_restore -l '$dump.schema'`;
like($contents, qr/EXTENSION - session_store/, '.. creates the extension');
like($contents, qr/TABLE DATA extensions conversation_sessions/, '.. has the rows');
run_as_tenant('pg_dump -n alone', 'pg_dump', '-Fc', '-f', "$dump.bare", '-n', 'extensions', 'postgres');
$contents = `pg_restore -l '$dump.bare'`;
unlike($contents, qr/EXTENSION - session_store/, '.. does not create the extension');
like($contents, qr/TABLE DATA extensions conversation_sessions/, '.. has the rows');

# ---- the namespace of a call that names none

$node->safe_psql('postgres', q{ALTER ROLE authenticated SET session_store.namespace = 'chat'});
sub as_authenticated
{
	my ($before) = @_;

	return $node->safe_psql('postgres', "BEGIN; SET LOCAL ROLE authenticated; $before SELECT extensions.session_get('a') IS NOT NULL; COMMIT", extra_params => [ '-U', 'authenticator' ]);
}
is(as_authenticated(''), 'f', 'ALTER ROLE .. SET does not act under SET LOCAL ROLE');
is(as_authenticated("SET LOCAL session_store.namespace = 'chat';"), 't', 'SET LOCAL does');
$node->safe_psql('postgres', q{ALTER ROLE authenticator SET session_store.namespace = 'chat'});
is(as_authenticated(''), 't', '.. and ALTER ROLE of the role that logs in');

# ---- another schema

($rc, undef, $err) = $node->psql('postgres', 'ALTER EXTENSION session_store SET SCHEMA public');
like($err, qr/does not support SET SCHEMA/, 'SET SCHEMA is refused');

leave_nothing($node);
done_testing();
