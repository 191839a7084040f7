# The fence: after COMMIT of a logout nobody sees the old value in Redis, whatever Redis does;
# and how long COMMIT waits while Redis is away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $redis = new_redis();
my $node = new_cached_store('fence', $redis, conf => <<'EOC');
session_store.lease = 1s
max_prepared_transactions = 10
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# Measures how long code takes.
sub seconds
{
	my ($code) = @_;
	my $start = time;

	$code->();
	return time - $start;
}

# Waits until pg_stat_activity shows a backend at the fence.
sub at_fence
{
	my ($pid, $what) = @_;

	# no other code of ours makes a COMMIT or a call wait
	return wait_for($node, "SELECT state = 'active' AND wait_event IS NOT NULL AND wait_event <> 'ClientRead' AND wait_event_type <> 'Lock' FROM pg_stat_activity WHERE pid = $pid",
		$what, quiet => 1, timeout => 5);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')});

# ---- several clients end sessions and read them

sub wrongs
{
	my (@lines) = @_;
	my @wrong = grep { !/^round/ } @lines;

	diag(join "\n", @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong);
	return scalar @wrong;
}

# Each client saves, waits until there is a copy, ends the session, and reads at once.
my %ends = (
	'session_delete' => q{SELECT session_delete('%s', namespace => 'whole')},
	'session_delete_all' => q{SELECT session_delete_all('%s', namespace => 'whole')},
	'session_regenerate' => q{SELECT session_regenerate('%s', namespace => 'whole')},
	'session_clear' => q{SELECT session_clear('whole', '%s')},
	'DELETE' => q{DELETE FROM conversation_sessions WHERE namespace = 'whole' AND session_id = '%s'},
	'UPDATE of the id' => q{UPDATE conversation_sessions SET session_id = 'moved ' || session_id WHERE namespace = 'whole' AND session_id = '%s'},
	'a DELETE in a longer transaction' => q{BEGIN; SELECT session_save('%1$s', '{"last": 1}', namespace => 'whole'); SELECT session_delete('%1$s', namespace => 'whole'); COMMIT},
);
for my $end (sort keys %ends)
{
	my $rounds = $end eq 'session_delete' ? 150 : 25;
	my @lines = in_children(3, sub {
		my ($i, $say) = @_;
		my $client = $redis->client;
		my $psql = $node->background_psql('postgres');

		for my $n (1 .. $rounds)
		{
			# every other time under the same id, with another document, where that is allowed
			my $id = $n % 2 || $end =~ /regenerate|UPDATE/ ? "s$i-$n" : "s$i";
			my $start = time;

			$psql->query_safe("SELECT session_save('$id', '{\"n\": $n}', owner => '$id', namespace => 'whole')");
			usleep(200) until defined $client->get("whole:$id") || time - $start > 5;
			$say->("never there: $id") unless defined $client->get("whole:$id");
			$psql->query_safe(sprintf $ends{$end}, $id);
			my ($lease, $strong) = $client->mget('session_store:lease', "whole:$id");
			my $plain = $client->get("whole:$id");
			$say->("$id seen by a plain reader: $plain") if defined $plain;
			$say->("$id seen by a strong reader: $strong") if defined $lease && defined $strong;
			$say->('round');
		}
		$psql->quit;
	});
	is(wrongs(@lines), 0, "$end: no reader sees the session afterwards");
	is(scalar(grep { /^round/ } @lines), 3 * $rounds, ".. in $rounds rounds of 3 clients");
}

# ---- fence = all: no strong reader sees the previous value

my @lines = in_children(3, sub {
	my ($i, $say) = @_;
	my $client = $redis->client;
	my $psql = $node->background_psql('postgres');
	my $trusted = 0;

	$psql->query_safe("SET session_store.fence = 'all'");
	for my $n (1 .. 150)
	{
		$psql->query_safe($n % 3 ? "SELECT session_save('a$i', '{\"n\": $n}', namespace => 'whole')"
			: "SELECT session_merge('a$i', '{\"n\": $n}', namespace => 'whole')");
		my ($lease, $strong) = $client->mget('session_store:lease', "whole:a$i");
		my $plain = $client->get("whole:a$i");

		$trusted++ if defined $lease;
		$say->("a strong reader sees $strong after $n") if defined $lease && defined $strong && $strong ne "{\"n\": $n}";
		$say->("a plain reader sees $plain after $n") if defined $plain && $plain ne "{\"n\": $n}";
		$say->('round');
		# sometimes there is a copy before the next change, and sometimes not
		usleep(1000 * ($n % 5));
	}
	$say->("round: the lease was there $trusted times");
	$psql->quit;
});
is(wrongs(@lines), 0, 'fence = all: no reader sees the value from before a save');
my ($trusted) = map { /lease was there (\d+)/ ? $1 : () } @lines;
cmp_ok($trusted, '>', 140, ".. with a lease ($trusted of 150)");

# strong readers at the same time: never a value older than one that was committed before the read
my $reader_dir = PostgreSQL::Test::Utils::tempdir();
@lines = in_children(4, sub {
	my ($i, $say) = @_;
	my $client = $redis->client;
	my $file = "$reader_dir/committed" . ($i % 2);

	if ($i <= 2)
	{
		my $psql = $node->background_psql('postgres');

		$psql->query_safe("SET session_store.fence = 'all'");
		for my $n (1 .. 200)
		{
			$psql->query_safe("SELECT session_save('read" . ($i % 2) . "', '{\"n\": $n}', namespace => 'whole')");
			PostgreSQL::Test::Utils::append_to_file($file, '.');
		}
		PostgreSQL::Test::Utils::append_to_file($file, '.' x 1000);
		$psql->quit;
		return;
	}
	my ($reads, $hits) = (0, 0);
	for (my $committed = 0; $committed < 1000;)
	{
		$committed = -s $file || 0;
		my ($lease, $strong) = $client->mget('session_store:lease', 'whole:read' . ($i % 2));
		my ($n) = ($strong // '') =~ /(\d+)/;

		$reads++;
		next unless defined $lease && defined $n;
		$hits++;
		$say->("read $n when $committed were committed") if $n < ($committed > 1000 ? 200 : $committed);
	}
	$say->("round of $reads reads, $hits hits");
});
is(wrongs(@lines), 0, 'strong readers beside the writers see no old value');
diag(grep { /^round of/ } @lines) if $ENV{SESSION_STORE_VERBOSE};
my ($hits) = map { /(\d+) hits/ ? $1 : () } @lines;
cmp_ok($hits, '>', 50, "in $hits hits");
value(q{SELECT session_clear('whole')});
compare_all($node, $redis, 'after all that', all => 1);

# ---- locks that the pusher needs

for my $lock ('TRUNCATE session_members', 'ALTER TABLE conversation_sessions SET (fillfactor = 70)', 'LOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE',
	'LOCK TABLE session_namespaces IN ACCESS EXCLUSIVE MODE', 'TRUNCATE conversation_sessions')
{
	next if $lock =~ /members/ && value(q{SELECT to_regclass('session_members')}) eq '';
	value(q{SELECT session_save('x' || i, '{}', owner => 'x', namespace => 'whole') FROM generate_series(1, 3) i});
	sync_cache($node);
	for my $order ("SELECT session_delete('x1', namespace => 'whole'); $lock", "$lock; SELECT session_delete('x2', namespace => 'whole')",
		"$lock; DELETE FROM conversation_sessions WHERE session_id = 'x3'")
	{
		my $took = seconds(sub { value("BEGIN; $order; COMMIT") });

		in_time($took, 0.6, $order);
		is_deeply([ grep { defined } $redis->get('whole:' . ($order =~ /(x\d)/)[0]) ], [], '.. and nobody sees it');
	}
}
wait_for_cache($node, $redis, what => '.. and health is good');
compare_all($node, $redis, 'after locks', all => 1);

# ---- PREPARE TRANSACTION

is(sqlstate($node, q{BEGIN; SELECT session_save('prepared', '{"n": 1}', namespace => 'whole'); PREPARE TRANSACTION 'p1'}), '0A000', 'PREPARE TRANSACTION is refused');
is(sqlstate($node, q{BEGIN; TRUNCATE conversation_sessions; PREPARE TRANSACTION 'p1'}), '0A000', '.. after TRUNCATE, too');
is(sqlstate($node, q{BEGIN; CREATE TABLE other (n int); INSERT INTO other VALUES (1); SELECT session_get('x'); PREPARE TRANSACTION 'p2'; COMMIT PREPARED 'p2'}), '00000',
	'a transaction that changed no session can be prepared');
is(value(q{SELECT session_exists('prepared', namespace => 'whole')}), 'f', '.. and nothing is left of it');

# ---- Redis hangs

# the seconds that each of several runs of the same statement takes, in one connection
sub timed
{
	my ($n, $sql) = @_;
	my $psql = $node->background_psql('postgres');
	my @took = map { my $k = $_; seconds(sub { $psql->query_safe(sprintf $sql, $k) }) } 1 .. $n;

	$psql->quit;
	return @took;
}

# Other processes may use this machine: the median counts.
sub median
{
	my (@all) = sort { $a <=> $b } @_;

	return $all[ @all / 2 ];
}

value(q{SELECT session_save('d' || i, '{"n": 0}', namespace => 'whole') FROM generate_series(0, 300) i; SELECT session_save('warm', '{}')});
sync_cache($node);
my $well = median(timed(100, q{SELECT session_save('u%d', '{"n": 1}', namespace => 'whole')}));
my $reads_well = median(timed(100, q{SELECT session_get('d%d', namespace => 'whole')}));

$redis->pause;
my ($took) = timed(1, q{SELECT session_delete('d0', namespace => 'whole')});
in_time($took, 1.5, 'Redis hangs: a delete takes at most one lease of 1 s');
my @deletes = timed(50, q{SELECT session_delete('d%d', namespace => 'whole')});
in_time((sort { $b <=> $a } @deletes)[0], 0.2, 'later ones do not wait');
my $hung = median(timed(100, q{SELECT session_save('u%d', '{"n": 2}', namespace => 'whole')}));
in_time($hung, 3 * $well + 0.01, 'saves are as fast as before');
my $reads_hung = median(timed(100, q{SELECT session_get('d1%02d', namespace => 'whole')}));
in_time($reads_hung, 3 * $reads_well + 0.01, 'and reads');
is(value(q{SELECT session_cache_sync('300 ms')}), 'f', 'sync returns that Redis does not have it');
usleep(300_000);
$redis->resume;
my @seen;
for (1 .. 200)
{
	# from the moment at which it answers again, no strong reader sees a deleted session or an old
	# value
	my ($lease, @values) = $redis->mget('session_store:lease', (map { "whole:d$_" } 0 .. 50), 'whole:u1');
	push @seen, grep { defined $_ && $_ ne '{"n": 2}' } @values if defined $lease;
	usleep(5_000);
}
is("@seen", '', 'Redis answers again: no strong reader sees what was changed meanwhile');
wait_for_cache($node, $redis, what => '.. and the cache is back', timeout => 20);
compare_all($node, $redis, 'with nothing stale');

# saves before the end of the lease do not wait, either
value(q{SELECT session_save('u' || i, '{"n": 3}', namespace => 'whole') FROM generate_series(1, 100) i});
wait_for_cache($node, $redis);
$redis->pause;
$hung = median(timed(100, q{SELECT session_save('u%d', '{"n": 4}', namespace => 'whole')}));
in_time($hung, 3 * $well + 0.01, 'an unfenced save does not wait for the lease');
$redis->resume;
compare_all($node, $redis, 'all saved', timeout => 20);

# ---- Redis is dead

wait_for_cache($node, $redis);
$redis->kill9;
($took) = timed(1, q{SELECT session_delete('d51', namespace => 'whole')});
in_time($took, 1.5, 'Redis dead: a delete takes at most one lease');
@deletes = timed(50, q{SELECT session_delete('d2%02d', namespace => 'whole')});
in_time((sort { $b <=> $a } @deletes)[0], 0.2, 'later ones do not wait');
my $dead = median(timed(100, q{SELECT session_save('u%d', '{"n": 5}', namespace => 'whole')}));
in_time($dead, 3 * $well + 0.01, 'saves are as fast as before');
$redis->start;
wait_for_cache($node, $redis, what => 'Redis is back', timeout => 30);
compare_all($node, $redis, 'with nothing stale');

# ---- canceled while waiting

set_conf($node, lease => '10s');
{
	my $start = time;
	usleep(20_000) until $redis->pttl('session_store:lease') > 6_000 || time - $start > 15;
}
cmp_ok($redis->pttl('session_store:lease'), '>', 6_000, 'a longer lease by reload');
value(q{SELECT session_save('cancel' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 9) i});
sync_cache($node);

# Stops a backend; returns how many seconds its statement took to end, or NULL if it ran none.
value(<<'EOS');
CREATE FUNCTION stopped(how text, who int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
BEGIN
	IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = who AND state = 'active') THEN
		RETURN NULL;
	END IF;
	EXECUTE format('SELECT %s(%s)', how, who);
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = who AND state = 'active') AND clock_timestamp() < began + interval '5 s' LOOP
		PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
	END LOOP;
	RETURN extract(epoch FROM clock_timestamp() - began);
END $$;
EOS

# Begins a call that waits at the fence, and stops it there; returns the connection and the time that
# took. On a slow machine the lease, and so the wait, may have ended before the stop is sent: then it
# begins again.
sub stop_at_fence
{
	my ($stop, $call, $id) = @_;

	for (1 .. 20)
	{
		my $psql = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $psql->query_safe('SELECT pg_backend_pid()');

		$redis->pause;
		$psql->query_until(qr/started/, "\\echo started\n" . sprintf($call, $id) . ";\n\\echo ended :LAST_ERROR_SQLSTATE\n");
		at_fence($pid, "$call waits");
		usleep(100_000);
		my $took = value("SELECT stopped('$stop', $pid)");
		return ($psql, $took) if $took ne '';
		eval { $psql->quit };
		$redis->resume;
		value("SELECT session_save('$id', '{\"n\": 1}', namespace => 'whole')");
		wait_for_cache($node, $redis);
	}
	die "$call does not wait at the fence";
}

my %stop = (
	'pg_cancel_backend' => '57014',
	'pg_terminate_backend' => '57P01',
);
my $n = 0;
for my $stop (sort keys %stop)
{
	for my $call (q{SELECT session_delete('%s', namespace => 'whole')}, q{BEGIN; DELETE FROM conversation_sessions WHERE session_id = '%s'; COMMIT})
	{
		my $id = 'cancel' . ++$n;
		my ($psql, $took) = stop_at_fence($stop, $call, $id);

		in_time($took, 0.15, "$call: $stop ends its wait at the fence at once");
		is(value("SELECT session_get('$id', namespace => 'whole')"), '{"n": 1}', '.. and undoes the call');
		if ($stop eq 'pg_cancel_backend')
		{
			like($psql->query('SELECT 7'), qr/ended 57014\n.*7$|^7$/s, '.. and the connection goes on');
		}
		$psql->{stderr} = '';
		eval { $psql->quit };
		$redis->resume;
		wait_for_cache($node, $redis);
		compare_all($node, $redis, '.. and the copy is right');
	}
}

# a client that disconnects, and a server that is stopped while a client waits
my $psql = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $psql->query_safe('SELECT pg_backend_pid()');
$redis->pause;
$psql->query_until(qr/started/, "\\echo started\nSELECT session_delete('cancel9', namespace => 'whole');\n");
at_fence($pid, 'a delete waits');
within(5, 'a fast stop while a client waits at the fence', sub { $node->stop('fast') });
eval { $psql->quit };
$redis->resume;
set_conf_offline($node, "session_store.lease = 1s\n");
$node->start;
is(value(q{SELECT session_get('cancel9', namespace => 'whole')}), '{"n": 1}', 'the delete did not happen');
wait_for_cache($node, $redis, what => '.. and the cache is back', timeout => 40);
compare_all($node, $redis, 'and right');

# settings of a stopped server: the file of ALTER SYSTEM is read last, so it is removed
sub set_conf_offline
{
	my ($server, $lines) = @_;

	unlink $server->data_dir . '/postgresql.auto.conf';
	PostgreSQL::Test::Utils::append_to_file($server->data_dir . '/postgresql.auto.conf', $lines);
	return;
}

# ---- without a cache

set_conf($node, redis_url => '');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'session_store pusher'}, 'switched off, the pusher exits', timeout => 10);
is(scalar $redis->keys, 0, '.. and leaves nothing in Redis');
is(sqlstate($node, q{BEGIN; SELECT session_save('prepared', '{"n": 1}', namespace => 'whole'); PREPARE TRANSACTION 'p3'}), '00000', 'PREPARE TRANSACTION works');
($took) = timed(1, q{SELECT session_delete('d52', namespace => 'whole')});
in_time($took, 0.2, 'a delete does not wait');

# .. and when a cache is switched on while a transaction is prepared, its end must not be missed
value(q{ALTER SYSTEM RESET session_store.redis_url});
$node->reload;
usleep(2_000_000);
value(q{SELECT session_get('prepared', namespace => 'whole')});
usleep(500_000);
value(q{COMMIT PREPARED 'p3'});
is(value(q{SELECT session_get('prepared', namespace => 'whole')}), '{"n": 1}', 'it commits');
wait_for_cache($node, $redis, what => 'then the cache is up', timeout => 30);
compare_all($node, $redis, 'and is right');
value(q{SELECT session_save('prepared', '{"n": 2}', namespace => 'whole')});
compare_all($node, $redis, '.. and continues');

leave_no_redis($node, $redis);
done_testing();
