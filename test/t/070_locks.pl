# Locks of others on the tables: pusher, keeper and session_health() do not wait. The pusher
# stays connected to Redis and deletes copies of sessions that change, the keeper skips its
# tasks, session_health() names the table and the holder of the lock, and session_metrics()
# counts. Afterwards everything works as before.
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
my $node = new_cached_store('locks', $redis, conf => <<'EOC');
session_store.lease = 10s
session_store.purge_interval = 100ms
autovacuum = off
max_prepared_transactions = 10
EOC
my $offset = -s $node->logfile;

# a statement of this test that waits for a lock fails, so that none can hang
sub value
{
	return $node->safe_psql('postgres', "SET lock_timeout = '5s'; $_[0]");
}

sub warnings_now
{
	return value(q{SELECT session_health() ->> 'warnings'});
}

sub metric
{
	my ($name) = @_;

	return value("SELECT coalesce(substring(session_metrics() FROM '\\nsession_store_$name ([^\\n]*)'), 'none')");
}

sub connections
{
	return join ' ', sort map { /\bid=(\d+)/ } grep { !/cmd=client/ } split /\n/, $redis->cmd('CLIENT', 'LIST');
}

# The locker opens a transaction and locks the row of a session that will soon be due for the purge.
sub hold_one_that_ends
{
	my ($psql) = @_;

	for (1 .. 20)
	{
		value(q{SELECT session_save('short', '{}', namespace => 'a', ttl => '3 seconds')});
		return
		  if $psql->query_safe(q{BEGIN; SELECT session_id FROM conversation_sessions WHERE session_id = 'short' FOR UPDATE}) =~ /short/;
		$psql->query_safe('ROLLBACK');	# it was purged before
	}
	BAIL_OUT('each session was purged before it could be locked');
	return;
}

sub metric_grows
{
	my ($name, $by, $what) = @_;
	my $before = metric($name);

	return soon($what, 120, sub { metric($name) >= $before + $by });
}

value(q{INSERT INTO session_namespaces (name, sliding, cache, ttl) VALUES ('a', false, 'all', '1 hour')});
value(q{SELECT session_save('s' || i, '{"n": 1}', namespace => 'a') FROM generate_series(1, 20) i});
sync_cache($node);
is(scalar $redis->keys('a:*'), 20, 'copies');
is(warnings_now(), '[]', 'health is content');
is(metric('cache_locked'), 0, 'nothing is locked');
is(metric('keeper_tasks_locked'), 0, '.. for the keeper');
my $connections = connections();
my $pusher = pusher_pid($node);
my $lockers = $node->background_psql('postgres');
my $locker = $lockers->query_safe('SELECT pg_backend_pid()');

# ---- an exclusive lock on conversation_sessions, by a client that also changes sessions

hold_one_that_ends($lockers);
$lockers->query_safe(q{LOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE});
metric_grows('cache_lock_skips_total', 3, 'the pusher meets the lock repeatedly');
soon('.. and so does the purge', 120, sub { health($node, 'keeper,tasks,purge,skipped') >= 3 });
cmp_ok(metric('keeper_lock_skips_total'), '>=', 3, 'keeper_lock_skips_total');

within(60, 'session_health() does not wait', sub {
	my $warnings = warnings_now();

	like($warnings, qr/table public\.conversation_sessions is locked by process $locker: what session_health\(\) and session_metrics\(\) would read there is missing/,
		'session_health() names the table and the process, and says that values are missing');
	like($warnings, qr/the cache's pusher cannot read sessions, .* table public\.conversation_sessions is locked by process $locker:/,
		'.. the effect on the pusher');
	like($warnings, qr/the keeper skips its tasks [^:]*purge[^:]*: table public\.conversation_sessions is locked by process $locker/,
		'.. the effect on the keeper');
	unlike($warnings, qr/server log|seconds behind/, '.. no more');
});
is(value(q{SELECT session_health() #>> '{purge,behind_seconds}' IS NULL AND session_health() -> 'purge' ? 'behind_seconds'}),
	't', 'values that cannot be read are null');
is(cache_health($node, 'locked'), 'true', 'cache.locked');
cmp_ok(health($node, 'keeper,tasks,purge,skipped'), '>', 0, 'keeper.tasks.purge.skipped');
within(60, 'session_metrics() does not wait', sub {
	is(metric('cache_locked'), 1, 'cache_locked');
	cmp_ok(metric('keeper_tasks_locked'), '>', 0, 'keeper_tasks_locked');
	is(metric('tables_locked'), 1, 'tables_locked');
	is(metric('purge_behind_seconds'), 'none', '.. values that cannot be read are left out');
	cmp_ok(metric('warnings'), '>=', 3, 'warnings are counted');
});
is(health($node, 'keeper,tasks,purge,failures'), 0, 'it does not count as a failure of the keeper');

# the scrubber meets it, too
my $scrubs = metric('cache_lock_skips_total');
soon('the scrubber meets it, too', 120, sub { metric('cache_lock_skips_total') > $scrubs + 20 });
is(connections(), $connections, 'the connection to Redis is the same');
is(pusher_pid($node), $pusher, '.. and so is the pusher');

# ---- a client that changes a session and commits, while another waits for the same lock: the copy is
# deleted

my $second = $node->background_psql('postgres');
my $next = $second->query_safe('SELECT pg_backend_pid()');
$lockers->query_safe(q{SELECT session_save('s1', '{"n": 2}', namespace => 'a')});
$second->query_safe('BEGIN');
$second->query_until(qr/waiting/, "\\echo waiting\nLOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE;\n");
wait_for($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = $next AND NOT granted", 'another waits for the lock');
$lockers->query_safe('COMMIT');
soon('the copy of the changed session is deleted', 120, sub { !defined $redis->get('a:s1') });
like(warnings_now(), qr/pusher cannot read sessions, .* is locked by process $next:/, 'the other client has the lock now');
is(scalar $redis->keys('a:s[0-9]*'), 19, '.. the other copies stay');
is(connections(), $connections, 'the connection to Redis is still the same');

# ---- after the lock was released

$second->query_safe('COMMIT');
$second->quit;
sync_cache($node);
soon('session_health() has no warning any more', 120, sub { warnings_now() eq '[]' });
soon('cache_locked is 0 again', 120, sub { metric('cache_locked') == 0 });
soon('.. and so is the keeper', 120, sub { metric('keeper_tasks_locked') == 0 });
is(metric('tables_locked'), 0, 'tables_locked');
soon('purge_behind_seconds is back', 120, sub { metric('purge_behind_seconds') eq '0' });
is($redis->get('a:s1'), '{"n": 2}', 'the copy is right');
compare_all($node, $redis, 'all copies are there', all => 1);
is(connections(), $connections, 'on the same connection');

# ---- each table of ours: session_health() waits for none of them, nor for an index

for my $table (qw(conversation_sessions session_namespaces conversation_history conversation_history_ended
	session_members session_operations session_events session_samples session_orphans session_cache_claims session_counters))
{
	$lockers->query_safe("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
	like(warnings_now(), qr/table public\.$table is locked by process $locker:/, "health names $table");
	is(metric('tables_locked'), 1, '.. and metrics count it');
	$lockers->query_safe('COMMIT');
}
is(value(q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'session_members'::regclass AND session_health() IS NOT NULL}),
	0, 'session_health() keeps none of its locks');
$lockers->query_safe('BEGIN; REINDEX INDEX session_namespaces_pkey');
like(warnings_now(), qr/index public\.session_namespaces_pkey is locked by process $locker:/, 'session_health() names an index');
$lockers->query_safe('COMMIT');

# ---- a policy that the pusher could not read, because only the index was locked, is read afterwards

value(q{INSERT INTO session_namespaces (name, sliding, cache) VALUES ('later', false, 'off')});
sync_cache($node);
my $skips = metric('cache_lock_skips_total');
kill STOP => $pusher;
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'later'});
$lockers->query_safe('BEGIN; REINDEX INDEX session_namespaces_pkey');
kill CONT => $pusher;
soon('the pusher meets a lock on an index', 120, sub { metric('cache_lock_skips_total') > $skips });
# unlike COMMIT, this sends no invalidation
$lockers->query_safe('ROLLBACK');
value(q{SELECT session_save('l', '{"n": 1}', namespace => 'later')});
soon('.. and reads the policy when the lock is released', 120, sub { defined $redis->get('later:l') });
value(q{SELECT session_delete('l', 'later')});

$lockers->query_safe('CREATE TABLE child () INHERITS (session_samples)');
$lockers->query_safe('BEGIN; LOCK TABLE child IN ACCESS EXCLUSIVE MODE');
like(warnings_now(), qr/table public\.child is locked by process $locker:/, 'session_health() names a child table');
$lockers->query_safe('COMMIT; DROP TABLE child');

$lockers->query_safe('BEGIN; LOCK TABLE session_samples IN ACCESS EXCLUSIVE MODE');
$lockers->query_safe(q{PREPARE TRANSACTION 'p'});
like(warnings_now(), qr/table public\.session_samples is locked by a prepared transaction:/, 'session_health() names a prepared transaction');
$lockers->query_safe(q{ROLLBACK PREPARED 'p'});
$lockers->query_safe('BEGIN; DROP EXTENSION session_store');
like(warnings_now(), qr/the extension is locked by process $locker, table .* is locked by process $locker.*, and others: what session_health.* end that transaction/,
	'session_health() returns while another session drops the extension');
$lockers->query_safe('ROLLBACK');

# ---- a session that waits for an exclusive lock blocks others, too; one that has the table open is
# not the cause

my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM conversation_sessions');
$lockers->query_until(qr/waiting/, "\\echo waiting\nLOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE;\n")
  if $lockers->query_safe('BEGIN; SELECT 1');
wait_for($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = $locker AND NOT granted", 'a session waits for the lock');
like(warnings_now(), qr/is locked by process $locker \(which waits for the lock\):/, 'session_health() names the waiting session');
$reader->query_safe('COMMIT');
$reader->quit;
$lockers->query_safe('COMMIT');

# ---- a lock that blocks writers only: the purge skips and reports that

hold_one_that_ends($lockers);
$lockers->query_safe(q{LOCK TABLE conversation_sessions IN SHARE MODE});
soon('the purge skips', 120, sub { health($node, 'keeper,tasks,purge,skipped') >= 3 });
like(warnings_now(), qr/the keeper skips its tasks [^:]*purge[^:]*: table public\.conversation_sessions is locked by process $locker/, '.. session_health() names it');
unlike(warnings_now(), qr/pusher|session_metrics/, '.. readers are not affected');
is(metric('tables_locked'), 0, '.. session_health() reads the table');
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_id = 'short'}), 1, 'the expired session is there');
$lockers->query_safe('COMMIT');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE session_id = 'short'}, 'afterwards it is purged');
soon('session_health() has no warning any more', 120, sub { warnings_now() eq '[]' });

# ---- the session that calls session_health() holds the lock itself

$lockers->query_safe('BEGIN; LOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE');
metric_grows('cache_lock_skips_total', 2, 'the lock is met');
like($lockers->query_safe(q{SELECT session_health() ->> 'warnings'}), qr/pusher cannot read sessions.*locked by process $locker/, 'who asks is named');
$lockers->query_safe('COMMIT');
$lockers->quit;
sync_cache($node);

is(connections(), $connections, 'one connection to Redis during all of this');
is(count_log($node, qr/our tables could not be looked at|ERROR:.*session_store|could not obtain lock/, $offset), 0, 'the log has no error');
soon('health is content', 120, sub { warnings_now() eq '[]' });
leave_no_redis($node, $redis);
done_testing();
