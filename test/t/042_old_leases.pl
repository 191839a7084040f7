# Leases that outlive the server that granted them: a stop ends the lease; after a crash logouts
# wait for its end, wherever Redis is configured to be by then; and cases with no lease to wait
# for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $policy = q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')};
my $lease = 'session_store:lease';

sub value
{
	my ($node, $query, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $query);
}

sub save
{
	my ($node, $n, $dbname) = @_;

	return value($node, qq{SELECT session_save('s' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 5) i}, $dbname);
}

sub log_out
{
	my ($node, $id, $dbname) = @_;

	return value($node, qq{SELECT session_delete('$id', namespace => 'whole')}, $dbname);
}

my $redis = new_redis();
my $node = new_cached_store('app', $redis, conf => "session_store.lease = 10s\nmax_worker_processes = 20\n");

value($node, $policy);
save($node, 1);

# ---- when a pusher or the server ends, it removes the lease; the copies stay

for my $stop (
	[ 'pg_terminate_backend', sub { my $pid = pusher_pid($node); value($node, "SELECT pg_terminate_backend($pid, 5000)"); } ],
	[ 'a fast stop', sub { $node->stop('fast'); } ],
	[ 'a smart stop', sub { $node->stop('smart'); } ])
{
	my ($name, $code) = @$stop;

	wait_for_cache($node, $redis, timeout => 25);
	wait_for($node, q{SELECT (session_health() #>> '{cache,lease_left_ms}')::int > 5000}, "$name: there is a lease", timeout => 30, show => 1);
	save($node, 8);
	sync_cache($node);
	my @lines = $redis->watched($code);
	ok(scalar(grep { /lua\].*"(?:DEL|del)" "$lease"/ } @lines), "$name: the pusher drops the lease");
	is($redis->get('whole:s2'), '{"n": 8}', '.. and the copies stay');
	$node->start unless $name eq 'pg_terminate_backend';
}
wait_for($node, q{SELECT (session_health() #>> '{cache,lease_left_ms}')::int > 5000}, 'a lease again', timeout => 30);
$redis->pause;
within(6, 'with a Redis that hangs the server stops as well', sub { $node->stop('fast') });
$redis->resume;
$node->start;
wait_for_cache($node, $redis, timeout => 30);

# ---- a restart with another URL, another database number or none: the old lease stays

my $elsewhere = new_redis();
for my $case ([ 'no URL', redis_url => '' ], [ 'another URL', redis_url => $elsewhere->url ], [ 'another database number', redis_db => 5 ])
{
	my ($name, $setting, $new) = @$case;

	save($node, 9);
	sync_cache($node);
	wait_for($node, q{SELECT (session_health() #>> '{cache,lease_left_ms}')::int > 8000}, "$name: there is a lease", timeout => 30, show => 1);
	value($node, "ALTER SYSTEM SET session_store.$setting = '$new'");
	crash($node);
	my $was_leased = defined $redis->get($lease);
	log_out($node, 's3');
	ok(!defined $redis->strong('whole:s3'), "$name: after a logout nobody trusts the old copy (lease at the start: " . ($was_leased ? 'yes' : 'no') . ')');
	value($node, "ALTER SYSTEM RESET session_store.$setting");
	$node->restart;
	wait_for_cache($node, $redis, timeout => 40);
}
# the same by reload, while the old Redis hangs and so keeps its lease
wait_for($node, q{SELECT (session_health() #>> '{cache,lease_left_ms}')::int > 8000}, 'reload: there is a lease', timeout => 30, show => 1);
$redis->pause;
set_conf($node, redis_url => $elsewhere->url);
wait_for_cache($node, $elsewhere, what => 'reload: another Redis is in use', timeout => 30);
log_out($node, 's4');
$redis->resume;
ok(!defined $redis->strong('whole:s4'), '.. and after a logout no reader trusts the copy in the old one');
set_conf($node, redis_url => $redis->url);
wait_for_cache($node, $redis, timeout => 40);
leave_no_redis($node, $redis);
$elsewhere->stop;

# ---- a database that never had a Redis does not wait

my $plain = new_store('plain');
value($plain, $policy);
$plain->restart;
save($plain, 1);
log_out($plain, 's1');
is(value($plain, q{SELECT session_metrics() ~ 'session_store_fence_expired_total\S* 0\n'}), 't', 'without a record of a Redis no logout waits for an old lease to end');
leave_nothing($plain);

# ---- a subscriber is not a copy

my ($redis_p, $redis_s) = (new_redis(), new_redis());
my $publisher = new_cached_store('publisher', $redis_p, init => { allows_streaming => 'logical' }, conf => "session_store.lease = 1s\n");
my $subscriber = new_cached_store('subscriber', $redis_s, conf => "session_store.lease = 1s\n");
my $before = value($subscriber, 'SELECT session_cache_claims::text FROM session_cache_claims');

value($publisher, 'CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION claims FOR TABLE session_cache_claims');
value($subscriber, q{CREATE SUBSCRIPTION claims CONNECTION 'dbname=postgres } . $publisher->connstr . q{' PUBLICATION claims});
$subscriber->wait_for_subscription_sync($publisher, 'claims');
value($publisher, $policy);
my $pid = pusher_pid($publisher);
value($publisher, "SELECT pg_terminate_backend($pid)");
wait_for_pusher($publisher, 'a publisher of all tables has its pusher again', but => $pid);
wait_for($publisher, q{SELECT session_health() #>> '{cache,running}' = 'true'}, '.. which records its claim', timeout => 20, show => 1);
wait_for_replay($publisher, 'claims');
is(value($subscriber, 'SELECT session_cache_claims::text FROM session_cache_claims'), $before, "the publisher's claims do not arrive at the subscriber");
$subscriber->restart;
wait_for_cache($subscriber, $redis_s, what => 'the subscriber claims its own Redis after a restart', timeout => 25);
value($subscriber, 'DROP SUBSCRIPTION claims');
leave_no_redis($subscriber, $redis_s);
leave_no_redis($publisher, $redis_p);
done_testing();
