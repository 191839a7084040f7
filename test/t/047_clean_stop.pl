# A clean shutdown (fast or smart) writes the pending touches before the shutdown checkpoint: a
# restart, a standby and a subscriber have them. It takes about a second at most, whatever
# foreign triggers do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $primary = new_store('primary', init => { allows_streaming => 'logical' });
my $subscriber = new_store('subscriber');
$primary->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE conversation_sessions, conversation_history, session_members, session_namespaces');
$subscriber->safe_psql('postgres', q{CREATE SUBSCRIPTION sub CONNECTION '} . $primary->connstr . q{ dbname=postgres' PUBLICATION pub WITH (copy_data = false)});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', q{SELECT session_save('s' || i, '{}') FROM generate_series(1, 700) i});
wait_for_replay($primary, $standby);

# Reads all sessions; returns their expiries as calls return them, none of which is in the table.
sub read_all
{
	# a read within a tenth of a second of the one before is not recorded
	wait_for($primary, q{SELECT (SELECT count(session_get('s' || i)) FROM generate_series(1, 700) i) = 700
		AND (SELECT count(*) = 0 FROM conversation_sessions WHERE session_effective_expiry(namespace, session_id, expires_at) = expires_at AND session_id LIKE 's%')},
		'all reads are recorded, and none is written yet');
	return $primary->safe_psql('postgres', q{SELECT md5(string_agg(session_effective_expiry(namespace, session_id, expires_at)::text, ' ' ORDER BY session_id)) FROM conversation_sessions WHERE session_id LIKE 's%'});
}

sub written
{
	my ($node) = @_;

	return $node->safe_psql('postgres', q{SELECT md5(string_agg(expires_at::text, ' ' ORDER BY session_id)) FROM conversation_sessions WHERE session_id LIKE 's%'});
}

# A keeper that has just started may end before it has done anything.
sub keeper_works
{
	my ($node) = @_;

	wait_for($node, q{SELECT count(*) > 0 FROM jsonb_each(session_health() #> '{keeper,tasks}') AS t (name, task) WHERE task ->> 'last_run' IS NOT NULL},
		'the keeper works', quiet => 1);
	return;
}

sub stop_and_start
{
	my ($what, $mode) = @_;

	within(5, "$what: it stops", sub { $primary->stop($mode) });
	$primary->start;
	keeper_works($primary);
	return;
}

for my $mode (qw(fast smart))
{
	my $expected = read_all();
	stop_and_start($mode, $mode);
	is(written($primary), $expected, "$mode: pending touches are written");
}

# a client with a row lock, which is ended with the server
my $expected = read_all();
my $client = $primary->background_psql('postgres', on_error_stop => 0);
$client->query_safe(q{BEGIN; SELECT session_id FROM conversation_sessions WHERE session_id IN ('s1', 's2') FOR UPDATE});
stop_and_start('a row is locked', 'fast');
eval { $client->quit };
is(written($primary), $expected, 'a row that a client had locked');

# the keeper is in the middle of a task, in code of a user
$primary->safe_psql('postgres', <<'EOS');
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF EXISTS (SELECT FROM public.dawdling) THEN PERFORM pg_catalog.pg_sleep(3600); END IF;
	IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
	RETURN NEW;
END $$;
CREATE TABLE dawdling AS SELECT 1;
ALTER FUNCTION dawdle() SET search_path = pg_catalog, pg_temp;
CREATE TRIGGER dawdle BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION dawdle();
EOS
$expected = read_all();
$primary->safe_psql('postgres', q{SELECT session_save('gone', '{}', ttl => '1 ms')});
my $sleeps = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND wait_event = 'PgSleep'};
wait_for($primary, $sleeps, 'the purge waits in a trigger');
$primary->safe_psql('postgres', 'DELETE FROM dawdling');
my $offset = -s $primary->logfile;
stop_and_start('a task is at work', 'fast');
is(written($primary), $expected, 'a keeper in the middle of the purge');
is(count_log($primary, qr/ERROR: /, $offset), 0, 'its cancellation is not an error');

# .. of an update
wait_for($primary, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'gone')}, 'the purge continues');
$primary->safe_psql('postgres', q{DROP TRIGGER dawdle ON conversation_sessions; CREATE TRIGGER dawdle BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION dawdle()});
read_all();
$primary->safe_psql('postgres', 'INSERT INTO dawdling VALUES (1)');
$offset = -s $primary->logfile;
stop_and_start('a trigger that never ends', 'fast');
is(count_log($primary, qr/stopped before all pending touches were written/, $offset), 1, '.. is logged');
$primary->safe_psql('postgres', q{DROP TRIGGER dawdle ON conversation_sessions});

# ---- a switchover, with both connected again

wait_for_replay($primary, $standby);
wait_for_replay($primary, 'sub');
$expected = read_all();
within(5, 'the primary stops', sub { $primary->stop('fast') });
$standby->promote;
wait_for_keeper($standby, 'postgres');
is(written($standby), $expected, 'the standby has the touches');
is(written($subscriber), $expected, '.. and so has the subscriber');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub SET (slot_name = NONE)');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
$subscriber->safe_psql('postgres', q{SELECT session_purge()});
is($subscriber->safe_psql('postgres', q{SELECT count(session_get('s' || i)) FROM generate_series(1, 700) i}), '700', 'no session ends because of the switchover');

leave_nothing($subscriber);
leave_nothing($standby);
$primary->start;
leave_nothing($primary);
done_testing();
