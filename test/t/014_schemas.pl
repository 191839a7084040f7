# The extension in any schema; dropped and created again in another one, while backends have
# plans for the functions and cached policies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('schemas', extension => 0);
my $odd = '"An odd.Schema; -"';	# the server allows neither quotes nor comments in it

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value("CREATE SCHEMA $odd; CREATE SCHEMA second");
value("CREATE EXTENSION session_store SCHEMA $odd");
wait_for_keeper($node, 'postgres', what => 'a keeper, whatever the schema', timeout => 3);

# the caller's search_path does not matter
for my $path (q{''}, 'pg_catalog', 'second', "pg_temp, second, $odd")
{
	is(value("SET search_path = $path; SELECT $odd.session_save('a', '{\"n\": 1}') > 0; SELECT $odd.session_get('a')"), qq[t\n{"n": 1}],
		"search_path = $path");
	is(value("SET search_path = $path; SELECT count(*) >= 1 FROM $odd.session_list(); SELECT $odd.session_health() ->> 'warnings'"), "t\n[]",
		'.. also for lists and health');
}
value("SELECT $odd.session_save('short', '{}', ttl => '300 ms')");
wait_for($node, "SELECT count(*) = 0 FROM $odd.conversation_sessions WHERE session_id = 'short'", 'the keeper purges there', timeout => 10);

# the extension cannot be moved to another schema; if it could, it would have to work there
my ($rc) = $node->psql('postgres', 'ALTER EXTENSION session_store SET SCHEMA second');
my $schema = value(q{SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'session_store'});
is(value("SELECT $schema.session_get('a')"), '{"n": 1}', $rc ? 'SET SCHEMA is refused' : 'SET SCHEMA works');

# an open session with prepared statements, plans of PL/pgSQL and known policies
my $psql = $node->background_psql('postgres', on_error_stop => 0);
$psql->query_safe("SET search_path = second, $odd, public");
$psql->query_safe(q{PREPARE get AS SELECT session_get('a')});
$psql->query_safe(q{CREATE FUNCTION public.via() RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN session_get('a'); END $$});
is($psql->query_safe('EXECUTE get; EXECUTE get; EXECUTE get; EXECUTE get; EXECUTE get; EXECUTE get; SELECT via()'),
	join("\n", ('{"n": 1}') x 7), 'an open session reads');
$psql->query_safe("INSERT INTO $schema.session_namespaces (name, key_prefix) VALUES ('gone', 'gone:')");
$psql->query_safe(q{SELECT session_save('a', '{}', namespace => 'gone')});

value('DROP EXTENSION session_store');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'session_store keeper'}, 'dropped: no keeper', timeout => 5);
my ($out) = $psql->query('EXECUTE get');
# not every version of BackgroundPsql returns an empty string for an empty result: the result contains
# no document
unlike($out // '', qr/\{"n"/, 'what is dropped answers no more');
$psql->{stderr} = '';

my $second = $schema eq 'second' ? $odd : 'second';
value("CREATE EXTENSION session_store SCHEMA $second");
wait_for_keeper($node, 'postgres', what => 'created elsewhere: a keeper', timeout => 5);
is($psql->query(q{SELECT session_save('a', '{"n": 2}')}), '1', 'the open session saves to the new one');
is($psql->query('EXECUTE get'), '{"n": 2}', 'its prepared statement reads there');
is($psql->query('SELECT via()'), '{"n": 2}', 'and its function');
like($psql->query(q{SELECT session_get('a', namespace => 'gone'); \echo :LAST_ERROR_SQLSTATE}) // '', qr/42704/, 'the old policies are gone');
$psql->{stderr} = '';
$psql->quit;
value("SELECT $second.session_save('short', '{}', ttl => '300 ms')");
wait_for($node, "SELECT count(*) = 0 FROM $second.conversation_sessions WHERE session_id = 'short'", 'and the keeper purges there', timeout => 10);

# refused for a role that is no superuser
value('CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain');
value('DROP EXTENSION session_store');
is(sqlstate($node, 'SET ROLE plain; CREATE EXTENSION session_store'), '42501', 'a superuser creates it');

# objects of another role prevent CREATE EXTENSION and are not used
value('CREATE SCHEMA hostile; CREATE TABLE hostile.conversation_sessions (x int)');
isnt(sqlstate($node, 'CREATE EXTENSION session_store SCHEMA hostile'), '00000', 'an existing name is an error');
is(value(q{SELECT count(*) FROM pg_extension WHERE extname = 'session_store'}), '0', '.. and nothing is left behind');

leave_nothing($node);
done_testing();
