# session_cache_verify() finds copies that are missing or wrong, also with hash_keys, and visits
# all if the sample is larger than what there is; the warning about differing copies ends after
# the repair.
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
my $node = new_cached_store('verify', $redis, conf => "session_store.lease = 1s\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# What one verification has found is corrected.
sub is_verified
{
	my ($what, $code) = @_;

	sync_cache($node);
	return ok($code->(), $what);
}

# Many namespaces without sessions to compare, and ids that begin alike.
value(<<'EOS');
INSERT INTO session_namespaces (name, cache) SELECT 'off' || i, 'off' FROM generate_series(1, 20) i;
INSERT INTO session_namespaces (name, cache, key_prefix, tail_prefix, hash_keys) VALUES ('whole', 'all', 'whole:', 'tail:', false), ('hashed', 'hot', 'hashed:', NULL, true);
SELECT count(session_save('session-' || i, jsonb_build_object('n', i), namespace => 'whole')) FROM generate_series(1, 400) i;
SELECT count(session_append('session-' || i, jsonb_build_object('m', i), namespace => 'whole')) FROM generate_series(1, 50) i;
SELECT count(session_save('session-' || i, jsonb_build_object('n', i), namespace => 'hashed')) FROM generate_series(1, 400) i;
EOS
sync_cache($node);
my @copies = grep { /^whole:/ } $redis->keys('*');
my @tails = $redis->keys('tail:*');
my @hashed = $redis->keys('hashed:*');
is(scalar @copies, 400, 'documents are there');
is(scalar @tails, 50, '.. and tails');
is(scalar @hashed, 400, '.. and those of hashed ids');

# The scrubber may find some of them first, but it compares few every 5 seconds.
$redis->cmd('DEL', @copies);
$redis->cmd('DEL', @tails);
my ($checked, $stale, $missing, $orphaned) = one_row($node, 'SELECT * FROM session_cache_verify(1000000)');
cmp_ok($missing, '>=', 200, "copies that were deleted are found ($missing of 450)");
is($stale + $orphaned, 0, '.. which is no divergence');
is_verified('.. and written again', sub { grep({ /^whole:/ } $redis->keys('*')) == 400 });
is_verified('.. tails, too', sub { (() = $redis->keys('tail:*')) == 50 });

# A sample of some copies finds a wrong one, if not the first time.
$redis->cmd('DEL', @copies);
soon('a sample finds some of them', 30, sub { (one_row($node, 'SELECT * FROM session_cache_verify(200)'))[2] > 0 });
one_row($node, 'SELECT * FROM session_cache_verify(1000000)');

# With hashed ids, sessions are found by their rows.
$redis->cmd('SET', $_, '{"n": 0}', 'PX', 300_000) for @hashed;
($checked, $stale) = one_row($node, 'SELECT * FROM session_cache_verify(1000000)');
cmp_ok($stale, '>=', 200, "wrong copies of hashed ids are found ($stale of 400)");
is_verified('.. and corrected', sub { !grep { ($redis->get($_) // '') eq '{"n": 0}' } @hashed });

# Keys without a session are found wherever they are, and removed.
my @nobody = map { "whole:nobody-$_" } 1 .. 1000;
$redis->cmd('MSET', map { ($_, '{"n": 0}') } @nobody);
cmp_ok((one_row($node, 'SELECT * FROM session_cache_verify(1000000)'))[3], '>', 0, 'keys without a session are found');
is_verified('.. and all of them removed', sub { !grep { defined } $redis->mget(@nobody) });

# With hashed ids a key without a session cannot be recognized: it stays until a flush.
my $foreign = 'hashed:' . '0' x 64;
$redis->cmd('SET', $foreign, '{"n": 0}', 'PX', 3_600_000);
is((one_row($node, 'SELECT * FROM session_cache_verify(1000000)'))[3], '0', 'a key without a session among hashed ones is not found');
is($redis->get($foreign), '{"n": 0}', '.. and stays');
value(q{SELECT session_cache_flush('hashed')});
is($redis->get($foreign), undef, '.. until the namespace is flushed');

# The warning appears, and ends after a pass over all keys that found nothing.
my $warned = q{SELECT count(*) FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w LIKE 'copies in Redis differed%'};
my $metric = q{SELECT substring(session_metrics() FROM '(?n)^session_store_cache_diverging (.*)$')};
soon('there is a warning of a copy that differs', 30, sub {
	$redis->cmd('SET', 'whole:session-1', '{"n": 0}', 'PX', 300_000);
	one_row($node, 'SELECT * FROM session_cache_verify(1000000)');
	value($warned) == 1 && value($metric) == 1; });
my ($divergence) = cache_health($node, 'divergence');
cmp_ok($divergence, '>', 0, ".. and counted ($divergence)");
soon('the warning ends after the repair', 30, sub {
	sync_cache($node);
	one_row($node, 'SELECT * FROM session_cache_verify(1000000)');
	value($warned) == 0 && value($metric) == 0; });
is(value(q{SELECT session_health() -> 'warnings'}), '[]', '.. and session_health() is good');
cmp_ok(cache_health($node, 'divergence'), '>=', $divergence, '.. while the count stays');

# The scrubber by itself: with few keys, because a pass compares a page of them every 5 seconds.
value(q{SELECT session_cache_flush()});
value(q{SELECT session_save('session-1', '{"n": 1}', namespace => 'whole')});
sync_cache($node);
soon('the scrubber finds it', 60, sub {
	$redis->cmd('SET', 'whole:session-1', '{"n": 0}', 'PX', 300_000);
	value($warned) == 1; });
soon('.. and ends the warning', 60, sub { value($warned) == 0 });

# A step ends after a tenth of a second; the next one continues with the keys that are left.
value(q{SELECT session_clear('whole'), session_clear('hashed')});
value(q{SELECT count(session_save('large-' || i, (SELECT jsonb_agg(n) FROM generate_series(1, 100000) n), namespace => 'whole')) FROM generate_series(1, 100) i});
sync_cache($node);
my @large = $redis->keys('whole:large-*');
is(scalar @large, 100, 'large documents have copies');
$redis->cmd('SET', $_, '{"n": 0}', 'PX', 300_000) for @large;
one_row($node, 'SELECT * FROM session_cache_verify(1000000)');
is_verified('.. and all of them are compared', sub { !grep { $redis->cmd('STRLEN', $_) < 500_000 } @large });

leave_no_redis($node, $redis);
done_testing();
