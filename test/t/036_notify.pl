# LISTEN session_events: one notification per batch from the keeper, soon after commit, for
# committed events only; and the numbers add up.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_store('notify', conf => "max_prepared_transactions = 10\nmax_worker_processes = 20\n");

sub value
{
	return $node->safe_psql($_[1] // 'postgres', $_[0]);
}

# Runs a listener; returns what it received, as [time, events, since, sender].
my $ear = $node->background_psql('postgres');
my @heard;

sub listen_now
{
	my $out = $ear->query_safe('SELECT 1');

	while ($out =~ /Asynchronous notification "(\w+)"(?: with payload "(.*)")? received from server process with PID (\d+)/g)
	{
		my ($channel, $payload, $pid) = ($1, $2, $3);
		my $said = eval { JSON::PP::decode_json($payload) };

		ok(0, "a payload that is not JSON: $payload") unless ref $said eq 'HASH';
		push @heard, [ time, $said->{events}, $said->{since}, $pid, $channel, join ' ', sort keys %$said ];
	}
	return;
}

sub sum
{
	my $sum = 0;

	$sum += $_->[1] for @heard;
	return $sum;
}

# Runs code and waits for notifications of as many events as are expected; then, with an event of its
# own, checks that there are no more. Returns what was received meanwhile.
my $markers = 0;
my @late;

sub hears
{
	my ($what, $expected, $code, %params) = @_;
	my $began = time;
	my $first = value('SELECT clock_timestamp()');

	listen_now();
	@heard = ();
	$code->();
	my $ended = time;
	while (sum() < $expected && time - $ended < 5)
	{
		listen_now();
		usleep(20_000);
	}
	my $took = time - $ended;
	is(sum(), $expected, "$what: notifications count all events");
	cmp_ok($took, '<', 2, sprintf('.. %.2f s after the last', $took)) if $expected;
	my @mine = @heard;
	# one in a tenth of a second, which are more where the changes themselves take long
	my $most = 4 + 12 * ($ended - $began + $took);
	$most = $params{most} if defined $params{most} && $params{most} > $most;
	cmp_ok(scalar @mine, '<=', $most, '.. by ' . @mine . ' notifications') if $expected;
	if ($expected)
	{
		# a listener that reads the table from that time on must find all events
		push @late, "$what: $mine[0][2]"
		  if @mine && value("SELECT min(created_at) >= '$mine[0][2]'::timestamptz FROM session_events WHERE created_at >= '$first'") ne 't';
		is(value("SELECT '$mine[0][2]'::timestamptz >= '$first'::timestamptz"), 't', '.. "since" is not before the batch began') if @mine;
	}
	# the marker is one event, and there are no others
	my $told = sum();
	value(sprintf q{SELECT session_save('marker%d', '{}', namespace => 'loud')}, ++$markers);
	$ended = time;
	while (sum() <= $told && time - $ended < 5)
	{
		listen_now();
		usleep(20_000);
	}
	is(sum() - $told, 1, '.. and no more');
	return @mine;
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, audit, audit_saves, tombstone) VALUES ('loud', 'loud:', true, false, '0'), ('louder', 'louder:', true, true, '0'), ('quiet', 'quiet:', false, false, '0');
EOS
$ear->query_safe('LISTEN session_events');

# ---- many changes, few notifications

my @mine = hears('200 creations, each in a transaction', 200, sub {
	my $out = pgbench_run($node, q{SELECT session_create('{}', namespace => 'loud');}, '-c', 4, '-t', 50);
	like($out, qr/actually processed: 200\/200/, '(200 transactions)');
}, most => 20);
is(join(' ', grep { $_->[4] ne 'session_events' || $_->[5] ne 'events since' } @mine), '', '.. on session_events, with events and since');
is(join(' ', grep { $_->[3] ne keeper_pid($node, 'postgres') } @mine), '', '.. from the keeper');
like($mine[0][2], qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:?\d\d)?$|T/, '.. with a time and its time zone');

hears('50 sessions, each created and saved twice', 150, sub {
	value(join ';', map { "SELECT session_save('s$_', '{\"n\": 1}', namespace => 'louder'); SELECT session_save('s$_', '{\"n\": 2}', namespace => 'louder'); SELECT session_merge('s$_', '{\"n\": 3}', namespace => 'louder')" } 1 .. 50);
}, most => 20);
is(value(q{SELECT string_agg(event || ' ' || n, ', ' ORDER BY event) FROM (SELECT event, count(*) AS n FROM session_events WHERE namespace = 'louder' GROUP BY event) e}), 'created 50, saved 100', '(those events)');
hears('saves that cause no event', 0, sub { value(q{SELECT session_save('x', '{}', namespace => 'quiet') FROM generate_series(1, 100)}) });
hears('one transaction with 500 events', 500, sub { value(q{SELECT session_save('many' || i, '{}', owner => 'u', namespace => 'loud') FROM generate_series(1, 500) i}) }, most => 2);
hears('a log-out everywhere', 500, sub { value(q{SELECT session_delete_all('u', namespace => 'loud')}) }, most => 2);
hears('one of each', 8, sub {
	value(q{SELECT session_save('a', '{}', namespace => 'loud'); SELECT session_save('b', '{}', namespace => 'loud'); SELECT session_fork('a', 'c', namespace => 'loud');
SELECT session_share('a', 'm', namespace => 'loud'); SELECT session_unshare('a', 'm', namespace => 'loud')});
	my $ev = value(q{SELECT count(*) FROM session_events WHERE namespace = 'loud' AND session_id IN ('a', 'b', 'c') AND event <> 'deleted'});
	# a fork may be one event of the source, or the creation of the copy as well
	value(qq{SELECT session_save('pad' || i, '{}', namespace => 'loud') FROM generate_series($ev, 7) i});
});

# ---- the counts are those of the table

sub events_since
{
	return value("SELECT count(*) FROM session_events WHERE created_at >= '$_[0]'");
}

listen_now();
@heard = ();
my $since = value('SELECT clock_timestamp()');
value(<<'EOS');
SELECT session_save('t1', '{}', namespace => 'louder');
SELECT session_append('t2', '[{"n": 1}, {"n": 2}]', namespace => 'louder');
SELECT session_append('t2', '{"n": 3}', namespace => 'louder');
SELECT session_fork('t2', 't3', namespace => 'louder');
SELECT session_absorb('t2', 't3', namespace => 'louder');
SELECT session_regenerate('t2', namespace => 'louder');
SELECT session_incr('t1', '{n}', namespace => 'louder');
SELECT session_touch('t1', namespace => 'louder');
SELECT session_delete('t1', namespace => 'louder');
SELECT session_save('brief', '{}', ttl => '300 ms', namespace => 'louder');
EOS
wait_for($node, qq{SELECT count(*) = 1 FROM session_events WHERE session_id = 'brief' AND event = 'expired'}, 'one expires', timeout => 10);
my $ended = time;
until (sum() >= events_since($since) || time - $ended > 5)
{
	listen_now();
	usleep(20_000);
}
is(sum(), events_since($since), 'as many as the table has, for all calls and the purge');
in_time(time - $ended, 2, '.. soon');

# ---- changes that were not committed

hears('rolled back', 0, sub { value(q{BEGIN; SELECT session_save('r' || i, '{}', namespace => 'loud') FROM generate_series(1, 50) i; ROLLBACK}) });
hears('an error', 0, sub {
	$node->psql('postgres', q{SELECT session_save('r', '{}', namespace => 'loud'), 1 / (SELECT 0)});
	$node->psql('postgres', q{BEGIN; SELECT session_save('r', '{}', namespace => 'loud'); SELECT 1/0; COMMIT});
});
hears('an error at COMMIT', 0, sub {
	value('CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1)');
	$node->psql('postgres', q{BEGIN; INSERT INTO late VALUES (1); SELECT session_save('r', '{}', namespace => 'loud'); COMMIT});
});
hears('a savepoint that is rolled back', 2, sub {
	value(q{BEGIN; SELECT session_save('p1', '{}', namespace => 'loud'); SAVEPOINT s; SELECT session_save('q' || i, '{}', namespace => 'loud') FROM generate_series(1, 30) i; ROLLBACK TO s; SELECT session_save('p2', '{}', namespace => 'loud'); COMMIT});
});
hears('savepoints within one another', 3, sub {
	value(q{BEGIN; SAVEPOINT a; SELECT session_save('n1', '{}', namespace => 'loud'); SAVEPOINT b; SELECT session_save('n2', '{}', namespace => 'loud'); RELEASE b; SAVEPOINT c; SELECT session_save('n3', '{}', namespace => 'loud'); SAVEPOINT d;
SELECT session_save('n4', '{}', namespace => 'loud'); RELEASE d; ROLLBACK TO c; SELECT session_save('n5', '{}', namespace => 'loud'); RELEASE a; COMMIT});
});
hears('a released savepoint within one that is rolled back', 1, sub {
	value(q{BEGIN; SELECT session_save('m1', '{}', namespace => 'loud'); SAVEPOINT a; SAVEPOINT b; SELECT session_save('m2', '{}', namespace => 'loud'); RELEASE b; ROLLBACK TO a; COMMIT});
});
hears('exceptions in plpgsql', 5, sub {
	value(q{DO $$ BEGIN FOR i IN 1 .. 10 LOOP BEGIN PERFORM session_save('e' || i, '{}', namespace => 'loud'); IF i % 2 = 0 THEN RAISE 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$});
});
is(value(q{SELECT count(*) FROM session_events WHERE session_id ~ '^(r[0-9]*|q[0-9]+|n3|n4|m2|prepared)$'}), '0', '(none of these is in the table)');

# "since" of a transaction that waited is that of its event, not of its commit
my $slow = $node->background_psql('postgres');
$since = value('SELECT clock_timestamp()');
$slow->query_safe(q{BEGIN; SELECT session_save('slow', '{}', namespace => 'loud')});
hears('an event of a transaction in progress', 0, sub { });
listen_now();
@heard = ();
$slow->query_safe('COMMIT');
$slow->quit;
$ended = time;
until (@heard || time - $ended > 5)
{
	listen_now();
	usleep(20_000);
}
is(sum(), 1, '.. is notified when that commits');
is(@heard ? value("SELECT '$heard[0][2]' < created_at + interval '50 ms' AND '$heard[0][2]' >= '$since'::timestamptz FROM session_events WHERE session_id = 'slow'") : 'nothing', 't', '.. with the time at which it was written, not that of the commit');

# prepared, and so not committed
hears('prepared and rolled back', 0, sub { value(q{BEGIN; SELECT session_save('prepared', '{}', namespace => 'loud'); PREPARE TRANSACTION 'p'}); value(q{ROLLBACK PREPARED 'p'}) });

# ---- databases, listeners, policies

value('CREATE DATABASE other');
create_extension($node, 'other');
value(q{INSERT INTO session_namespaces (name, key_prefix, audit, tombstone) VALUES ('loud', 'loud:', true, '0')}, 'other');
my $far = $node->background_psql('other');
$far->query_safe('LISTEN session_events');
hears('events in another database', 0, sub { value(q{SELECT session_save('o' || i, '{}', namespace => 'loud') FROM generate_series(1, 20) i}, 'other') });
my ($out, $there) = ('', time);
until ($out =~ /"events": ?20\b/ || time - $there > 5)
{
	$out .= $far->query_safe('SELECT 1');
	usleep(20_000);
}
like($out, qr/"events": ?20\b/, '.. cause notifications there');
unlike($out, qr/notification.*notification/s, '.. once, and no others');
$far->quit;
hears('audit switched on', 5, sub { value(q{UPDATE session_namespaces SET audit = true WHERE name = 'quiet'}); value(q{SELECT session_save('on' || i, '{}', namespace => 'quiet') FROM generate_series(1, 5) i}) });
hears('and off', 0, sub { value(q{UPDATE session_namespaces SET audit = false WHERE name = 'quiet'}); value(q{SELECT session_save('off' || i, '{}', namespace => 'quiet') FROM generate_series(1, 5) i}) });

# the keeper ends: events that are committed meanwhile are notified by the next one, or are in the
# table at least
my $pid = keeper_pid($node, 'postgres');
hears('a keeper that is stopped for a moment', 10, sub {
	kill 'STOP', $pid;
	value(q{SELECT session_save('k' || i, '{}', namespace => 'loud') FROM generate_series(1, 10) i});
	kill 'CONT', $pid;
});
hears('a keeper that is terminated', 10, sub {
	kill 'STOP', $pid;
	value(q{SELECT session_save('l' || i, '{}', namespace => 'loud') FROM generate_series(1, 10) i});
	value("SELECT pg_terminate_backend($pid)");
	kill 'CONT', $pid;
	wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = 'postgres' AND pid <> $pid", 'another comes', timeout => 10);
});
hears('after a restart of the server', 3, sub {
	value(q{SELECT session_save('z' || i, '{}', namespace => 'loud') FROM generate_series(1, 3) i});
});
is(join("\n", @late), '', '"since" is never after the first event that it tells of');
is(health($node, 'warnings'), '[]', 'health is content');
is(health($node, 'keeper,tasks,notify,failures'), '0', '.. and the task has not failed');

$ear->quit;
value('DROP DATABASE other');
value('DROP EXTENSION session_store CASCADE');
leave_nothing($node);
done_testing();
