# A prefix that the Redis ACL denies the pusher: only that namespace has no copies,
# session_health() names it, and no outdated copy is left for its readers.
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
my $secret = 'pusherpassword';
my @user = ('ACL', 'SETUSER', 'pusher', 'on', ">$secret", 'resetkeys', '~session_store:*', '~session:*', '~whole:*', '~plain:*');

$redis->cmd(@user, '+@all', '-@dangerous', '+info');
my $node = new_store('denied', conf => "session_store.lease = 1s\nsession_store.redis_url = '"
	  . $redis->url(user => 'pusher', password => $secret) . "'\n");
wait_for_cache($node, $redis, what => 'the cache is up');

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub strong_is
{
	my ($key, $want, $what) = @_;

	return soon($what, 20, sub { ($redis->strong($key) // '') eq $want });
}

sub warning
{
	my ($pattern, $what) = @_;

	return soon($what, 30, sub { health($node, 'warnings') =~ $pattern });
}

value(q{INSERT INTO session_namespaces (name, key_prefix, tail_prefix, sliding, cache) VALUES
	('whole', 'whole:', NULL, false, 'all'), ('secret', 'secret:', NULL, false, 'all'), ('tails', 'plain:', 'secret-tail:', false, 'all')});
value(q{SELECT session_save('a', '{"n": 1}', namespace => 'whole'), session_save('a', '{"n": 1}', namespace => 'secret')});
strong_is('whole:a', '{"n": 1}', 'a namespace that may be accessed has its copies');
is($redis->get('secret:a'), undef, '.. the other has none');
warning(qr/1 namespaces have no copies in Redis, among them secret: the ACL/, '.. session_health() names it');
is(cache_health($node, 'namespaces_denied'), '1', '.. and counts it');
like(value('SELECT session_metrics()'), qr/^session_store_cache_namespaces_denied 1$/m, '.. as a metric');
wait_for($node, q{SELECT (session_health() #>> '{cache,running}')::boolean}, '.. the cache runs', timeout => 10);

# work in both continues without another interruption
my $reconnects = cache_health($node, 'reconnects');
value(q{SELECT session_save('b' || i, '{"n": 1}', namespace => ns) FROM generate_series(1, 50) i, unnest(ARRAY['whole', 'secret']) ns});
sync_cache($node);
compare_all($node, $redis, 'copies');
is(scalar($redis->keys('whole:b*')), 50, '.. all of the one namespace');
within(5, 'logouts in the other', sub { value(q{SELECT session_delete('b1', namespace => 'secret'), session_delete('b1', namespace => 'whole')}) });
value('SELECT * FROM session_cache_verify()');
is(cache_health($node, 'reconnects'), $reconnects, '.. without another connection');

# the prefix of the tails
value(q{SELECT session_append('a', '{"n": 1}', namespace => 'tails')});
warning(qr/2 namespaces have no copies in Redis/, 'a tail_prefix that is denied');
strong_is('whole:a', '{"n": 1}', '.. others have their copies');
is(join(' ', $redis->keys('plain:*')), '', '.. the namespace has neither tails nor documents');
value(q{UPDATE session_namespaces SET max_bytes = 1000000 WHERE name = 'whole'});
value(q{SELECT session_save('a', '{"n": 2}', namespace => 'whole'), session_save('a', '{"n": 2}', namespace => 'secret')});
strong_is('whole:a', '{"n": 2}', 'policies were read again');
sync_cache($node);
is(count_log($node, qr/namespace "secret" has no copies in Redis/), 1, '.. and the denied namespace is still known');

# allowed: it gets copies
$redis->cmd(@user, '~secret:*', '~secret-tail:*');
soon('the pusher notices that access is allowed', 60, sub { cache_health($node, 'namespaces_denied') eq '0' });
value(q{SELECT session_save('a', '{"n": 3}', namespace => 'secret')});
value(q{SELECT session_append('a', '{"n": 2}', namespace => 'tails')});
strong_is('secret:a', '{"n": 3}', '.. and gets its copies');
strong_is('secret-tail:a', '[{"n": 1}, {"n": 2}]', '.. tails as well');
unlike(health($node, 'warnings'), qr/ACL/, '.. the warning is gone');

# denied again, while there are copies that cannot be deleted: no reader may trust them
$redis->cmd(@user);
within(20, 'a logout waits for the end of the lease', sub { value(q{SELECT session_delete('a', namespace => 'secret')}) });
is($redis->strong('secret:a'), undef, '.. no strong reader sees it when it returns');
warning(qr/keys that begin with \\?"secret/, '.. session_health() says which keys cannot be deleted');
for (1 .. 20)
{
	is($redis->strong('secret:a'), undef, 'no lease while they are there') if defined $redis->strong('secret:a');
	value('SELECT pg_sleep(0.1)');
}
is($redis->get($SessionRedis::lease), undef, 'no lease while they are there');
# while access was allowed, a read of all rows may have made copies of the others
$redis->cmd('DEL', $redis->keys('secret:*'), $redis->keys('secret-tail:*'));
wait_for_cache($node, $redis, what => 'once they are gone, the cache is back', timeout => 60);
value(q{SELECT session_save('z', '{"n": 3}', namespace => 'whole')});
strong_is('whole:z', '{"n": 3}', '.. for the others');
warning(qr/namespaces have no copies in Redis/, '.. and session_health() names the namespace');

leave_no_redis($node, $redis);
done_testing();
