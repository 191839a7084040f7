# Ownership of a Redis: two databases, copies of databases, clones of servers and promoted
# standbys do not write into each other's cache.
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

my $names = q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', '%s:', false, 'all', '0')};

sub save
{
	my ($node, $n, $dbname) = @_;

	$node->safe_psql($dbname // 'postgres',
		qq{SELECT session_save('s' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 10) i});
	return;
}

# Waits until session_health() of a node says that its cache is refused, and why.
sub refused
{
	my ($node, $why, $what, %params) = @_;

	return wait_for($node, qq{SELECT session_health() #>> '{cache,state}' = 'refused' AND session_health() #>> '{cache,trouble}' ~ '$why'
		AND session_health() ->> 'warnings' ~ '$why'}, $what, timeout => 15, show => 1, %params);
}

# Are the copies of sessions s1 to s10 those of round n, and are there no others?
sub copies_are
{
	my ($redis, $prefix, $n, $what) = @_;
	my %seen = map { ($_ // 'none') => 1 } $redis->mget(map { "$prefix:s$_" } 1 .. 10);

	delete $seen{none};
	is(join(' ', sort keys %seen), "{\"n\": $n}", $what);
	return;
}

# ---- two databases, one Redis

my $redis = new_redis(save => 1);
my $node = new_cached_store('identity', $redis, conf => "session_store.lease = 1s\nmax_worker_processes = 20\n");

$node->safe_psql('postgres', sprintf $names, 'first');
save($node, 1);
compare_all($node, $redis, 'the first database', all => 1);

$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
$node->safe_psql('other', sprintf $names, 'second');
refused($node, 'another server or database', 'a second database is refused, and health says why', db => 'other');
like(cache_health($node, 'trouble', 'other'), qr/session_cache_takeover\(\)/, '.. and what may be done');
save($node, 100, 'other');
is(scalar $redis->keys('second:*'), 0, 'it writes nothing');
is($node->safe_psql('other', q{SELECT session_get('s1', namespace => 'whole')}), '{"n": 100}', 'and works without');
is($node->safe_psql('other', q{SELECT session_cache_sync('200 ms')}), 'f', 'sync returns that there is no cache');
save($node, 2);
compare_all($node, $redis, 'the first continues undisturbed', all => 1);

$node->safe_psql('postgres', 'ALTER DATABASE other SET session_store.redis_db = 3');
wait_for_cache($node, $redis, db => 'other', redis_db => 3, what => 'with a Redis database of its own it works');
save($node, 101, 'other');
compare_all($node, $redis, '.. in that', db => 'other', redis_db => 3, all => 1);
is(scalar $redis->keys('second:*'), 0, '.. only');

# ---- taken over by hand

$node->safe_psql('postgres', 'ALTER DATABASE other RESET session_store.redis_db');
refused($node, 'another server or database', 'back on the same, it is refused again', db => 'other');
is_deeply($redis->client(db => 3)->cmd('KEYS', '*'), [], '.. and has left nothing in the other one');
is($node->safe_psql('other', 'SELECT session_cache_takeover()'), 't', 'session_cache_takeover()');
wait_for_cache($node, $redis, db => 'other', what => '.. makes it the owner');
save($node, 102, 'other');
compare_all($node, $redis, '.. and its copies are right', db => 'other');
is(scalar $redis->keys('first:*'), 0, 'the copies of the other are gone');
refused($node, 'another server or database', 'the previous owner is refused now');
cmp_ok(cache_health($node, 'takeovers', 'other'), '>=', 1, 'health counts it');
save($node, 3);
$node->safe_psql('postgres', q{SELECT session_delete('s1', namespace => 'whole')});
is(scalar $redis->keys('first:*'), 0, 'and writes nothing');
is($node->safe_psql('postgres', 'SELECT session_cache_takeover()'), 't', 'and taken back');
wait_for_cache($node, $redis, what => '.. it is the owner again');
save($node, 4);
compare_all($node, $redis, '.. and its copies are right');
is(scalar $redis->keys('second:*'), 0, '.. and there are no others');

# a guard that cannot be read
$redis->cmd('HSET', 'session_store:guard', 'last', 'nonsense');
usleep(300_000);
$node->psql('postgres', 'SELECT session_cache_takeover()');
wait_for_cache($node, $redis, what => 'a takeover repairs a damaged guard')
  or $redis->cmd('DEL', 'session_store:guard');
wait_for_cache($node, $redis);
$redis->cmd('HSET', 'session_store:guard', 'epoch', '1');
usleep(300_000);
$node->psql('postgres', 'SELECT session_cache_takeover()');
wait_for_cache($node, $redis, what => '.. of another epoch')
  or $redis->cmd('DEL', 'session_store:guard');
wait_for_cache($node, $redis);
compare_all($node, $redis, '.. and so are the copies');

# an RDB from before this server's last start: its guard is of an older epoch
save($node, 5);
sync_cache($node);
$redis->cmd('SAVE');
$node->restart;
wait_for_cache($node, $redis);
save($node, 6);
sync_cache($node);
$redis->kill9;
usleep(1_100_000);
$redis->start;
wait_for_cache($node, $redis, what => 'an RDB of an older epoch is recovered from', timeout => 25);
compare_all($node, $redis, '.. and no wrong copy is left');

# ---- a copy of a database

$node->safe_psql('postgres', 'DROP DATABASE other');
within(10, 'CREATE DATABASE .. TEMPLATE of a cached one',
	sub { $node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres') });
refused($node, 'copy of database', 'the copy is refused', db => 'copy');
is(cache_health($node, 'refused', 'copy'), 'copied_database', '.. and session_health() says which case it is');
save($node, 200, 'copy');
wait_for_cache($node, $redis, what => 'the original has its cache');
save($node, 7);
compare_all($node, $redis, '.. which is right', all => 1);
copies_are($redis, 'first', 7, '.. its own');
within(10, 'ALTER DATABASE .. RENAME of the copy', sub { $node->safe_psql('postgres', 'ALTER DATABASE copy RENAME TO copied') });
within(10, 'DROP DATABASE of the copy', sub { $node->safe_psql('postgres', 'DROP DATABASE copied') });

# ---- a clone of the whole server

save($node, 8);
sync_cache($node);
$node->stop;
$node->backup_fs_cold('cold');
$node->start;
wait_for_cache($node, $redis, what => 'the original starts again', timeout => 25);

my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($node, 'cold');
$clone->start;
refused($clone, 'copy or a restored backup', 'a clone is refused while the original is alive');
is(cache_health($clone, 'refused'), 'copied_directory', '.. and health says which case it is');
save($clone, 300);
$clone->safe_psql('postgres', q{SELECT session_delete('s10', namespace => 'whole')});
save($node, 9);
compare_all($node, $redis, 'the original continues');
copies_are($redis, 'first', 9, '.. with its own copies');

# the original restarts, and its Redis is emptied meanwhile: the clone sees a Redis without an owner
$node->stop('fast');
$redis->flushall;
$clone->restart;
refused($clone, 'copy or a restored backup', 'while the original is stopped, the clone is still refused');
is($redis->cmd('EXISTS', 'session_store:guard'), 0, '.. and has not claimed an empty Redis');
$node->start;
wait_for_cache($node, $redis, what => 'the original takes its Redis again', timeout => 25);
save($node, 10);
$node->safe_psql('postgres', q{SELECT session_delete('s1', namespace => 'whole')});
is($redis->strong('first:s1'), undef, 'a logout in the original is in Redis');
is(cache_health($clone, 'state'), 'refused', '.. and the clone is refused');

# by request, the clone takes over; the original sees that a server with its identity did so
is($clone->safe_psql('postgres', 'SELECT session_cache_takeover()'), 't', 'session_cache_takeover() in the clone');
wait_for_cache($clone, $redis, what => '.. makes it the owner');
save($clone, 301);
compare_all($clone, $redis, '.. and its copies are right');
refused($node, 'same identity has claimed', 'now the original is refused');
is(cache_health($node, 'refused'), 'claimed_by_copy', '.. and health says which case it is');
save($node, 10);
$node->restart;
refused($node, 'same identity has claimed', '.. after a restart, too');
$clone->restart;
wait_for_cache($clone, $redis, what => 'the clone is the owner after a restart', timeout => 25);
save($clone, 302);
sync_cache($clone);
copies_are($redis, 'first', 302, '.. and alone');
leave_nothing($node);
leave_no_redis($clone, $redis);

# ---- a promoted standby whose primary has failed

# pair(name): a primary with a cache, and a standby that replicates from it.
sub pair
{
	my ($name, $pair_redis, $conf) = @_;
	my $primary = new_cached_store($name, $pair_redis, init => { allows_streaming => 1 },
		conf => "session_store.lease = 1s\n$conf");
	my $standby = PostgreSQL::Test::Cluster->new("${name}_standby");

	$primary->safe_psql('postgres', sprintf $names, 'pair');
	save($primary, 1);
	$primary->backup('base');
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	save($primary, 2);
	wait_for_replay($primary, $standby);
	compare_all($primary, $pair_redis, "$name: the primary", all => 1);
	is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'session_store pusher'}), '0',
		"$name: a standby has no pusher");
	return ($primary, $standby);
}

my $redis2 = new_redis();
my ($primary, $standby) = pair('silent', $redis2, '');
is($standby->safe_psql('postgres', q{SELECT session_health() ->> 'warnings'}), '[]', 'a standby has no warning');
$standby->promote;
refused($standby, 'timeline', 'promoted while the primary is alive, it is refused');
save($standby, 50);
save($primary, 3);
compare_all($primary, $redis2, 'the old primary continues', all => 1);
copies_are($redis2, 'pair', 3, '.. with its own copies');
usleep(2_000_000);
is(cache_health($standby, 'state'), 'refused', '.. and that does not change');
# the primary fails, with changes that the standby never received
$primary->stop('immediate');
my $start = time;
my @trusted;
until ((cache_health($standby, 'state') // '') eq 'running' || time - $start > 30)
{
	push @trusted, grep { defined } $redis2->strong('pair:s1');
	usleep(50_000);
}
my $took = time - $start;
cmp_ok($took, '>', 5, sprintf('silent: it waits until the old owner has surely gone (%.1f s)', $took));
in_time($took, 16, '.. and not forever');
wait_for_cache($standby, $redis2, what => 'it has taken over');
save($standby, 51);
compare_all($standby, $redis2, 'its copies are right');
copies_are($redis2, 'pair', 51, '.. and its own');

# the old primary is started again
$primary->start;
refused($primary, 'superseded', 'the old primary does not write, and says why');
save($primary, 4);
my $began = time;
$primary->safe_psql('postgres', q{SELECT session_delete('s1', namespace => 'whole') FROM pg_sleep(0)});
in_time(time - $began, 11, 'its deletes wait at most for a lease that may exist');
$began = time;
$primary->safe_psql('postgres', q{SELECT session_delete('s2', namespace => 'whole')});
in_time(time - $began, 11, '.. and then no more');
save($standby, 52);
compare_all($standby, $redis2, 'the new primary is not disturbed');
copies_are($redis2, 'pair', 52, '.. by it');
leave_nothing($primary);
leave_no_redis($standby, $redis2);

# ---- promoted, with an immediate takeover

my $redis3 = new_redis();
($primary, $standby) = pair('promoted', $redis3, "session_store.takeover = promoted\n");
$standby->promote;
$start = time;
wait_for_cache($standby, $redis3, what => 'takeover = promoted: the new primary takes over at once', timeout => 20);
in_time(time - $start, 5, '.. although the old one is alive');
refused($primary, 'superseded', 'the old primary detects that it is superseded');
save($standby, 51);
save($primary, 4);
$primary->safe_psql('postgres', q{SELECT session_delete('s5', namespace => 'whole')});
compare_all($standby, $redis3, 'the copies of the new primary are right');
copies_are($redis3, 'pair', 51, '.. and alone');
$primary->restart;
refused($primary, 'superseded', 'after a restart the old primary is still refused');
leave_nothing($standby);
usleep(1_500_000);
is(cache_health($primary, 'state'), 'refused', '.. even when the new one is gone');
$primary->safe_psql('postgres', 'SELECT session_cache_takeover()');
wait_for_cache($primary, $redis3, what => '.. unless a takeover is requested');
save($primary, 5);
compare_all($primary, $redis3, '.. and then its copies are right');
copies_are($redis3, 'pair', 5, '.. its own');
leave_no_redis($primary, $redis3);
done_testing();
