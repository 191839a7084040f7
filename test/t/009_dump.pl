# Dump and restore in all usual ways: rows, policies and events are restored unchanged, including
# versions, tombstones and timestamps, while the workers run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('dump', extension => 0, init => { allows_streaming => 1, extra => [ '--encoding=UTF8', '--no-locale' ] },
	conf => "max_worker_processes = 32\n");
my $dumps = PostgreSQL::Test::Utils::tempdir();

# ---- the data to be restored

sub content
{
	my ($at, $dbname, $schema) = @_;
	my %sum;

	$schema //= 'public';
	for my $table (qw(conversation_sessions conversation_history session_members session_operations session_namespaces session_events))
	{
		$sum{$table} = $at->safe_psql($dbname, <<"EOS");
SELECT count(*) || ' rows, ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM $schema.$table t
EOS
	}
	return \%sum;
}

sub make_origin
{
	my ($dbname, $schema) = @_;
	my $in = defined $schema ? "SCHEMA $schema" : '';

	$schema //= 'public';
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, "CREATE SCHEMA $schema") if $schema ne 'public';
	$node->safe_psql($dbname, <<"EOS");
CREATE EXTENSION session_store $in;
SET search_path = $schema, pg_catalog;
INSERT INTO session_namespaces (name, key_prefix, ttl, audit, tombstone, max_sessions_per_owner, allowed_roles)
	VALUES ('default', 'session:', '2 days', true, '1 hour', NULL, NULL),
		('chat', 'chat:', '1 hour', true, '10 minutes', 100, NULL),
		('strange', 'a\\tb ''" \\\\', '90 minutes', false, '0', NULL, '{postgres,"no such role"}');
SELECT session_save('s' || i, jsonb_build_object('n', i, 'text', E'tab\\tnew\\nline \\\\ "quoted" \\u00e4'), owner => 'u' || i % 7)
	FROM generate_series(1, 300) i;
SELECT session_save('s' || i, '{"again": true}') FROM generate_series(1, 300, 3) i;
SELECT session_touch('s' || i, '3 days') FROM generate_series(1, 300, 10) i;
SELECT session_delete('s' || i) FROM generate_series(1, 300, 25) i;
SELECT session_append('s' || i, jsonb_build_array(jsonb_build_object('text', E'tab\\tnew\\nline \\\\ "quoted"'), '{}'::jsonb), 'op ' || i) FROM generate_series(2, 300, 5) i WHERE session_exists('s' || i);
SELECT session_append('s2', '{"m": 3}'), session_pop('s2'), session_share('s2', 'bob', 'editor'), session_fork('s2', 'fork');
SELECT session_compact('s7', 1, '{"text": "tab\\t\\"quoted\\""}'), session_compact('s12', 2, to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)));
SELECT session_regenerate('s2'), session_delete_all('u3');
SELECT session_turn_begin('s' || i, '1 day', holder => 'agent ' || i) FROM generate_series(4, 300, 6) i WHERE session_exists('s' || i);
SELECT session_turn_end(session_id, turn) FROM conversation_sessions WHERE turn_holder LIKE '%0';
SELECT session_save('chat' || i, 'null', owner => 'v', namespace => 'chat', ttl => '36500 days') FROM generate_series(1, 20) i;
SELECT session_save('large', jsonb_build_object('a', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 20000) i)));
UPDATE conversation_sessions SET version = 4711 WHERE session_id = 's6';
UPDATE conversation_sessions SET created_at = '2020-02-29 12:00+00' WHERE session_id = 's9';
EOS
	wait_for_keeper($node, $dbname);
	wait_for($node, "SELECT count(*) = 0 FROM $schema.conversation_sessions WHERE $schema.session_effective_expiry(namespace, session_id, expires_at) > expires_at + least(ttl / 8, '5 minutes')",
		'pending touches are written', db => $dbname, quiet => 1);
	# sessions that have ended are not part of the comparison
	wait_for($node, "SELECT count(*) = 0 FROM $schema.conversation_history_ended", 'expired sessions are purged', db => $dbname, quiet => 1);
	return content($node, $dbname, $schema);
}

sub dump_it
{
	my ($dbname, $name, @options) = @_;

	run_ok("pg_dump @options", $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, '-d', $dbname, '-f', "$dumps/$name", @options);
	return "$dumps/$name";
}

sub psql_file
{
	my ($dbname, $file) = @_;

	return run_ok('psql restores it', $node->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', $dbname, '-f', $file);
}

sub fresh
{
	my ($dbname, $extension) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	create_extension($node, $dbname) if $extension;
	return;
}

my $origin = make_origin('origin');
diag("$_: $origin->{$_}") for sort keys %$origin;
like($origin->{conversation_history}, qr/^[1-9]\d+ rows/, 'there are messages');
like($origin->{session_members}, qr/^1 rows/, '.. and a member');
cmp_ok($origin->{session_events} =~ s/ rows.*//r, '>', 100, 'there are events');

my $no_such_role = qr/^\["allowed_roles of namespace strange names \\"no such role\\"[^"]*"\]$/;

# ---- full, into a fresh database

my $full = dump_it('origin', 'full.sql');
fresh('whole');
psql_file('whole', $full);
is_deeply(content($node, 'whole'), $origin, 'full dump, fresh database: nothing is missing, nothing differs');
wait_for_keeper($node, 'whole', what => 'a keeper for the restored database', timeout => 5);
like(health($node, 'warnings', 'whole'), $no_such_role, 'and health names the role that does not exist, no more');

# It works as before: versions continue, dead ids stay dead, policies apply.
is($node->safe_psql('whole', q{SELECT session_save('s6', '{}')}), '4712', 'versions continue');
is(sqlstate($node, q{SELECT session_save('s26', '{}')}, db => 'whole'), 'SST10', 'a tombstone stands');
is($node->safe_psql('whole', q{SELECT session_save('new', '{}'); SELECT ttl = '2 days' FROM conversation_sessions WHERE session_id = 'new'}), "1\nt",
	'the policy of default applies');
is($node->safe_psql('whole', q{SELECT session_get('chat1', namespace => 'chat')}), 'null', 'a namespace of its own');
is($node->safe_psql('whole', q{SELECT string_agg(seq::text, ' ') FROM session_history('fork'); SELECT session_append('fork', '{}')}), "1 2\n4", 'a history is read and goes on, under seqs that were never used');
is($node->safe_psql('whole', q{SELECT session_append('s7', '[{"text": "tab\\tnew\\nline \\\\ \\"quoted\\""}, {}]', 'op 7')}), '2', 'a repeated append from before the dump is not carried out again');

# ---- full, into a database that has the extension

fresh('has', 1);
psql_file('has', $full);
is_deeply(content($node, 'has'), $origin, 'full dump, a database that has the extension');
like(health($node, 'warnings', 'has'), $no_such_role, 'and health names the role that does not exist, no more');

# ---- data only

my $data = dump_it('origin', 'data.sql', '--data-only');
fresh('data', 1);
psql_file('data', $data);
is_deeply(content($node, 'data'), $origin, 'data only');

# ---- custom format, in parallel, with --clean

my $custom = dump_it('origin', 'custom.dump', '-Fc');
my @restore = ($node->installed_command('pg_restore'), '-h', $node->host, '-p', $node->port);
fresh('custom');
run_ok('pg_restore', @restore, '-d', 'custom', '--exit-on-error', $custom);
is_deeply(content($node, 'custom'), $origin, 'custom format');
fresh('parallel');
run_ok('pg_restore -j 2', @restore, '-d', 'parallel', '-j', '2', '--exit-on-error', $custom);
is_deeply(content($node, 'parallel'), $origin, 'custom format, two at a time');
run_ok('pg_restore --clean over existing rows', @restore, '-d', 'parallel', '--clean', '--if-exists', '--exit-on-error', $custom);
is_deeply(content($node, 'parallel'), $origin, 'restored over itself');
wait_for_keeper($node, 'parallel', what => 'and it has its keeper again', timeout => 5);

# ---- --disable-triggers leaves ALWAYS triggers at ORIGIN

fresh('disabled', 1);
run_ok('pg_restore --data-only --disable-triggers', @restore, '-d', 'disabled', '--data-only', '--disable-triggers', '--exit-on-error', $custom);
is_deeply(content($node, 'disabled'), $origin, 'data only, triggers disabled');
is($node->safe_psql('disabled', q{SELECT count(*) > 0 FROM pg_trigger WHERE tgenabled <> 'A' AND NOT tgisinternal}), 't', 'the triggers are not ENABLE ALWAYS');
my $warnings = health($node, 'warnings', 'disabled');
like($warnings, qr/ALTER TABLE .*ENABLE ALWAYS TRIGGER/, 'health warns and names the command');
my @repairs = $node->safe_psql('disabled', q{SELECT w FROM jsonb_array_elements_text(session_health() -> 'warnings') w}) =~ /(ALTER TABLE [^;\n]*?ENABLE ALWAYS TRIGGER (?:"[^"]+"|\w+))/g;
diag("to run: $_") for @repairs;
$node->safe_psql('disabled', "$_;") for @repairs;
wait_for($node, q{SELECT session_health() ->> 'warnings' NOT LIKE '%TRIGGER%'}, '.. which ends the warning when it was run', db => 'disabled', timeout => 5)
  or diag(health($node, 'warnings', 'disabled'));
is($node->safe_psql('disabled', q{SELECT count(*) FROM pg_trigger WHERE tgenabled <> 'A' AND NOT tgisinternal AND tgrelid IN ('conversation_sessions'::regclass, 'session_namespaces'::regclass)}), '0',
	'all triggers are as before');

# ---- a schema with an odd name

# (the server allows neither quotes nor comments in it)
my $odd = '"My odd.Schema; -"';
my $elsewhere = make_origin('elsewhere', $odd);
my $file = dump_it('elsewhere', 'odd.sql');
fresh('odd');
psql_file('odd', $file);
is_deeply(content($node, 'odd', $odd), $elsewhere, 'an extension in a schema with an odd name');
is($node->safe_psql('odd', "SELECT $odd.session_save('s6', '{}')"), '4712', 'the extension works there, by qualified names');
wait_for_keeper($node, 'odd', what => 'and has a keeper', timeout => 5);
$node->safe_psql('odd', "SELECT $odd.session_save('short', '{}', ttl => '300 ms')");
wait_for($node, "SELECT count(*) = 0 FROM $odd.conversation_sessions WHERE session_id = 'short'", 'which purges', db => 'odd', timeout => 10);

# ---- expired rows and rows without the columns that triggers fill

is($node->safe_psql('data', <<'EOS'), 't|t|1', 'COPY of rows of a user: the trigger fills in the other columns');
COPY conversation_sessions (namespace, session_id, session_data, ttl) FROM stdin;
default	copied	{"a": 1}	1 hour
\.
SELECT expires_at > now() + interval '59 minutes', check_at <= expires_at, version FROM conversation_sessions WHERE session_id = 'copied';
EOS

# ---- physical copy

$node->safe_psql('origin', "SELECT session_save('late', '{}')");
my $now = content($node, 'origin');
$node->backup('base');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'base');
$copy->start;
is_deeply(content($copy, 'origin'), $now, 'pg_basebackup');
wait_for_keeper($copy, 'origin', what => 'has its keepers', timeout => 5);

leave_nothing($copy);
leave_nothing($node);
done_testing();
