# Tails in Redis after session_amend() and after session_pop() from the start: they match the table,
# and no strong reader sees the old message once the COMMIT of an amend has returned.
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
my $node = new_cached_store('amended', $redis, conf => "session_store.lease = 3s\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub numbers
{
	return '[' . join(', ', map { "{\"n\": $_}" } @_) . ']';
}

# Waits until Redis has this tail; requests a copy that is missing.
sub tail_becomes
{
	my ($id, $want, $what) = @_;
	my $copy;
	my $good = soon($what, 30, sub {
		sync_cache($node);
		$copy = $redis->get("tail:$id");
		value("SELECT count(*) FROM session_history('$id', last => 1)") unless defined $copy;
		return defined $copy && $copy eq $want;
	});

	diag('it is ' . ($copy // 'missing')) unless $good;
	return $good;
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, sliding, tail_prefix, tail_size) VALUES ('n', 'all', false, 'tail:', 4), ('plain', 'all', false, NULL, 20);
ALTER DATABASE postgres SET session_store.namespace = 'n';
EOS

# ---- Redis has the same as the table

value(q{SELECT session_append('a', (SELECT jsonb_agg(jsonb_build_object('n', n)) FROM generate_series(1, 8) n))});
tail_becomes('a', numbers(5 .. 8), 'the tail');
value(q{SELECT session_amend('a', 6, '{"n": 60}')});
tail_becomes('a', numbers(5, 60, 7, 8), 'an amended message');
value(q{SELECT session_amend('a', 8, '{"n": 80}'), session_amend('a', 5, '{"n": 50}')});
tail_becomes('a', numbers(50, 60, 7, 80), '.. the first and the last of the tail');
value(q{SELECT session_amend('a', 2, '{"n": 20}')});
tail_becomes('a', numbers(50, 60, 7, 80), '.. one before the tail');
value(q{SELECT session_pop('a', from_start => true), session_pop('a', 2, from_start => true)});
tail_becomes('a', numbers(50, 60, 7, 80), 'a pop from the start of a longer history leaves the tail');
value(q{SELECT session_pop('a', 2, from_start => true)});
tail_becomes('a', numbers(60, 7, 80), '.. and of a shorter one shortens it');
value(q{BEGIN; SELECT session_amend('a', 7, '{"n": 0}'); ROLLBACK});
tail_becomes('a', numbers(60, 7, 80), 'an amend that was rolled back');
value(q{BEGIN; SELECT session_amend('a', 7, '{"n": 70}'); SAVEPOINT s; SELECT session_amend('a', 8, '{"n": 0}'), session_pop('a', from_start => true); ROLLBACK TO s; SELECT session_append('a', '{"n": 9}'); COMMIT});
tail_becomes('a', numbers(60, 70, 80, 9), '.. to a savepoint');
value(q{BEGIN; SELECT session_amend('a', 9, '{"n": 90}'); SELECT session_pop('a'); SELECT session_amend('a', 8, '{"n": 8}'); COMMIT});
tail_becomes('a', numbers(60, 70, 8), 'an amended message that is popped in the same transaction');
value(q{SELECT session_pop('a', 3, from_start => true)});
tail_becomes('a', '[]', 'nothing is left');
value(q{SELECT session_append('a', '{"n": 10}')});
tail_becomes('a', numbers(10), '.. and it goes on');

# ---- strong readers

my %changes = (change => sub { qq{SELECT session_amend('strong', 1, '{"n": $_[0]}')} }, tail => sub { numbers($_[0]) }, becomes => \&tail_becomes);

value(q{SELECT session_append('strong', '{"n": 0}')});
tail_becomes('strong', numbers(0), 'a tail to be amended');
wait_for_cache($node, $redis);
my ($trusted, $old) = tails_after_commits($node, $redis, 'amend', numbers => [ 1 .. 15 ], %changes);
cmp_ok($trusted, '>', 0, 'there is a lease when the COMMIT of an amend has returned');
is($old, '', '.. and no old message');

# A pusher that is stopped deletes nothing: the COMMIT returns when the lease has ended.
(undef, $old) = tails_after_commits($node, $redis, 'amend', numbers => [ 101 .. 103 ], stopped => 1, %changes);
is($old, '', '.. and no strong reader sees the old message');

# ---- other cases

value(q{SELECT session_append('other', '{"n": 1}'), session_append('call', '[{"n": 1}, {"n": 2}]'), session_append('p', '{"n": 1}', namespace => 'plain')});
tail_becomes('other', numbers(1), 'another session');
my $flushes = cache_health($node, 'flushes');
value(q{SELECT session_amend('call', 2, '{"n": 3}'), session_amend('p', 1, '{"n": 2}', 'plain'), session_amend('call', 7, '{"n": 3}')});
tail_becomes('call', numbers(1, 3), 'an amend');
is(cache_health($node, 'flushes'), $flushes, '.. flushes nothing');
tail_becomes('other', numbers(1), '.. and leaves other copies');
is(value(q{SELECT message FROM session_history('p', namespace => 'plain')}), '{"n": 2}', 'an amend in a namespace without tails');

# A Redis that is away costs at most one lease.
$redis->kill9;
is(value(q{SELECT session_amend('call', 1, '{"n": "away"}')}), 't', 'while Redis is away');
$redis->start;
wait_for_cache($node, $redis, what => '.. Redis is back', timeout => 60);
tail_becomes('call', '[{"n": "away"}, {"n": 3}]', '.. and gets the message');

$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET session_store.namespace');
leave_no_redis($node, $redis);
done_testing();
