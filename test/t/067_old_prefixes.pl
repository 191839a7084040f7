# Prefixes under which copies were made are known to the next pusher, even if the namespace is
# gone; a prefix that no namespace has any more is forgotten after a last flush.
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
my $node = new_cached_store('prefix_of_old', $redis);

$node->safe_psql('postgres', q{INSERT INTO session_namespaces (name, key_prefix, cache, sliding) VALUES ('late', 'late:', 'all', false)});
$node->safe_psql('postgres', q{SELECT session_save('a', '{"n": 1}', namespace => 'late')});
sync_cache($node);
is($redis->get('late:a'), '{"n": 1}', 'there is a copy in a new namespace');
is($redis->cmd('HEXISTS', 'session_store:guard', 'p:late:'), '1', 'the guard names its prefix');
# the server crashes; the namespace is deleted while there is no pusher
$node->append_conf('postgresql.conf', "session_store.redis_url = ''\n");
crash($node);
$node->safe_psql('postgres', q{DELETE FROM session_namespaces WHERE name = 'late'});
set_conf($node, redis_url => undef);
$node->append_conf('postgresql.conf', "session_store.redis_url = '" . $redis->url . "'\n");
$node->reload;
wait_for_cache($node, $redis, what => 'the cache is back');
is($redis->strong('late:a'), undef, 'no strong reader finds a copy of the deleted namespace');

# ---- a prefix that no namespace has any more is forgotten, and left to others

sub named
{
	return $redis->cmd('HEXISTS', 'session_store:guard', "p:$_[0]");
}

$node->safe_psql('postgres', q{INSERT INTO session_namespaces (name, key_prefix, tail_prefix, cache, sliding) VALUES ('a', 'old:', 'old-tail:', 'all', false), ('b', 'gone:', NULL, 'all', false), ('c', 'back:', NULL, 'all', false)});
$node->safe_psql('postgres', q{SELECT session_save('1', '{"n": 1}', namespace => n) FROM unnest('{a,b,c}'::text[]) n});
sync_cache($node);
is(named($_), '1', "the guard names $_") for qw(old: old-tail: gone: back:);
$node->safe_psql('postgres', q{UPDATE session_namespaces SET key_prefix = 'new:', tail_prefix = NULL WHERE name = 'a'});
$node->safe_psql('postgres', q{DELETE FROM session_namespaces WHERE name IN ('b', 'c')});
soon("it forgets $_", 30, sub { named($_) eq '0' }) for qw(old: old-tail: gone: back:);
soon('.. and names the new one', 30, sub { named('new:') eq '1' });
$redis->cmd('SET', "$_:of another application", 'x') for qw(old old-tail gone);
$node->safe_psql('postgres', 'SELECT session_cache_flush()');
is($redis->get("$_:of another application"), 'x', "$_: keys of another application stay") for qw(old old-tail gone);
$redis->cmd('DEL', "$_:of another application") for qw(old old-tail gone);

# .. and named again when it is used again
$node->safe_psql('postgres', q{INSERT INTO session_namespaces (name, key_prefix, cache, sliding) VALUES ('d', 'back:', 'all', false)});
$node->safe_psql('postgres', q{SELECT session_save('2', '{"n": 2}', namespace => 'd')});
sync_cache($node);
is($redis->get('back:2'), '{"n": 2}', 'a copy under a prefix that is used again');
is(named('back:'), '1', '.. which the guard names again');

# ---- a guard that names too many prefixes is refused, and they are not kept

my $since;

sub restarted
{
	set_conf($node, redis_url => '');
	wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'session_store pusher'}, 'there is no pusher');
	$_[0]->();
	$since = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	set_conf($node, redis_url => undef);
	return;
}

# Not the message about the guard before.
sub is_too_much
{
	my ($what) = @_;

	return wait_for($node, qq{SELECT session_health() #>> '{cache,last_error}' ~ 'names too many or too long prefixes'
		AND (session_health() #>> '{cache,last_error_at}')::timestamptz > '$since'}, $what, timeout => 60);
}

restarted(sub { $redis->cmd('HSET', 'session_store:guard', owner => '1/1/1', epoch => 1, last => '0000000000000001-1', map { ("p:many$_:" => 1) } 1 .. 10_001) });
is_too_much('a guard with 10001 prefixes is refused');
restarted(sub { $redis->cmd('DEL', 'session_store:guard'); $redis->cmd('HSET', 'session_store:guard', 'p:' . 'x' x 401, 1) });
is_too_much('.. or with one of 401 bytes');
restarted(sub { $redis->cmd('DEL', 'session_store:guard') });
wait_for_cache($node, $redis, what => 'the cache is back when the guard is deleted');
leave_no_key($node, $redis);
done_testing();
