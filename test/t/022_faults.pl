# Faults: Redis dies, loses data, goes back in time and hangs; the pusher dies and hangs; the
# server crashes. Afterwards Redis holds what the table holds, and meanwhile no strong reader
# sees anything else.
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

my $redis = new_redis(save => 1, conf => [ '--enable-debug-command', 'yes' ]);
my $node = new_cached_store('faults', $redis, conf => <<'EOC');
session_store.lease = 1s
restart_after_crash = on
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# Saves sessions for round n. They are fenced: a reader that trusts Redis afterwards must see them.
sub change_all
{
	my ($n) = @_;

	value(qq{SET session_store.fence = 'all'; SELECT session_save('s' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 20) i; SELECT session_save('h' || i, '{"n": $n}') FROM generate_series(1, 5) i});
	return;
}

my @keys = ((map { "whole:s$_" } 1 .. 20), map { "session:h$_" } 1 .. 5);

# Reads as a strong reader does for some seconds, or until code returns true. With the lease, a session
# must be of round `least` or later. Returns the violations, and how often the lease was there.
sub look_strongly
{
	my ($seconds, $least, $until) = @_;
	my ($start, $trusted, %wrong) = (time, 0);

	while (time - $start < $seconds && !($until && $until->()))
	{
		my ($lease, @values) = eval { $redis->mget('session_store:lease', @keys) };

		usleep(3_000);
		next unless defined $lease;
		$trusted++;
		for my $i (0 .. $#keys)
		{
			my ($n) = ($values[$i] // '') =~ /(\d+)/;
			$wrong{"$keys[$i] $n"} = 1 if defined $n && $n < $least;
		}
	}
	return (join(' ', sort keys %wrong), $trusted);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')});
change_all(1);
compare_all($node, $redis, 'a fresh cache', all => 1);

# ---- Redis is killed, and comes back empty

$redis->{params}{save} = 0;
$redis->kill9;
change_all(2);
$redis->start;
my ($wrong) = look_strongly(0.5, 2);
is($wrong, '', 'empty after a crash: strong readers see no old value');
wait_for_cache($node, $redis, what => 'the cache is back');
compare_all($node, $redis, 'and right');
value(q{SELECT session_get('h1'), session_get('s1', namespace => 'whole')});
wait_for_copy('session:h1', '{"n": 2}', 'what is read comes back');
wait_for_copy('whole:s1', '{"n": 2}', '.. in both namespaces');

sub wait_for_copy
{
	my ($key, $is, $what) = @_;
	my $start = time;
	my $copy;

	usleep(10_000) until ($copy = $redis->get($key) // '') eq $is || time - $start > 5;
	is($copy, $is, sprintf('%s (%.2f s)', $what, time - $start));
	return;
}

# ---- FLUSHALL

change_all(3);
sync_cache($node);
for my $n (4 .. 13)
{
	# also with changes under way
	my $psql = $node->background_psql('postgres');
	$psql->query_until(qr/go/, "\\echo go\n" . join '', map { "SELECT session_save('s$_', '{\"n\": $n}', namespace => 'whole');\n" } 1 .. 20);
	$redis->flushall;
	$psql->query_safe('SELECT 1');
	$psql->quit;
}
($wrong) = look_strongly(0.5, 3);
is($wrong, '', 'FLUSHALL: strong readers see no old value');
wait_for_cache($node, $redis, what => 'it recovers');
compare_all($node, $redis, 'and is right');
cmp_ok(cache_health($node, 'lost'), '>', 0, 'session_health() counts it as a loss');

# ---- keys of the pusher deleted or changed by hand

for my $damage ([ 'DEL', 'session_store:guard' ], [ 'DEL', 'session_store:lease' ], [ 'DEL', 'session_store:guard', 'session_store:lease' ],
	[ 'FLUSHDB' ], [ 'SCRIPT', 'FLUSH' ])
{
	my $n = 20 + $redis->{damages}++;

	change_all($n);
	$redis->cmd(@$damage);
	value(qq{SELECT session_delete('s1', namespace => 'whole'); SELECT session_save('s2', '{"n": 1000}', namespace => 'whole')});
	is($redis->strong('whole:s1'), undef, "@$damage: a delete holds");
	wait_for_cache($node, $redis, what => '.. it recovers');
	compare_all($node, $redis, '.. and the copy is right');
}

# ---- restarted from an older RDB

change_all(100);
sync_cache($node);
$redis->{params}{save} = 1;
$redis->cmd('SAVE');
change_all(101);
value(q{SELECT session_delete('s1', namespace => 'whole')});
sync_cache($node);
$redis->kill9;
# as the production checklist says
usleep(1_100_000);
$redis->start;
# (what Redis counted, since the pusher may have flushed those keys by now)
cmp_ok(($redis->cmd('INFO', 'persistence') =~ /^rdb_last_load_keys_loaded:(\d+)/m)[0], '>', 0, 'an old RDB was loaded');
($wrong) = look_strongly(1, 101);
is($wrong, '', 'an old RDB: strong readers see no old value');
wait_for_cache($node, $redis, what => 'it recovers');
compare_all($node, $redis, '.. and no wrong copy is left');
is(cache_health($node, 'lost') > 0, 1, 'session_health() says that writes were lost');
$redis->{params}{save} = 0;

# the same with changes while Redis is away, for longer
change_all(110);
sync_cache($node);
$redis->cmd('SAVE');
$redis->kill9;
change_all(111);
value(q{SELECT session_delete('s' || i, namespace => 'whole') FROM generate_series(1, 10) i});
usleep(1_100_000);
$redis->{params}{save} = 1;
$redis->start;
($wrong) = look_strongly(1, 111);
is($wrong, '', 'an old RDB, and changes while Redis is away');
wait_for_cache($node, $redis, what => 'it recovers');
compare_all($node, $redis, 'and is right');
$redis->{params}{save} = 0;

# rolled back while the connection stays open
change_all(120);
sync_cache($node);
$redis->cmd('SAVE');
usleep(1_200_000);
change_all(121);
value(q{SELECT session_delete('s' || i, namespace => 'whole') FROM generate_series(1, 10) i});
sync_cache($node);
$redis->cmd('DEBUG', 'RELOAD', 'NOSAVE');
($wrong) = look_strongly(1.5, 121);
is($wrong, '', 'rolled back under an open connection: strong readers see no old value');
is($redis->strong("whole:s$_"), undef, ".. nor the deleted s$_") for 1, 10;
wait_for_cache($node, $redis, what => 'it recovers');
compare_all($node, $redis, 'and is right');

# ---- a pusher that hangs

change_all(200);
wait_for_cache($node, $redis);
my $pid = pusher_pid($node);
kill 'STOP', $pid;
my $start = time;
value(q{SELECT session_delete('s1', namespace => 'whole')});
in_time(time - $start, 1.6, 'the pusher hangs: a delete takes at most one lease');
is($redis->strong('whole:s1'), undef, '.. and no strong reader sees the session');
value(q{SELECT session_save('s2', '{"n": 201}', namespace => 'whole')});
$start = time;
usleep(5_000) while defined $redis->get('session_store:lease') && time - $start < 5;
in_time(time - $start, 1.5, 'the lease expires');
is($redis->strong('whole:s2'), undef, '.. so that no reader trusts the old value');
change_all(202);
$start = time;
value(q{SELECT session_delete('s3', namespace => 'whole')});
in_time(time - $start, 0.3, 'deletes run free');
kill 'CONT', $pid;
($wrong) = look_strongly(0.5, 202);
is($wrong, '', 'the pusher continues: strong readers see no old value');
wait_for_cache($node, $redis, what => '.. and renews the lease');
compare_all($node, $redis, 'with nothing stale', all => 1);

# ---- a pusher that dies

for my $how ('pg_terminate_backend', 'pg_cancel_backend')
{
	my $n = $how eq 'pg_cancel_backend' ? 210 : 220;

	$pid = pusher_pid($node);
	change_all($n);
	value("SELECT $how($pid)");
	change_all($n + 1);
	if ($how eq 'pg_terminate_backend')
	{
		wait_for_pusher($node, 'a terminated pusher is back', but => $pid, timeout => 2);
		($wrong) = look_strongly(0.5, $n + 1);
		is($wrong, '', '.. and strong readers see no old value');
	}
	wait_for_cache($node, $redis, what => "after $how the cache is back");
	compare_all($node, $redis, '.. and is right');
}

# all workers at once: calls that need the pusher wait until there is one again
my $end_all = q{SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE backend_type LIKE 'session_store %'};
is(value($end_all), '3', 'launcher, keeper and pusher are terminated');
is(value(q{SELECT session_cache_sync('0')}), 'f', '.. Redis is not in sync then');
is(value(q{SELECT session_cache_sync('60 s')}), 't', '.. and session_cache_sync() waits for the next pusher');
is(value($end_all), '3', 'terminated again');
is(value('SELECT stale FROM session_cache_verify()'), '0', '.. session_cache_verify() waits for it as well');

# while Redis hangs
$pid = pusher_pid($node);
$redis->pause;
change_all(230);
usleep(300_000);
within(2, 'a pusher is terminated while Redis hangs', sub {
	value("SELECT pg_terminate_backend($pid)");
	wait_for_pusher($node, undef, but => $pid);
});
$redis->resume;
wait_for_cache($node, $redis, what => 'the cache is back');
compare_all($node, $redis, '.. and right');

# ---- a Redis that hangs does not hold back vacuum

change_all(240);
$redis->pause;
my (%held, $looks);
$start = time;
while (time - $start < 3)
{
	value(qq{SELECT session_save('s5', '{"n": 241}', namespace => 'whole')});
	$held{ value(q{SELECT coalesce(max(backend_xmin::text), 'none') || ' ' || coalesce(max(xact_start::text), 'none') FROM pg_stat_activity WHERE backend_type = 'session_store pusher'}) }++;
	$looks++;
}
# a transaction for the moment of a read is allowed, a long one is not
my @lasting = grep { $_ ne 'none none' && $held{$_} > 2 } keys %held;
is("@lasting", '', 'Redis hangs: the pusher has no transaction open');
cmp_ok($held{'none none'} // 0, '>', $looks * 0.8, "in $looks looks");
$redis->resume;
wait_for_cache($node, $redis);

# ---- the server crashes

change_all(300);
sync_cache($node);
# changes that are not pushed when the server crashes
kill 'STOP', pusher_pid($node);
my $change = $node->background_psql('postgres');
$change->query_safe(q{SET session_store.fence = 'all'});
$change->query_safe(join ';', map { qq{SELECT session_save('s$_', '{"n": 301}', namespace => 'whole')} } 1 .. 20);
$change->query_safe(join ';', map { qq{SELECT session_save('h$_', '{"n": 301}')} } 1 .. 5);
my $stopped = pusher_pid($node);
crash($node, stopped => [$stopped]);
eval { $change->quit };
($wrong) = look_strongly(2, 301);
is($wrong, '', 'the postmaster is killed: strong readers see no old value');
wait_for_cache($node, $redis, what => 'the cache is back', timeout => 30);
compare_all($node, $redis, 'and right');

# a crash of a backend restarts the server with a new ledger
change_all(310);
sync_cache($node);
kill 'STOP', pusher_pid($node);
$stopped = pusher_pid($node);
value(q{SET session_store.fence = 'all'; SELECT session_save('s' || i, '{"n": 311}', namespace => 'whole') FROM generate_series(1, 20) i; SELECT session_save('h' || i, '{"n": 311}') FROM generate_series(1, 5) i});
$change = $node->background_psql('postgres', on_error_stop => 0);
my $victim = $change->query_safe('SELECT pg_backend_pid()');
kill 'KILL', $victim;
kill 'CONT', $stopped;
eval { $change->quit };
$node->poll_query_until('postgres', 'SELECT true');
($wrong) = look_strongly(2, 311);
is($wrong, '', 'a backend is killed: strong readers see no old value');
wait_for_cache($node, $redis, what => 'the cache is back', timeout => 30);
compare_all($node, $redis, 'and right');

# fast and immediate restarts, with Redis away in between
for my $mode ('fast', 'immediate')
{
	change_all(320);
	$node->stop($mode);
	$redis->restart if $mode eq 'immediate';
	$node->start;
	change_all(321);
	($wrong) = look_strongly(1, 321);
	is($wrong, '', "$mode stop and start");
	wait_for_cache($node, $redis, what => '.. the cache is back', timeout => 30);
	compare_all($node, $redis, '.. and right');
}
is(health($node, 'warnings'), '[]', 'health is good again');

# ---- Redis is full

change_all(400);
sync_cache($node);
my $used = (map { /^used_memory:(\d+)/m } $redis->cmd('INFO', 'memory'))[0];
$redis->cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
$redis->cmd('CONFIG', 'SET', 'maxmemory', $used - 1024);
change_all(401);
value(q{SELECT session_delete('s1', namespace => 'whole')});
is($redis->strong('whole:s1'), undef, 'Redis is full: a delete holds');
($wrong) = look_strongly(0.5, 401);
is($wrong, '', '.. and strong readers see no old value');
$redis->cmd('CONFIG', 'SET', 'maxmemory', 0);
wait_for_cache($node, $redis, what => '.. with free memory the cache is back');
compare_all($node, $redis, '.. and right');

# ---- eviction: an evicted copy is a miss, an evicted guard is noticed

$redis->cmd('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random');
$redis->cmd('CONFIG', 'SET', 'maxmemory', $used - 1024);
change_all(410);
usleep(200_000);
change_all(411);
($wrong) = look_strongly(1, 411);
is($wrong, '', 'a Redis that evicts any key: strong readers see no old value');
$redis->cmd('CONFIG', 'SET', 'maxmemory', 0);
wait_for_cache($node, $redis, what => '.. the cache is back');
compare_all($node, $redis, '.. and right');

leave_no_redis($node, $redis, crashes => 1);
done_testing();
