# An idle cache costs next to nothing: its pusher renews the lease without transactions, and
# reacts at once to changes in the database or in Redis.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $redis = new_redis();
my $node = new_cached_store('idle_pusher', $redis, extension => 0, conf => "autovacuum = off\nmax_prepared_transactions = 2\n");

$node->safe_psql('postgres', 'CREATE DATABASE quiet');
create_extension($node, 'quiet');
wait_for_cache($node, $redis, db => 'quiet');

sub value
{
	return $node->safe_psql('quiet', $_[0]);
}

# Counts the transactions of the database while its pusher wakes so many times.  Each renewal of the
# lease, two a second, is a wake-up and a wait for the answer.
sub while_it_wakes
{
	my ($wakes) = @_;

	return while_it_sleeps($node, 'quiet', pusher_pid($node, 'quiet'), $wakes);
}

# More wake-ups than there are in the five seconds between two samples of the scrubber.
sub becomes_idle
{
	my ($what) = @_;

	return soon("$what: the pusher rests", 180, sub { while_it_wakes(24) == 0 });
}

sub save
{
	my ($n) = @_;

	value(qq{SELECT session_save('s' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 10) i});
	return;
}

sub in_redis
{
	my ($what, $n, $timeout) = @_;

	return soon($what, $timeout // 10, sub { ($redis->get('whole:s1') // '') eq qq({"n": $n}) });
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')});
save(1);
in_redis('copies are there', 1);
becomes_idle('a cache of living sessions');
cmp_ok(while_it_wakes(120), '<=', 12, '.. and continues to, except for a check once a minute');
is(value(q{SELECT (session_health() #>> '{cache,resting_since}')::timestamptz BETWEEN now() - interval '1 hour' AND now()}), 't', 'session_health says since when');

my ($wakes, $seconds) = sleeps_during(pusher_pid($node, 'quiet'), 10);
cmp_ok($wakes, '<=', 4 * $seconds + 8, 'it wakes for the lease alone');

# ---- changes that end the rest

my $since = value('SELECT clock_timestamp()');

save(2);
in_redis('a call is copied', 2);
wait_for($node, "SELECT (session_health() #>> '{cache,resting_since}')::timestamptz > '$since'", '.. and everything is compared once more before it rests', db => 'quiet');
becomes_idle('after a call');
value(q{UPDATE conversation_sessions SET session_data = '{"n": 3}' WHERE namespace = 'whole'});
in_redis('plain SQL is copied', 3);

becomes_idle('after plain SQL');
value('CREATE TABLE other (n int)');
value(q{BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'p'});
cmp_ok(while_it_wakes(24), '>', 4, 'it checks the tables while there is a prepared transaction');
value(q{COMMIT PREPARED 'p'});

becomes_idle('before a policy');
value(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'whole'});
soon('a policy without copies', 10, sub { !$redis->keys('whole:*') });
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'whole'});
save(4);
in_redis('.. and with copies again', 4);

becomes_idle('before a trigger is disabled');
value('ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_change');
soon('a trigger that is disabled: nothing is cached any more', 5, sub { !$redis->keys('whole:*') && !defined $redis->get('session_store:lease') });
value(q{UPDATE conversation_sessions SET session_data = '{"n": 5}' WHERE namespace = 'whole'});
value('ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change');
wait_for_cache($node, $redis, db => 'quiet');
save(6);
in_redis('.. until it is enabled', 6);

becomes_idle('before another relfilenode');
my $flushes = cache_health($node, 'flushes', 'quiet');
value('VACUUM FULL conversation_sessions');
wait_for($node, "SELECT (session_health() #>> '{cache,flushes}')::int > $flushes", 'a table that was rewritten: all copies are flushed', db => 'quiet', timeout => 10);
save(7);
in_redis('.. and made again', 7);

becomes_idle('before a key is evicted');
$redis->cmd('DEL', 'whole:s1');
in_redis('a copy that Redis lost comes back', 7, 150);

becomes_idle('before FLUSHALL');
$redis->flushall;
wait_for_cache($node, $redis, db => 'quiet', what => 'FLUSHALL is noticed');
in_redis('.. and copies come back', 7, 150);

becomes_idle('before ALTER DATABASE SET');
my $pid = pusher_pid($node, 'quiet');
$node->safe_psql('postgres', 'ALTER DATABASE quiet SET session_store.redis_db = 1');
wait_for_pusher($node, 'a setting of the database: another pusher', db => 'quiet', but => $pid, timeout => 90);
wait_for_cache($node, $redis, db => 'quiet', redis_db => 1);
$node->safe_psql('postgres', 'ALTER DATABASE quiet RESET session_store.redis_db');
wait_for_cache($node, $redis, db => 'quiet', timeout => 90);

becomes_idle('before the extension is dropped');
leave_no_redis($node, $redis, db => 'quiet');
done_testing();
