# Policies that end sessions or copies earlier reach Redis: after COMMIT no reader finds a copy
# that the new policy does not allow. Only that namespace is flushed, at most once in five
# seconds, and the lease of all others stays.
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
my $node = new_cached_store('policies', $redis, conf => <<'EOC');
session_store.lease = 10s
max_prepared_transactions = 10
autovacuum = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# A namespace for each case, with ten sessions and as many copies.
my $number = 0;

sub make
{
	my (%columns) = @_;
	my $ns = 'n' . ++$number;
	my %row = (name => "'$ns'", sliding => 'false', cache => q{'all'}, cache_ttl => q{'1 hour'}, tail_prefix => "'$ns-tail:'", %columns);
	my @names = sort keys %row;

	value(sprintf q{INSERT INTO session_namespaces (%s) VALUES (%s)}, join(', ', @names), join(', ', @row{@names}));
	fill($ns);
	return $ns;
}

sub fill
{
	my ($ns) = @_;

	value("SELECT session_save('s' || i, '{\"n\": 1}', namespace => '$ns'), session_append('s' || i, '{\"m\": 1}', namespace => '$ns'), session_get('s' || i, '$ns') FROM generate_series(1, 10) i");
	sync_cache($node);
	return;
}

sub copies
{
	my ($prefix) = @_;

	return scalar $redis->keys("$prefix*");
}

# The pusher writes its report every 100 ms, and before it answers a request.
sub flushes
{
	value('SELECT session_cache_verify(1)');
	return value(q{SELECT substring(session_metrics() FROM 'session_store_cache_flushes_total[^\n]* ([0-9]+)')});
}

# ---- the effect of each column

my $other = make();
is(copies("$other:"), 10, 'copies of another namespace');
is(copies("$other-tail:"), 10, '.. and of its tails');
my $others_lease = $redis->get($SessionRedis::lease);
ok(defined $others_lease, 'there is a lease');

my $long_ago = q{UPDATE conversation_sessions SET created_at = created_at - interval '1 day' WHERE namespace = '%s'};

for my $case (
	[ 'a shorter max_lifetime',    q{max_lifetime = '1 hour'},                 'flush', {}, $long_ago ],
	[ '.. than before',            q{max_lifetime = '1 hour'},                 'flush', { max_lifetime => q{'2 days'} }, $long_ago ],
	[ 'a longer one',              q{max_lifetime = '2 days'},                 'stay',  { max_lifetime => q{'1 day'} } ],
	[ 'none any more',             q{max_lifetime = NULL},                     'stay',  { max_lifetime => q{'1 day'} } ],
	[ 'cache off',                 q{cache = 'off'},                           'flush' ],
	[ 'cache hot instead of all',  q{cache = 'hot'},                           'flush' ],
	[ 'cache all instead of hot',  q{cache = 'all'},                           'stay',  { cache => q{'hot'} } ],
	[ 'a shorter cache_ttl',       q{cache_ttl = '1 min'},                     'flush', { cache => q{'hot'} } ],
	[ 'a longer cache_ttl',        q{cache_ttl = '2 hours'},                   'stay',  { cache => q{'hot'} } ],
	[ '.. which is not used',      q{cache_ttl = '1 min'},                     'stay' ],
	[ 'another key_prefix',        q{key_prefix = name || '-new:'},            'flush' ],
	[ 'hashed keys',               q{hash_keys = true},                        'flush' ],
	[ 'sliding',                   q{sliding = true},                          'flush' ],
	[ 'isolation of owners',       q{owner_isolation = true},                  'flush' ],
	[ 'another tail_prefix',       q{tail_prefix = name || '-last:'},          'flush' ],
	[ 'no tails',                  q{tail_prefix = NULL},                      'flush' ],
	[ 'another tail_size',         q{tail_size = 5},                           'gone' ],
	[ 'another name',              q{name = name || '_renamed'},               'flush' ],
	[ 'ttl',                       q{ttl = '5 min'},                           'stay' ],
	[ 'tombstone, audit, limits',  q{tombstone = '1 min', audit = true, audit_saves = true, events_keep = '1 day', max_bytes = 100000, max_sessions_per_owner = 5, on_quota = 'evict', hot_uses = 3}, 'stay' ],
	[ 'durability, allowed_roles', q{durability = 'relaxed', allowed_roles = '{pg_monitor}'}, 'stay' ],
	[ 'nothing',                   q{ttl = ttl},                               'stay' ],
  )
{
	my ($what, $set, $effect, $columns, $before) = @$case;
	my $ns = make(%{ $columns // {} });

	value(sprintf $before, $ns) if defined $before;
	sync_cache($node);
	my ($flushes, $had) = (flushes(), copies("$ns:") + copies("$ns-tail:"));
	is($had, 20, "$ns has copies");
	value("UPDATE session_namespaces SET $set WHERE name = '$ns'");
	my @left = grep { defined $redis->strong($_) } $redis->keys("$ns:*"), $redis->keys("$ns-tail:*");
	if ($effect eq 'stay')
	{
		is(scalar @left, 20, "$what: copies stay");
		is(flushes(), $flushes, '.. nothing is flushed');
	}
	elsif ($effect eq 'flush')
	{
		is("@left", '', "$what: no copy is left");
	}
	else
	{
		sync_cache($node);
		wait_for_cache($node, $redis);
		my $give_up = time + 60;
		usleep(10_000) while copies("$ns:") + copies("$ns-tail:") > 0 && time < $give_up;
		is(copies("$ns:") + copies("$ns-tail:"), 0, "$what: the copies are deleted");
	}
}
is(copies("$other:") + copies("$other-tail:"), 20, 'those of another namespace stay');
is($redis->get($SessionRedis::lease) =~ s/-.*//r, $others_lease =~ s/-.*//r, '.. and so did the lease');

# ---- rows that are inserted and deleted

my ($flushes, $ns) = (flushes(), make());
is(flushes(), $flushes, 'a new namespace flushes nothing');
value("DELETE FROM session_namespaces WHERE name = '$ns'");
is(copies("$ns:") + copies("$ns-tail:"), 0, 'one that is deleted has no copies');
is(copies("$other:"), 10, '.. others have');
value(q{INSERT INTO session_namespaces (name, sliding, cache, cache_ttl) VALUES ('default', false, 'all', '1 hour')});
fill('default');
is(copies('session:'), 10, 'copies of default');
value(q{DELETE FROM session_namespaces WHERE name = 'default'});
is(copies('session:'), 0, '.. are deleted with its row, because the built-in policy slides');
is(copies("$other:"), 10, '.. others are not');

# ---- which commits wait

sub commit_of
{
	my ($sql) = @_;
	my $psql = $node->background_psql('postgres');
	my $pid = $psql->query_safe('SELECT pg_backend_pid()');

	wait_for_cache($node, $redis);
	$psql->query_safe("BEGIN; $sql");
	my $waits = waits_at_commit($node, $redis, $psql, $pid);
	wait_for_cache($node, $redis);
	return $waits ? 'waits' : 'does not wait';
}

$ns = make();
is(commit_of("UPDATE session_namespaces SET max_lifetime = '1 min' WHERE name = '$ns'"), 'waits', 'a shorter max_lifetime waits for Redis');
is(commit_of("UPDATE session_namespaces SET ttl = '1 min' WHERE name = '$ns'"), 'does not wait', 'another ttl does not');
$ns = make();
is(commit_of("UPDATE session_namespaces SET tail_size = 7 WHERE name = '$ns'"), 'does not wait', '.. nor another tail_size');
$ns = make();
is(commit_of("SAVEPOINT s; UPDATE session_namespaces SET cache = 'off' WHERE name = '$ns'; ROLLBACK TO s"), 'does not wait', '.. nor one that was rolled back');
is(copies("$ns:"), 10, '.. which flushes nothing');
is(commit_of("SAVEPOINT s; SAVEPOINT t; UPDATE session_namespaces SET cache = 'off' WHERE name = '$ns'; RELEASE t; RELEASE s; SELECT session_save('x', '{}', namespace => '$other')"), 'waits', 'one in a released savepoint does');
is(copies("$ns:"), 0, '.. and flushes');
is(copies("$other:"), 11, '.. that namespace, and other saved sessions are copied');

# ---- at most once in five seconds

$ns = make();
my $second = make();
value("UPDATE session_namespaces SET max_lifetime = '1 hour' WHERE name = '$ns'");
my $start = time;
value("UPDATE session_namespaces SET max_lifetime = '1 hour' WHERE name = '$second'");
in_time(time - $start, 3, 'another namespace is flushed at once');
fill($ns);
value("UPDATE session_namespaces SET max_lifetime = '1 min' WHERE name = '$ns'");
cmp_ok(time - $start, '>=', 4.5, 'the same one not before five seconds have passed');
is(copies("$ns:"), 0, '.. which is then flushed');

# ---- prepared, truncated

isnt(sqlstate($node, "BEGIN; UPDATE session_namespaces SET cache = 'off' WHERE name = '$second'; PREPARE TRANSACTION 'p'"), undef, 'a policy cannot be prepared with a cache');
like(($node->psql('postgres', "BEGIN; UPDATE session_namespaces SET cache = 'off' WHERE name = '$second'; PREPARE TRANSACTION 'p'"))[2], qr/cannot prepare a transaction that has changed sessions or policies/, '.. says why');
cmp_ok(copies("$other:"), '>', 0, 'before TRUNCATE');
value('TRUNCATE session_namespaces');
is(scalar(grep { !/^session_store:/ } $redis->keys('*')), 0, 'TRUNCATE leaves no copy');

# ---- many readers, and a policy that changes meanwhile

my @storms = map { make() } 1 .. 5;
my @pids = map { my $n = $_; $node->background_psql('postgres') } 1 .. 4;
for my $ns (@storms)
{
	value(sprintf $long_ago, $ns);
	$_->{stdin} .= "SELECT count(session_get('s' || (i % 10 + 1), '$ns')), count(session_save('s' || (i % 10 + 1), '{}', namespace => '$ns')) FROM generate_series(1, 400) i;\n" for @pids;
	$_->{run}->pump_nb for @pids;
	value("UPDATE session_namespaces SET max_lifetime = '1 hour' WHERE name = '$ns'");
	my @seen = grep { defined $redis->strong($_) && value("SELECT session_get('" . s/^$ns://r . "', '$ns') IS NULL") eq 't' } map { "$ns:s$_" } 1 .. 10;
	is("@seen", '', "$ns: no strong reader finds a session that SQL does not");
	$_->query_safe('SELECT 1') for @pids;
}
$_->quit for @pids;

is(value(q{SELECT session_health() ->> 'warnings'}), '[]', 'health is content');
leave_no_redis($node, $redis);
done_testing();
