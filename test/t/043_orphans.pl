# Messages and members without a session: a restore that loads them before their sessions, or
# after these expired, loses nothing and leaves nothing behind forever.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('restored', init => { allows_streaming => 'logical' }, conf => "session_store.orphan_keep = '1h'\n");
my $dumps = PostgreSQL::Test::Utils::tempdir();
my @at = ('-h', $node->host, '-p', $node->port);

sub fresh
{
	my ($dbname) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	create_extension($node, $dbname);
	return;
}

# Makes the keepers check at once, with another orphan_keep.
sub keep
{
	my ($time) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET session_store.orphan_keep = '$time'");
	$node->reload;
	return;
}

my $counts = q{SELECT (SELECT count(*) FROM conversation_history), (SELECT count(*) FROM session_members), (SELECT count(*) FROM session_orphans)};
my $passes = q{(session_health() #>> '{keeper,tasks,orphans,last_run}')::timestamptz};

# Waits for more than two passes of the keeper.
sub visit
{
	my ($dbname) = @_;

	for (1 .. 10)
	{
		my $now = $node->safe_psql($dbname, 'SELECT clock_timestamp()');
		wait_for($node, "SELECT $passes > '$now'::timestamptz FROM pg_reload_conf()", 'the keeper has made a step', db => $dbname, quiet => 1);
	}
	return;
}

# sessions that will have expired when they are restored, and some that will not
$node->safe_psql('postgres', <<'EOS');
SELECT session_append('s' || i, '[{"m": 1}, {"m": 2}, {"m": 3}]') FROM generate_series(1, 40) i;
SELECT session_share('s' || i, 'bob') FROM generate_series(1, 40) i;
SELECT session_touch('s' || i, '1 day') FROM generate_series(1, 40) i;
UPDATE conversation_sessions SET expires_at = now() + interval '2 seconds' WHERE session_id IN (SELECT 's' || generate_series(1, 30));
EOS
for my $format (qw(c p))
{
	run_ok("pg_dump -F$format", $node->installed_command('pg_dump'), @at, '-d', 'postgres', "-F$format", '--data-only', '-f', "$dumps/$format");
}
run_ok('pg_dump of all', $node->installed_command('pg_dump'), @at, '-d', 'postgres', '-Fc', '-f', "$dumps/all");
wait_for($node, q{SELECT count(*) = 10 FROM conversation_sessions}, 'most of the sessions expire after the dump');

# every usual kind of restore; then messages long before their sessions
my @restore = ($node->installed_command('pg_restore'), @at, '--exit-on-error');
my %restore = (
	serial => [ @restore, '-d', 'serial', '--data-only', "$dumps/c" ],
	disabled => [ @restore, '-d', 'disabled', '--data-only', '--disable-triggers', "$dumps/c" ],
	parallel => [ @restore, '-d', 'parallel', '-j4', "$dumps/all" ],
	script => [ $node->installed_command('psql'), @at, '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'script', '-f', "$dumps/p" ],
	before => [ @restore, '-d', 'before', '--data-only', '-t', 'conversation_history', '-t', 'session_members', "$dumps/c" ]);
for my $dbname (sort keys %restore)
{
	if ($dbname eq 'parallel')
	{
		$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE template0");
	}
	else
	{
		fresh($dbname);
	}
	run_ok("restore: $dbname", @{ $restore{$dbname} });
	wait_for_keeper($node, $dbname);
}

# ---- messages that were loaded before their sessions

keep('2h');
wait_for($node, 'SELECT count(*) = 40 FROM session_orphans', 'messages without sessions are recorded', db => 'before');
is($node->safe_psql('before', $counts), '120|40|40', 'and kept');
like(health($node, 'warnings', 'before'), qr/40 conversations have messages or members but no session: restore their sessions, or they are removed, the first at 2/, 'health warns');
is(health($node, 'orphans,conversations', 'before'), '40', '.. and counts them');
like($node->safe_psql('before', 'SELECT session_metrics()'), qr/^session_store_orphans 40$/m, 'the metric');

# a transaction that has not committed when orphan_keep is over
my $loading = $node->background_psql('before', on_error_stop => 0);
$loading->query_safe(q{BEGIN});
$loading->query_safe(q{INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, history_id, last_seq, message_count)
	SELECT 'default', 'late' || row_number() OVER (ORDER BY history_id), '{}', interval '1 day', history_id, 3, 3
	FROM (SELECT DISTINCT history_id FROM conversation_history) h ORDER BY history_id LIMIT 10});
keep('1s');

# ---- the others

for my $dbname (qw(serial disabled parallel script))
{
	wait_for($node, q{SELECT count(*) = 10 FROM conversation_sessions}, "$dbname: expired sessions are purged", db => $dbname);
	wait_for($node, q{SELECT count(*) = 30 AND (SELECT count(*) = 10 FROM session_members) FROM conversation_history}, "$dbname: their messages and members are removed as well, the others kept", db => $dbname, timeout => 120);
	wait_for($node, q{SELECT count(*) = 0 FROM session_orphans}, "$dbname: .. and are not counted any more", db => $dbname);
}
$node->safe_psql('disabled', q{SELECT count(session_append('s' || i, '{"m": 4}')) FROM generate_series(31, 40) i});
is($node->safe_psql('serial', q{SELECT count(*) FROM generate_series(31, 40) i, session_history('s' || i)}), '30', 'no message of a living session was lost');

# ---- conversations that were being loaded

my $due = q{SELECT min(seen_at) + interval '2 seconds' < clock_timestamp() FROM session_orphans};
wait_for($node, $due, 'orphan_keep is over while sessions are being loaded', db => 'before', timeout => 60);
visit('before');
is($node->safe_psql('before', $counts), '120|40|40', 'nothing is removed while another transaction writes sessions');
$loading->query_safe('COMMIT');
$loading->quit;
wait_for($node, 'SELECT count(*) = 0 FROM session_orphans', 'afterwards those without a session are removed', db => 'before', timeout => 60);
is($node->safe_psql('before', $counts), '30|10|0', '.. and those of loaded sessions stay');
is($node->safe_psql('before', q{SELECT count(*) FROM generate_series(1, 10) i, session_history('late' || i)}), '30', 'as calls see');

# ---- foreign keys and triggers of another role on the table of orphans

keep('0');
$node->safe_psql('before', q{INSERT INTO conversation_history (history_id, seq, message) VALUES ('22222222-1111-7111-8111-111111111111', 1, '{}')});
$node->safe_psql('before', q{SELECT pg_stat_force_next_flush()});
wait_for($node, q{SELECT count(*) = 1 FROM session_orphans, pg_reload_conf()}, 'one more is recorded', db => 'before');
$node->safe_psql('before', <<'EOS');
CREATE ROLE attacker;
CREATE SCHEMA evil AUTHORIZATION attacker;
GRANT REFERENCES, TRIGGER, SELECT ON session_orphans, session_cache_claims TO attacker;
SET ROLE attacker;
CREATE TABLE evil.holds (history_id uuid REFERENCES public.session_orphans);
CREATE FUNCTION evil.pwn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER pwn BEFORE INSERT ON public.session_cache_claims FOR EACH ROW EXECUTE FUNCTION evil.pwn();
RESET ROLE;
INSERT INTO evil.holds SELECT history_id FROM public.session_orphans;
EOS
is(health($node, 'foreign_code,foreign_keys_ignored', 'before'), '1', 'session_health() knows of a foreign key to session_orphans');
is(health($node, 'foreign_code,functions_refused', 'before'), '1', '.. and a function on session_cache_claims');
keep('1s');
wait_for($node, q{SELECT count(*) = 30 AND (SELECT count(*) = 0 FROM session_orphans) FROM conversation_history}, '.. and does not stop the removal', db => 'before', timeout => 60);
is($node->safe_psql('before', 'SELECT count(*) FROM evil.holds'), '1', '.. nor act');
$node->safe_psql('before', 'DROP TRIGGER pwn ON session_cache_claims; DROP SCHEMA evil CASCADE; DROP OWNED BY attacker; DROP ROLE attacker');

# ---- 0 keeps them forever; a subscriber records none, and removes its records

keep('0');
$node->safe_psql('serial', q{INSERT INTO conversation_history (history_id, seq, message) SELECT gen_random_uuid(), 1, '{}' FROM generate_series(1, 3)});
$node->safe_psql('serial', q{SELECT pg_stat_force_next_flush()});
# .. by the next pass that can begin
my $holder = $node->background_psql('serial', on_error_stop => 0);
$holder->query_safe('BEGIN; LOCK TABLE conversation_sessions IN SHARE MODE');
visit('serial');
$holder->query_safe('COMMIT');
$holder->quit;
wait_for($node, q{SELECT count(*) = 3 FROM session_orphans, pg_reload_conf()}, 'recorded', db => 'serial');
$node->safe_psql('serial', q{UPDATE session_orphans SET seen_at = now() - interval '10 years'});
like(health($node, 'warnings', 'serial'), qr/3 conversations have .* stay while session_store.orphan_keep is 0/, 'health warns');
visit('serial');
is($node->safe_psql('serial', 'SELECT count(*) FROM session_orphans'), '3', 'they are kept forever');
$node->safe_psql('postgres', q{CREATE PUBLICATION pub FOR TABLE conversation_history; SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
$node->safe_psql('serial', q{CREATE SUBSCRIPTION sub CONNECTION '} . $node->connstr . q{ dbname=postgres' PUBLICATION pub WITH (create_slot = false, copy_data = false)});
keep('1s');
wait_for($node, q{SELECT count(*) = 0 FROM session_orphans}, 'a subscriber removes its records', db => 'serial');
is($node->safe_psql('serial', q{SELECT count(*) FROM conversation_history}), '33', '.. and keeps their messages');
$node->safe_psql('serial', 'DROP SUBSCRIPTION sub');
keep('2s');
wait_for($node, q{SELECT count(*) = 30 FROM conversation_history, pg_reload_conf()}, 'after the switchover they are removed', db => 'serial');

leave_nothing($node);
done_testing();
