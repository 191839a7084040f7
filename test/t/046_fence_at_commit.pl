# Whether a transaction waits at the fence is decided at its commit, not when it makes a change:
# in between a cache may be configured, a policy or a setting changed, and a message removed by
# hand.
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
my $node = new_cached_store('late_fence', $redis, conf => <<'EOC');
session_store.lease = 10s
max_prepared_transactions = 10
# with synchronous_commit = on a commit waits until that is canceled
wal_level = replica
max_wal_senders = 2
synchronous_standby_names = 'nobody'
synchronous_commit = local
# changes of our tables have policies read again
autovacuum = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# A client in a transaction that has run some statements.
sub client
{
	my ($sql) = @_;
	my $psql = $node->background_psql('postgres');
	my $pid = $psql->query_safe('SELECT pg_backend_pid()');

	$psql->query_safe("BEGIN; $sql");
	return { psql => $psql, pid => $pid };
}

sub waits
{
	my ($client) = @_;

	return waits_at_commit($node, $redis, @$client{qw(psql pid)});
}

# One case: the sessions before, a transaction, and what happens before it commits.
sub case_of
{
	my ($what, %case) = @_;

	value($case{before}) if defined $case{before};
	my $client = client($case{change});
	$case{meanwhile}->($client) if defined $case{meanwhile};
	wait_for_cache($node, $redis);
	# a lease that was just granted lasts long enough
	my $waits = waits($client);
	is($waits ? 'waits' : 'does not wait', $case{waits} ? 'waits' : 'does not wait', $what);
	for my $key (@{ $case{gone} // [] })
	{
		is($redis->strong($key), undef, ".. and no strong reader finds $key");
	}
	wait_for_cache($node, $redis);
	return;
}

# Waits until Redis has a copy.
sub copied
{
	my ($id, $ns, $key) = @_;
	my $give_up = time + 30;

	until (defined $redis->get($key))
	{
		return fail("a copy of $key") if time > $give_up;
		value("SELECT session_get('$id', '$ns')");
		usleep(20_000);
	}
	return pass("there is a copy of $key");
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone, tail_prefix) VALUES ('n', 'n:', false, 'all', '0', 'tail:'), ('off', 'off:', false, 'off', '0', NULL), ('never', 'never:', false, 'off', '0', NULL)});
value(q{SELECT session_save('a', '{"n": 1}', namespace => 'off'), session_save('b', '{"n": 1}', namespace => 'off'), session_save('c', '{"n": 1}', namespace => 'never')});

# a trigger that logs a session out when a message asks for it
value(q{CREATE FUNCTION log_out() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN IF current_setting('test.log_out', true) = 'on' THEN PERFORM session_delete('z', 'n'); END IF; RETURN NULL; END $$;
	CREATE TRIGGER log_out AFTER DELETE ON conversation_history FOR EACH ROW EXECUTE FUNCTION log_out()});

# In namespaces without copies the policy is read long before it is needed: one that was read within
# the longest lease may have been another just before.
my $old = client(q{SELECT session_get('a', 'off'), session_get('c', 'never')});
my $old2 = client(q{SELECT session_get('a', 'off'), session_get('c', 'never')});
my $old_since = value('SELECT clock_timestamp()');

# ---- changes that always waited, and changes that never did

my $one = q{SELECT session_append('x', '[{"m": 1}, {"m": 2}, {"m": 3}]', namespace => 'n'), session_save('x', '{"n": 1}', namespace => 'n')};
my $history = q{(SELECT history_id FROM conversation_sessions WHERE namespace = 'n' AND session_id = 'x')};

case_of('a delete', before => $one, change => q{SELECT session_delete('x', 'n')}, waits => 1, gone => [ 'n:x', 'tail:x' ]);
case_of('a save', before => $one, change => q{SELECT session_save('x', '{"n": 2}', namespace => 'n')}, waits => 0);
case_of('an append and a pop', before => $one, change => q{SELECT session_append('x', '{"m": 4}', namespace => 'n'); SELECT session_pop('x', 2, 'n')}, waits => 0);
case_of('a session that begins over an expired one', before => q{SELECT session_append('y', '{"m": 1}', namespace => 'n'); UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE session_id = 'y'},
	change => q{SELECT session_save('y', '{}', namespace => 'n')}, waits => 0);

# ---- plain SQL that ends a session

case_of('dead_until by hand', before => $one, change => q{UPDATE conversation_sessions SET dead_until = clock_timestamp() WHERE namespace = 'n' AND session_id = 'x'}, waits => 1, gone => [ 'n:x', 'tail:x' ]);
case_of('an expiry in the past', before => $one, change => q{UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE namespace = 'n' AND session_id = 'x'}, waits => 1, gone => [ 'n:x', 'tail:x' ]);

# ---- the setting

case_of('a save, and then fence = all', before => $one, change => q{SELECT session_save('x', '{"n": 2}', namespace => 'n'); SET LOCAL session_store.fence = 'all'}, waits => 1);
case_of('a save with fence = all, and then the default', before => $one, change => q{SET LOCAL session_store.fence = 'all'; SELECT session_save('x', '{"n": 3}', namespace => 'n'); SET LOCAL session_store.fence = 'delete'}, waits => 1);
case_of('an append, and then one with fence = all', before => $one,
	change => q{SELECT session_append('x', '{"m": 4}', namespace => 'n'); SET LOCAL session_store.fence = 'all'; SELECT session_append('x', '{"m": 5}', namespace => 'n'); SET LOCAL session_store.fence = 'delete'}, waits => 1);

# ---- changes of messages by hand, in a history that the transaction has changed before

my $append = q{SELECT session_append('x', '{"m": 4}', namespace => 'n')};

case_of('a message that is deleted by hand', before => $one, change => qq{DELETE FROM conversation_history WHERE history_id = $history AND message = '{"m": 1}'}, waits => 1);
case_of('.. after an append', before => $one, change => qq{$append; DELETE FROM conversation_history WHERE history_id = $history AND message = '{"m": 2}'}, waits => 1);
case_of('.. after an append and a savepoint that is rolled back', before => $one,
	change => qq{$append; SAVEPOINT s; $append; ROLLBACK TO s; DELETE FROM conversation_history WHERE history_id = $history AND message = '{"m": 3}'}, waits => 1);
case_of('.. within a savepoint, after one that was released', before => $one,
	change => qq{SAVEPOINT s; $append; RELEASE s; SAVEPOINT t; DELETE FROM conversation_history WHERE history_id = $history AND message = '{"m": 1}'; RELEASE t}, waits => 1);
case_of('a message that is altered by hand, after an append', before => $one, change => qq{$append; UPDATE conversation_history SET message = '{"m": 0}' WHERE history_id = $history AND message = '{"m": 2}'}, waits => 1);
case_of('messages that are trimmed, after an append', before => $one, change => qq{$append; SELECT session_trim('x', 1, 'n')}, waits => 1);
case_of('a history that is detached by hand', before => $one, change => q{UPDATE conversation_sessions SET history_id = NULL WHERE namespace = 'n' AND session_id = 'x'}, waits => 1, gone => ['tail:x']);
case_of('.. before a delete', before => $one, change => q{UPDATE conversation_sessions SET history_id = NULL WHERE namespace = 'n' AND session_id = 'x'; SELECT session_delete('x', 'n')}, waits => 1, gone => [ 'n:x', 'tail:x' ]);
case_of('.. whose savepoint is released', before => $one, change => q{SAVEPOINT s; UPDATE conversation_sessions SET history_id = NULL WHERE namespace = 'n' AND session_id = 'x'; RELEASE s}, waits => 1, gone => ['tail:x']);
case_of('a pop whose trigger logs another session out', before => "$one; SELECT session_save('z', '{}', namespace => 'n')",
	change => q{SET LOCAL test.log_out = 'on'; SELECT session_pop('x', 1, 'n')}, waits => 1, gone => ['n:z']);

# ---- a cache that is configured during the transaction

set_conf($node, redis_url => '');
wait_for($node, q{SELECT NOT (session_health() -> 'cache' ->> 'configured')::bool}, 'the cache is off');
value($one);
my $client = client(q{SELECT session_delete('x', 'n')});
set_conf($node, redis_url => undef);
wait_for_cache($node, $redis, what => 'the cache is back');
copied('x', 'n', 'n:x');
wait_for_cache($node, $redis);
ok(waits($client), 'a cache that is configured before the COMMIT: it waits');
is($redis->strong('n:x'), undef, '.. and no strong reader finds the session');

# ---- a logout that was prepared before there was a cache, whose commit is not reported to the pusher

value($one);
set_conf($node, redis_url => '');
wait_for($node, q{SELECT NOT (session_health() -> 'cache' ->> 'configured')::bool}, 'the cache is off');
# refused as long as a lease may exist
my $give_up = time + 60;
until (sqlstate($node, q{BEGIN; SELECT session_delete('x', 'n'); PREPARE TRANSACTION 'logout'}) eq '00000')
{
	last if time > $give_up;
	usleep(100_000);
}
is(value('SELECT count(*) FROM pg_prepared_xacts'), '1', 'a logout is prepared');
set_conf($node, redis_url => undef);
wait_for($node, q{SELECT session_health() -> 'cache' ->> 'trouble' LIKE 'a prepared transaction may have changed sessions%'}, 'nothing is cached while a logout is prepared', timeout => 30);
is($redis->strong('n:x'), undef, '.. and no strong reader finds anything');
value(q{COMMIT PREPARED 'logout'});
wait_for_cache($node, $redis, what => 'the cache is back when that is committed');
is($redis->strong('n:x'), undef, '.. and no strong reader finds the session');

# ---- a policy that is changed during the transaction

wait_for($node, "SELECT clock_timestamp() > '$old_since'::timestamptz + interval '10.5 s'", 'policies that were read long ago');
# in a namespace without copies a commit does not wait, whatever policies of other namespaces change
$old2->{psql}->query_safe(q{SELECT session_delete('c', 'never')});
ok(!waits($old2), 'a namespace without copies: no wait');
wait_for_cache($node, $redis);
$old->{psql}->query_safe(q{SELECT session_delete('a', 'off')});
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'off'});
copied('a', 'off', 'off:a');
wait_for_cache($node, $redis);
ok(waits($old), 'a namespace that is switched on before the COMMIT: it waits');
is($redis->strong('off:a'), undef, '.. and no strong reader finds the session');

# ---- a cache that is configured while a logout is being prepared

# Prepares a logout without a cache, and has one configured while that waits.
sub prepare_slowly
{
	my ($sql, $waiting) = @_;
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $psql->query_safe('SELECT pg_backend_pid()');

	$psql->query_safe("$sql; BEGIN; SELECT session_delete('x', 'n')");
	$psql->query_until(qr/preparing/, "\\echo preparing\nPREPARE TRANSACTION 'logout';\n");
	wait_for($node, "SELECT wait_event = '$waiting' FROM pg_stat_activity WHERE pid = $pid", "a PREPARE waits: $waiting");
	set_conf($node, redis_url => undef);
	wait_for($node, q{SELECT session_health() #>> '{cache,state}' = 'running'}, '.. and a cache is configured', timeout => 30);
	return ($psql, $pid);
}

# at the fence: this server may have left a lease before its restart
value($one);
set_conf($node, redis_url => '');
$node->restart;
my ($slow) = prepare_slowly('', 'Extension');
$slow->query('SELECT 1');
is(value('SELECT count(*) FROM pg_prepared_xacts'), '0', 'a logout that waited for an old lease is not prepared beside a new cache');
$slow->quit;
wait_for_cache($node, $redis, what => 'the cache is up');
copied('x', 'n', 'n:x');

# after that: it is prepared, but still has its locks
set_conf($node, redis_url => '');
wait_for($node, q{SELECT NOT (session_health() -> 'cache' ->> 'configured')::bool}, 'the cache is off');
$give_up = time + 60;
until (sqlstate($node, q{BEGIN; SELECT session_delete('x', 'n'); PREPARE TRANSACTION 'no'; ROLLBACK PREPARED 'no'}) eq '00000')
{
	last if time > $give_up;
	usleep(100_000);
}
($slow, my $pid) = prepare_slowly('SET synchronous_commit = on', 'SyncRep');
my $batches = cache_health($node, 'batches');
wait_for($node, "SELECT (session_health() #>> '{cache,batches}')::bigint > $batches + 2 FROM session_get('x', 'n')", '.. which is running');
is($redis->get('n:x'), undef, 'no copy is made while a logout is being prepared');
value("SELECT pg_cancel_backend($pid)");
$slow->query('SELECT 1');
is(value('SELECT count(*) FROM pg_prepared_xacts'), '1', '.. which then succeeds');
value(q{SELECT session_get('x', 'n')});
wait_for($node, q{SELECT session_health() -> 'cache' ->> 'trouble' LIKE 'a prepared transaction may have changed sessions%'}, '.. and nothing is cached', timeout => 30);
is($redis->get('n:x'), undef, '.. not even that session');
value(q{COMMIT PREPARED 'logout'});
$slow->quit;
wait_for_cache($node, $redis, what => 'the cache is back when that is committed');
is($redis->strong('n:x'), undef, '.. and no strong reader finds the session');

wait_for_cache($node, $redis);
compare_all($node, $redis, 'all is well');
leave_no_key($node, $redis);
done_testing();
