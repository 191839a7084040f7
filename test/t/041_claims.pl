# Claims of a Redis: which cases are claimed automatically, and which wait for
# session_cache_takeover(), with real servers.
use strict;
use warnings;
use File::Copy ();
use File::Find ();
use File::Path ();
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $policy = q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')};
my $guard = 'session_store:guard';

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

# Waits until session_health() says that the Redis is refused, and which case it is.
sub refused
{
	my ($node, $case, $what, %params) = @_;

	return wait_for($node, qq{SELECT session_health() #>> '{cache,state}' = 'refused' AND session_health() #>> '{cache,refused}' = '$case'
		AND session_health() ->> 'warnings' ~ 'nothing is cached'}, $what, timeout => 20, show => 1, %params);
}

# The guard as text, to compare it; '' without one.
sub guard_of
{
	my ($redis, %params) = @_;
	my $client = $redis->client(%params);

	return join ' ', map { $_ // '' } @{ $client->cmd('HMGET', $guard, 'owner', 'epoch') };
}

# Checks that it is refused, and does not claim a Redis that has no owner.
sub waits
{
	my ($node, $redis, $case, $what, %params) = @_;

	refused($node, $case, $what, %params);
	is(guard_of($redis), ' ', '.. and an empty Redis stays without an owner');
	return;
}

sub takes_over
{
	my ($node, $redis, $what, %params) = @_;

	is(value($node, 'SELECT session_cache_takeover()', $params{db}), 't', 'session_cache_takeover()');
	wait_for_cache($node, $redis, what => $what, timeout => 25, %params);
	return;
}

# ---- a claim is recorded first; if that fails, it is not made

my $redis = new_redis();
my $node = new_cached_store('app', $redis, init => { has_archiving => 1, allows_streaming => 1 },
	conf => "session_store.lease = 1s\nmax_worker_processes = 20\n");

value($node, $policy);
save($node, 1);
compare_all($node, $redis, 'a cache', all => 1);
my ($owner, $epoch) = split / /, guard_of($redis);
is(value($node, q{SELECT system_identifier || '/' || database_oid || '/' || timeline FROM session_cache_claims}), $owner, 'the claim is recorded');
is(value($node, 'SELECT epochs[1] FROM session_cache_claims'), $epoch, '.. with its epoch');
is(sqlstate($node, 'SET ROLE pg_monitor; SELECT * FROM session_cache_claims'), '42501', '.. and it was not granted to anybody');

my $holder = $node->background_psql('postgres', on_error_die => 1);
$holder->query_safe('BEGIN; LOCK TABLE session_cache_claims IN SHARE MODE');
$redis->flushall;
refused($node, 'not_recorded', 'a claim that cannot be recorded is not made: another session has locked the table');
is(guard_of($redis), ' ', '.. and Redis stays without an owner');
$holder->query_safe('COMMIT');
wait_for_cache($node, $redis, what => '.. until it can be recorded');
$holder->quit;
value($node, 'ALTER TABLE session_cache_claims ADD CONSTRAINT full_disk CHECK (epochs[1] < 0) NOT VALID');
wait_for_cache($node, $redis, what => 'the cache is up');
$redis->flushall;
refused($node, 'not_recorded', 'the same if a trigger refuses the row');
wait_for($node, q{SELECT session_health() #>> '{cache,trouble}' ~ 'could not be recorded.*full_disk'}, '.. and session_health() says why', timeout => 20);
is(guard_of($redis), ' ', '.. and Redis stays without an owner');
cmp_ok(count_log($node, qr/ERROR: .*full_disk/), '<=', 2, '.. and it is logged once');
value($node, 'ALTER TABLE session_cache_claims DROP CONSTRAINT full_disk');
wait_for_cache($node, $redis, what => '.. until it can be recorded');
is(value($node, 'SELECT count(*) FROM session_cache_claims'), '1', 'each record replaces the one before');
save($node, 2);
compare_all($node, $redis, '.. and the copies are right', all => 1);

# ---- a guard that names us but was not written by a claim of ours

for my $guard_of_nobody ([ last => 'junk' ], [ epoch => '18446744073709551615', last => 'junk' ], [ epoch => '18446744073709551615' ])
{
	my $claimed = value($node, 'SELECT epochs[1] FROM session_cache_claims');

	$redis->cmd('HSET', $guard, @$guard_of_nobody);
	value($node, 'SELECT pg_terminate_backend(' . pusher_pid($node) . ')');
	refused($node, 'claimed_by_copy', "a guard that cannot be read: @$guard_of_nobody");
	takes_over($node, $redis, '.. until a takeover is requested');
	is(value($node, "SELECT epochs[1] > $claimed AND epochs[1] < 1000 FROM session_cache_claims"), 't', '.. and the next epoch is one of ours');
}

# ---- CREATE DATABASE .. TEMPLATE; then Postgres and Redis restart, and Redis is empty

within(10, 'CREATE DATABASE .. TEMPLATE', sub { $node->safe_psql('template1', 'CREATE DATABASE staging TEMPLATE postgres') });
value($node, q{UPDATE session_namespaces SET key_prefix = 'staging:' WHERE name = 'whole'}, 'staging');
value($node, 'ALTER DATABASE postgres ALLOW_CONNECTIONS false', 'template1');
$node->stop('immediate');
$redis->restart;
# at this time only the copy can find that Redis has no owner
$node->start;
refused($node, 'copied_database', 'the copy of a database waits', db => 'staging');
is(guard_of($redis), ' ', '.. and an empty Redis stays without an owner');
save($node, 100, 'staging');
value($node, 'ALTER DATABASE postgres ALLOW_CONNECTIONS true', 'template1');
wait_for_cache($node, $redis, what => 'the original claims it by itself');
is((split / /, guard_of($redis))[0], $owner, '.. and is the same owner as before');
save($node, 3);
compare_all($node, $redis, '.. and its copies are right', all => 1);
is(scalar $redis->keys('staging:*'), 0, '.. and there are none of the copy');
my $before = pusher_pid($node, 'staging');
value($node, 'ALTER DATABASE staging SET session_store.redis_db = 3');
wait_for_pusher($node, 'another redis_db means another pusher', db => 'staging', but => $before, timeout => 30);
refused($node, 'copied_database', 'with a Redis database of its own the copy still waits', db => 'staging', timeout => 30);
$redis->pause;
is(sqlstate($node, q{SET statement_timeout = '300ms'; SELECT session_cache_takeover()}, db => 'staging'), '57014', 'a takeover is canceled while Redis does not answer');
$redis->resume;
my $since = value($node, 'SELECT clock_timestamp()');
wait_for($node, "SELECT clock_timestamp() > '$since'::timestamptz + interval '3 s'", '.. which answers again');
refused($node, 'copied_database', '.. and nothing was taken over', db => 'staging');
is(guard_of($redis, db => 3), ' ', '.. and that database stays without an owner');
takes_over($node, $redis, '.. and has a cache once a takeover is requested', db => 'staging', redis_db => 3);
save($node, 101, 'staging');
compare_all($node, $redis, '.. which is right', db => 'staging', redis_db => 3);
$node->restart;
wait_for_cache($node, $redis, what => 'after a restart it claims that by itself', db => 'staging', redis_db => 3, timeout => 25);
wait_for_cache($node, $redis, what => '.. and the original its own', timeout => 25);
value($node, 'DROP DATABASE staging');

# ---- a dump, restored

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
my $restored = new_store('dumped', extension => 0, conf => "session_store.lease = 1s\n");
my $other = new_redis();

$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$restored->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $restored->connstr('postgres') ], '.. and restore');
wait_for_keeper($restored, 'postgres');
set_conf($restored, redis_url => $other->url);
waits($restored, $other, 'other_server', 'a restored dump waits');
takes_over($restored, $other, '.. and has a cache once a takeover is requested');
save($restored, 200);
compare_all($restored, $other, '.. which is right', all => 1);
leave_no_redis($restored, $other);

# ---- a base backup, restored; and to a point in time

$node->backup('base');
save($node, 4);
my $target = value($node, 'SELECT pg_switch_wal()') && value($node, 'SELECT pg_current_wal_lsn()');
my $backup = PostgreSQL::Test::Cluster->new('backup');

$backup->init_from_backup($node, 'base');
$other = new_redis();
$backup->append_conf('postgresql.conf', redis_conf($other) . "archive_mode = off\n");
$backup->start;
waits($backup, $other, 'copied_directory', 'a restored base backup waits');
$backup->restart;
waits($backup, $other, 'copied_directory', '.. and so it does after a restart');
value($backup, 'DROP EXTENSION session_store CASCADE');
leave_nothing($backup);

my $pitr = PostgreSQL::Test::Cluster->new('pitr');
$pitr->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
$pitr->append_conf('postgresql.conf', redis_conf($other) . "archive_mode = off\nrecovery_target_action = promote\n");
$pitr->start;
wait_for($pitr, 'SELECT NOT pg_is_in_recovery()', 'a point-in-time recovery ends');
waits($pitr, $other, 'copied_directory', '.. and waits');
$pitr->restart;
waits($pitr, $other, 'copied_directory', '.. and it still waits after a restart');
takes_over($pitr, $other, '.. and has a cache once a takeover is requested');
save($pitr, 300);
compare_all($pitr, $other, '.. which is right');

# the same in place: pg_control is written over, as rsync --inplace does, and keeps its inode
$pitr->stop;
my ($from, $to) = ($node->backup_dir . '/base', $pitr->data_dir);
my $conf = PostgreSQL::Test::Utils::slurp_file("$to/postgresql.conf");
File::Find::finddepth({ no_chdir => 1, wanted => sub {
	return if $_ eq $to || $_ eq "$to/global" || $_ eq "$to/global/pg_control";
	-d $_ && !-l $_ ? rmdir $_ : unlink $_;
} }, $to);
File::Find::find({ no_chdir => 1, wanted => sub {
	my $name = $to . substr $_, length $from;

	-d $_ ? -d $name || mkdir($name, 0700) : File::Copy::copy($_, $name) || die "copy: $!";
} }, $from);
chmod 0700, $to;
unlink "$to/postgresql.conf", "$to/postmaster.pid";
PostgreSQL::Test::Utils::append_to_file("$to/postgresql.conf", $conf);
PostgreSQL::Test::Utils::append_to_file("$to/recovery.signal", '');
$other->flushall;
$pitr->start;
wait_for($pitr, 'SELECT NOT pg_is_in_recovery()', 'a point-in-time recovery in the directory that had the cache');
is(guard_of($other), ' ', '.. finds an empty Redis');
waits($pitr, $other, 'copied_directory', '.. and waits: the backup was that of another directory');
takes_over($pitr, $other, '.. and has a cache once a takeover is requested');
$pitr->stop;
PostgreSQL::Test::Utils::append_to_file("$to/recovery.signal", '');
$other->flushall;
$pitr->start;
wait_for($pitr, 'SELECT NOT pg_is_in_recovery()', 'the same again, from its own directory');
waits($pitr, $other, 'restored', '.. it waits, at a later timeline of the same directory');
$pitr->restart;
waits($pitr, $other, 'restored', '.. and it still waits after a restart');
takes_over($pitr, $other, '.. until a takeover is requested');
leave_no_redis($pitr, $other);

# ---- a standby: promoted, killed before it could claim, and the old primary back as its standby

append_to_file($node->data_dir . '/postgresql.conf', "session_store.takeover = promoted\narchive_mode = off\n");
$node->restart;
wait_for_cache($node, $redis, timeout => 25);
$node->backup('streaming');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'streaming', has_streaming => 1);
$standby->start;
save($node, 5);
wait_for_replay($node, $standby);
$node->stop('fast');
$redis->stop;
$standby->promote;
wait_for($standby, 'SELECT NOT pg_is_in_recovery()', 'a standby is promoted while Redis is away');
wait_for_pusher($standby, '.. and has its pusher');
crash($standby);
ok(!-e $standby->data_dir . '/standby.signal', 'killed and started again, it is not a standby any more');
$redis->start;
wait_for_cache($standby, $redis, what => '.. and claims an empty Redis by itself', timeout => 25);
save($standby, 6);
compare_all($standby, $redis, '.. which is right', all => 1);
like((split / /, guard_of($redis))[0], qr{/2$}, '.. at its timeline');

$node->set_standby_mode;
$node->enable_streaming($standby);
$node->start;
wait_for_replay($standby, $node);
$standby->stop('fast');
$node->promote;
wait_for_cache($node, $redis, what => 'the old primary, now a standby of the new one, takes over when it is promoted', timeout => 25);
like((split / /, guard_of($redis))[0], qr{/3$}, '.. at its timeline');
save($node, 7);
compare_all($node, $redis, '.. and its copies are right', all => 1);
$node->restart;
wait_for_cache($node, $redis, what => '.. also after a restart', timeout => 25);

leave_no_redis($node, $redis);
$standby->clean_node;
done_testing();
