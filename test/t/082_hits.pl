# Counters on whole servers: 50 clients count every hit, and no hit extends the period; commits do
# not wait for the disk unless the transaction did something else; the keeper purges counters and
# rests; and counters with dumps, standbys, subscriptions, locks and foreign keys of the owner.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('hits', init => { allows_streaming => 'logical' }, conf => <<'EOC');
fsync = on
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
autovacuum = off
checkpoint_timeout = 1h
session_store.purge_interval = 100ms
EOC

sub value
{
	my ($sql, $db) = @_;

	return $node->safe_psql($db // 'postgres', $sql);
}

# ---- 50 clients

my $first = value(q{SELECT resets_at FROM session_hit('shared', '1 hour')});
my $out = pgbench_run($node, <<'EOS', '-c', 50, '-j', 4, '-t', 20);
SELECT session_hit('shared', '1 hour', by => 2, max => 10);
SELECT session_hit('shared', '1 ms', by => -1);
SELECT session_hit('of ' || :client_id, '1 hour');
EOS
like($out, qr/number of failed transactions: 0/, '50 clients count');
is(value(q{SELECT hits || ' ' || resets_at FROM session_counters WHERE counter_id = 'shared'}), 1 + 50 * 20 . " $first", '.. every hit, and none extends the period');
is(value(q{SELECT count(*) || ' ' || min(hits) || ' ' || max(hits) FROM session_counters WHERE counter_id LIKE 'of %'}), '50 20 20', '.. those of each client as well');
pgbench_run($node, <<'EOS', '-c', 50, '-j', 4, '-t', 4);
SELECT session_hit('new ' || i, '1 hour') FROM generate_series(1, 5) i;
EOS
is(value(q{SELECT count(*) || ' ' || min(hits) || ' ' || max(hits) FROM session_counters WHERE counter_id LIKE 'new %'}), '5 200 200', '.. also when all of them begin the period');

# ---- durability: did the last statement of a session return before its commit was on the disk?

sub check
{
	return durability_is($node, @_);
}

my $hit = q{SELECT session_hit('d', '1 hour')};

set_conf_interval('0');
value('CREATE TABLE other (n int)');
check('relaxed', 'a hit', $hit);
check('relaxed', 'a hit that begins a period', q{SELECT session_hit('d' || clock_timestamp()::text, '1 hour')});
check('relaxed', 'hits that are taken back', q{SELECT session_hit('d', '1 hour', by => -1)});
check('relaxed', 'several', "BEGIN; $hit; $hit; COMMIT");
check('strict', 'a row before', "BEGIN; INSERT INTO other VALUES (1); $hit; COMMIT");
check('strict', 'a row after', "BEGIN; $hit; INSERT INTO other VALUES (1); COMMIT");
check('strict', 'another change in the statement', "INSERT INTO other SELECT (session_hit('d', '1 hour')).hits");
check('strict', 'a session in a strict namespace', "BEGIN; $hit; SELECT session_save('s', '{}'); COMMIT");
check('strict', 'a logout', "BEGIN; $hit; SELECT session_delete('s'); COMMIT");
check('strict', 'a reset', q{SELECT session_hit_reset('d')});
value(q{INSERT INTO session_namespaces (name, durability, cache) VALUES ('fast', 'relaxed', 'off')});
check('relaxed', 'a session in a relaxed namespace', "BEGIN; $hit; SELECT session_save('s', '{}', namespace => 'fast'); COMMIT");
value(q{CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS 'BEGIN INSERT INTO other VALUES (1); RETURN NULL; END';
	CREATE TRIGGER mine AFTER INSERT OR UPDATE ON session_counters FOR EACH ROW EXECUTE FUNCTION mine()});
# (once before, because reading catalogs that have just changed may write WAL)
durability($node, $hit);
check('strict', 'while a trigger of the owner is on the table', $hit);
check('relaxed', '.. which does not matter to sessions', q{SELECT session_save('s', '{}', namespace => 'fast')});
value('DROP TRIGGER mine ON session_counters');
check('relaxed', '.. and again without it', $hit);
is(value(q{SELECT count(*) FROM session_events}), '0', 'a counter writes no events');

# ---- a standby reads

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
value(q{SELECT session_hit('on standby', '1 hour', by => 3); SET synchronous_commit = on; INSERT INTO other VALUES (2)});
wait_for_replay($node, $standby);
is($standby->safe_psql('postgres', q{SELECT hits || ' ' || remaining FROM session_hit('on standby', NULL, by => 0, max => 5)}), '3 2', 'a standby reads counters');
is(sqlstate($standby, q{SELECT session_hit('on standby', '1 hour')}), '25006', '.. and cannot count');
is(sqlstate($standby, q{SELECT session_hit_reset('on standby')}), '25006', '.. nor resets');
$standby->stop;

# ---- dump and restore, and a subscriber

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
run_ok('pg_dump', $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres');
value('CREATE DATABASE restored');
run_ok('psql', $node->installed_command('psql'), '-Xq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-f', $dump, 'restored');
my $all = q{SELECT count(*) || ' ' || md5(string_agg(c::text, ' ' ORDER BY namespace, counter_id)) FROM session_counters c};
is(value($all, 'restored'), value($all), 'counters survive dump and restore');

my $subscriber = new_store('subscriber', conf => "session_store.purge_interval = 100ms\n");
value(q{CREATE PUBLICATION pub FOR TABLE session_counters});
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($node, 'sub');
is($subscriber->safe_psql('postgres', $all), value($all), 'a subscriber has them');
# (a commit that waits for the disk, because only flushed WAL is replicated)
value(q{SELECT session_hit('ended', '1 ms'); INSERT INTO other VALUES (3)});
wait_for_replay($node, 'sub');
is(health($subscriber, 'purge,left_to_publisher'), '["session_counters"]', 'the subscriber leaves their purge to the publisher');
my $now = $subscriber->safe_psql('postgres', 'SELECT clock_timestamp()');
wait_for($subscriber, "SELECT (session_health() #>> '{keeper,tasks,counters,last_run}')::timestamptz > '$now'::timestamptz", 'its keeper has had time to purge');
is($subscriber->safe_psql('postgres', q{SELECT session_purge(), (SELECT count(*) FROM session_counters WHERE counter_id = 'ended')}), '0|1', '.. and leaves it, as session_purge() does');
set_conf_interval('100ms');
wait_for($node, q{SELECT count(*) = 0 FROM session_counters WHERE counter_id = 'ended'}, 'the keeper of the publisher purges it');
value('INSERT INTO other VALUES (4)');
wait_for_replay($node, 'sub');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM session_counters WHERE counter_id = 'ended'}), '0', '.. and the subscriber follows');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
leave_nothing($subscriber);

# ---- the keeper purges counters that have ended, whichever others it cannot remove, and rests

value(q{SELECT count(session_hit('many' || i, '1 ms')) FROM generate_series(1, 5000) i});
wait_for($node, q{SELECT count(*) = 0 FROM session_counters WHERE counter_id LIKE 'many%'}, 'the keeper purges counters that have ended');
like(value('SELECT session_metrics()'), qr/^session_store_counters_purged_total [1-9]\d{3,}$/m, '.. and counts them');
like(value('SELECT session_metrics()'), qr/^session_store_hits_total [1-9]\d{3,}$/m, '.. as it counts hits');
cmp_ok(value('SELECT count(*) FROM session_counters'), '>', 50, '.. those whose period is running stay');
value(q{CREATE TABLE refers (namespace text, counter_id text, FOREIGN KEY (namespace, counter_id) REFERENCES session_counters);
	SELECT session_hit('refused' || i, '500 ms') FROM generate_series(1, 3) i;
	INSERT INTO refers SELECT 'default', 'refused' || i FROM generate_series(1, 3) i;
	SELECT session_hit('free' || i, '500 ms') FROM generate_series(1, 3) i});
wait_for($node, q{SELECT count(*) = 0 FROM session_counters WHERE counter_id LIKE 'free%'}, 'a foreign key refuses some: the others are removed');
wait_for($node, q{SELECT session_health() ->> 'warnings' ~ 'counters cannot be removed: 3 rows'}, '.. and session_health() says so');
value('DROP TABLE refers');
wait_for($node, q{SELECT count(*) = 0 FROM session_counters WHERE counter_id LIKE 'refused%'}, '.. without it they are removed');

my $locker = $node->background_psql('postgres');
# (with a counter that ends meanwhile, because the keeper might rest)
for (1 .. 20)
{
	value(q{SELECT session_hit('locked', '2 seconds')});
	$locker->query_safe('BEGIN; LOCK TABLE session_counters IN SHARE MODE');
	last if value(q{SELECT count(*) FROM session_counters WHERE counter_id = 'locked'}) eq '1';
	$locker->query_safe('ROLLBACK');	# it was purged before
}
wait_for($node, q{SELECT (session_health() #>> '{keeper,tasks,counters,skipped}')::int > 2}, 'the keeper skips a table that is locked');
like(health($node, 'warnings'), qr/the keeper skips its tasks counters until a lock is released: table public\.session_counters is locked by process/, '.. and health names it');
$locker->quit;

value('CREATE DATABASE quiet');
create_extension($node, 'quiet');
value(q{SELECT count(session_hit('q' || i, '1 day')) FROM generate_series(1, 100) i}, 'quiet');
soon('it rests while all periods are running', 180, sub { while_it_sleeps($node, 'quiet', keeper_pid($node, 'quiet'), 10) == 0 });
value(q{SELECT session_hit('brief', '1 ms')}, 'quiet');
wait_for($node, q{SELECT count(*) = 100 FROM session_counters}, '.. and purges one that begins and ends meanwhile', db => 'quiet');

leave_nothing($node);
done_testing();

sub set_conf_interval
{
	my ($interval) = @_;

	value("ALTER SYSTEM SET session_store.purge_interval = '$interval'");
	value('SELECT pg_reload_conf()');
	wait_for($node, "SELECT setting::int = extract(epoch FROM interval '$interval') * 1000 FROM pg_settings WHERE name = 'session_store.purge_interval'", "purge_interval is $interval", quiet => 1);
	return;
}
