# Messages and members of ended sessions are purged in transactions of bounded size, whatever
# happens meanwhile, and without cost for others; those of sessions that are alive survive
# crashes, dumps and replication.
use strict;
use warnings;
use Data::Dumper ();
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $large = 100_000;

my $redis = new_redis();
my $node = new_cached_store('upkeep', $redis, init => { allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--no-locale' ] }, conf => <<'EOC');
session_store.purge_interval = 0
session_store.cache_max_bytes = 20kB
max_wal_size = 4GB
wal_keep_size = 2GB
checkpoint_timeout = 1h
max_worker_processes = 40
hot_standby_feedback = on
wal_receiver_status_interval = 1s
EOC
my $dumps = PostgreSQL::Test::Utils::tempdir();

sub value
{
	return $node->safe_psql($_[1] // 'postgres', $_[0]);
}

sub lsn
{
	return value('SELECT pg_current_wal_insert_lsn()');
}

# The number of messages that each transaction since an LSN has removed, from the WAL.
sub removals
{
	my ($from) = @_;
	my $relation = value(q{SELECT (SELECT oid FROM pg_tablespace WHERE spcname = 'pg_default') || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || pg_relation_filenode('conversation_history')});

	value('SELECT pg_switch_wal()');
	my $to = value('SELECT pg_current_wal_flush_lsn()');
	my ($out, $err);
	IPC::Run::run([ $node->installed_command('pg_waldump'), '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to,
		"--relation=$relation", '--rmgr=Heap' ], '<', \'', '>', \$out, '2>', \$err)
	  or diag($err);
	my %removed;
	$removed{$1}++ while $out =~ /tx: +(\d+),.*desc: DELETE/g;
	return %removed;
}

sub most
{
	my (%count) = @_;

	return (sort { $b <=> $a } values %count, 0)[0];
}

# Creates a session with many messages and some members.
sub fill
{
	my ($id, $n, $dbname) = @_;

	value(qq{SELECT session_append('$id', (SELECT jsonb_agg(jsonb_build_object('n', i, 'text', md5(i::text))) FROM generate_series(1, $n) i), namespace => 'chat');
SELECT session_share('$id', 'member' || i, namespace => 'chat') FROM generate_series(1, 3) i}, $dbname);
	return;
}

sub left
{
	return value('SELECT count(*) FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id AND s.dead_until IS NULL)');
}

# Messages and members of living sessions.
sub living
{
	my ($dbname, $at) = @_;

	return ($at // $node)->safe_psql($dbname // 'postgres', <<'EOS');
SELECT count(*), md5(string_agg(s.session_id || h::text, E'\n' ORDER BY s.session_id, h.seq)) FROM conversation_sessions s JOIN conversation_history h USING (history_id) WHERE session_id LIKE 'live%';
SELECT count(*), md5(string_agg(s.session_id || m::text, E'\n' ORDER BY s.session_id, m.member)) FROM conversation_sessions s JOIN session_members m USING (history_id) WHERE session_id LIKE 'live%'
EOS
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, tail_prefix, tombstone, audit) VALUES ('chat', 'chat:', '1 day', false, 'all', 'tail:', '0', true);
SELECT session_append('live' || i, (SELECT jsonb_agg(jsonb_build_object('n', j)) FROM generate_series(1, i) j), 'first', namespace => 'chat') FROM generate_series(1, 50) i;
SELECT session_append('live' || i, '{"second": true}', 'second', namespace => 'chat') FROM generate_series(1, 50) i;
SELECT session_share('live' || i, 'somebody ' || j, (ARRAY['viewer', 'editor', 'owner'])[j], namespace => 'chat') FROM generate_series(1, 50) i, generate_series(1, 3) j;
EOS
my $living = living();
like($living, qr/^1325\|.*\n150\|/, 'messages and members that must be kept');

# ---- by session_purge()

fill('big', $large);
is(value(q{SELECT message_count FROM session_fetch('big', namespace => 'chat')}), $large, "a session with $large messages");
my $from = lsn();
within(3, '.. is deleted at once', sub { value(q{SELECT session_delete('big', namespace => 'chat')}) });
is(value(q{SELECT count(*) FROM session_history('big', namespace => 'chat')}) . value(q{SELECT count(*) FROM session_members('big', namespace => 'chat')}) . value(q{SELECT count(*) FROM conversation_messages WHERE session_id = 'big'}),
	'000', '.. and no reader sees a message or a member any more');
cmp_ok(most(removals($from)), '<=', 1000, '.. although that transaction removes few of them');
cmp_ok(left(), '>', $large - 1000, '.. and most are still to be removed');
$from = lsn();
my (@answers, @left);
do
{
	push @answers, value('SELECT session_purge(5000)');
	push @left, left();
} while ($answers[-1] >= 5000 && @answers < 100);
my ($highest) = sort { $b <=> $a } @answers;
is($highest, 5000, 'session_purge(5000) removes that many rows, messages included');
is($left[-1], 0, '.. and nothing is left after ' . @answers . ' calls that said when to call again');
my @steps = map { $left[ $_ - 1 ] - $left[$_] } 1 .. $#left;
cmp_ok((sort { $b <=> $a } @steps)[0], '<=', 5000, '.. and never more in one transaction');
cmp_ok(most(removals($from)), '<=', 5000, '.. as the WAL shows');
is(value('SELECT count(*) FROM conversation_history_ended'), '0', 'the queue is empty');
is(value(q{SELECT count(*) FROM session_members m WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = m.history_id)}), '0', '.. and no member is left');
is(living(), $living, 'the others live');
is(value('SELECT session_purge()'), '0', 'nothing is left to do');

fill('some', 25_000);
value(q{SELECT session_delete('some', namespace => 'chat')});
my $batch = value('SELECT session_purge()');
cmp_ok($batch, '<=', 10_000, 'NULL is one batch of 10,000');
cmp_ok($batch, '>=', 9_000, ".. ($batch)");
value('SELECT session_purge(100000)');
is(left(), 0, '.. and a larger number the rest');

# a rollback removes nothing; a session that begins again keeps its messages
fill('again', 500);
value(q{SELECT session_delete('again', namespace => 'chat'); BEGIN; SELECT session_purge(); ROLLBACK});
is(left(), 500, 'a purge that is rolled back');
value(q{SELECT session_append('again', '[{"n": 1}, {"n": 2}]', namespace => 'chat'); SELECT session_purge()});
is(value(q{SELECT jsonb_agg(message ORDER BY seq) FROM session_history('again', namespace => 'chat')}), '[{"n": 1}, {"n": 2}]', 'messages of the new session under the same id are kept');
is(left(), 0, '.. all others are removed');
value(q{SELECT session_delete('again', namespace => 'chat'); SELECT session_purge()});

# sessions that ended in other ways
for my $end (q{UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE session_id = 'way'}, q{DELETE FROM conversation_sessions WHERE session_id = 'way'},
	q{SELECT session_absorb('target', 'way', namespace => 'chat')}, q{SELECT session_clear('chat', 'way')},
	q{UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE session_id = 'way'; SELECT session_save('way', '{}', namespace => 'chat')})
{
	value(q{SELECT session_append('target', '{"n": 1}', namespace => 'chat')});
	fill('way', 100);
	value($end);
	value('SELECT session_purge() FROM generate_series(1, 3)');
	is(left(), 0, "nothing is left after $end");
	is(value(q{SELECT count(*) FROM session_members m WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = m.history_id)}), '0', '.. nor of members');
	value(q{SELECT session_delete('way', namespace => 'chat'), session_delete('target', namespace => 'chat'); SELECT session_purge()});
}

# a message that another transaction has locked is skipped, and removed later
sub others_meanwhile
{
	my ($sql, $what) = @_;

	fill('locked', 20);
	my $of = value(q{SELECT history_id FROM conversation_sessions WHERE session_id = 'locked'});
	fill('free', 20);
	value(q{SELECT session_delete('locked', namespace => 'chat'), session_delete('free', namespace => 'chat')});
	my $psql = $node->background_psql('postgres');
	$psql->query_safe('BEGIN; ' . sprintf $sql, $of);
	is(sqlstate($node, q{SET statement_timeout = '3 s'; SELECT session_purge()}), '00000', "session_purge() while $what: does not wait");
	cmp_ok(left(), '<=', 20, '.. and removes the messages of other sessions');
	$psql->query_safe('COMMIT');
	$psql->quit;
	value('SELECT session_purge() FROM generate_series(1, 2)');
	is(left(), 0, '.. and all once the lock is released');
	return;
}

others_meanwhile(q{SELECT seq FROM conversation_history WHERE history_id = '%s' AND seq = 7 FOR UPDATE}, 'a message is locked');
others_meanwhile(q{UPDATE conversation_history SET message = '{"edited": 1}' WHERE history_id = '%s' AND seq = 7}, 'a message is being changed');

# a message that is changed while the purge works on it is removed as well
fill('raced', 3000);
my $of = value(q{SELECT history_id FROM conversation_sessions WHERE session_id = 'raced'});
value(q{SELECT session_delete('raced', namespace => 'chat')});
my $editor = $node->background_psql('postgres');
my $purger = $node->background_psql('postgres');
$editor->query_safe("BEGIN; UPDATE conversation_history SET message = '{\"edited\": 1}' WHERE history_id = '$of' AND seq = 7");
my $purger_pid = $purger->query_safe('SELECT pg_backend_pid()');
$purger->query_until(qr/go/, "\\echo go\nSET statement_timeout = '20 s'; SELECT session_purge();\n");
wait_for($node, "SELECT state = 'idle' OR wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $purger_pid AND query LIKE '%purge%'", 'the purge has ended, or waits', quiet => 1);
$editor->query_safe('COMMIT');
$editor->quit;
$purger->query_safe('SELECT 1');
$purger->quit;
value('SELECT session_purge() FROM generate_series(1, 3)');
is(left(), 0, 'a message that was changed during the purge is removed as well');
value('DELETE FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)') if left();

# ---- by the keeper

sub keeper_conf
{
	my (%settings) = @_;

	set_conf($node, %settings);
	return;
}

fill('old', $large);
fill('gone', 20_000);
value(q{SELECT session_save('plain' || i, '{}', ttl => '1 s', namespace => 'chat') FROM generate_series(1, 500) i; SELECT session_touch('old', '1 s', namespace => 'chat'); SELECT session_delete('gone', namespace => 'chat')});
wait_for($node, q{SELECT session_ttl('old', namespace => 'chat') IS NULL}, 'expired', quiet => 1);
$from = lsn();
my $before = time;
my $psql = $node->background_psql('postgres');
keeper_conf(purge_interval => '100ms', purge_batch => 2000, purge_rate => 20000);
my (@seen, @appends);
my $n = 0;
my $plain_gone;
until (@seen && $seen[-1] == 0 || time - $before > 40)
{
	my $start = time;
	$psql->query_safe(sprintf q{SELECT session_append('fore%d', '{"n": %d}', namespace => 'chat')}, $n % 7, $n);
	$n++;
	push @appends, time - $start;
	my $left = left();
	push @seen, $left if !@seen || $left != $seen[-1];
	$plain_gone //= time - $before if value(q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id LIKE 'plain%')}) eq 't';
}
$psql->quit;
my ($slowest) = sort { $b <=> $a } @appends;
is($seen[-1], 0, sprintf('the keeper removes %d messages (%.1f s)', $large + 20_000, time - $before));
cmp_ok(scalar @seen, '>', 2, '.. in several steps (' . join(' ', map { $seen[ $_ * $#seen / 6 ] } 0 .. 6) . ')');
my %removed = removals($from);
my $total = 0;
$total += $_ for values %removed;
cmp_ok($total, '>=', $large + 20_000, '(the log has them)');
cmp_ok(most(%removed), '<=', 2000, '.. no transaction removes more than a batch of 2000 (of ' . keys(%removed) . ': ' . most(%removed) . ' at most)');
in_time($slowest, 1, sprintf('.. while other clients append: %d times', scalar @appends));
in_time($plain_gone // 999, 3, '.. and sessions without messages are purged meanwhile');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_history_ended', 'the queue is empty', timeout => 5);
is(value(q{SELECT count(*) FROM session_members m WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = m.history_id)}), '0', '.. and no member is left');
is(living(), $living, 'the others live');
is(value(q{SELECT count(*) FROM generate_series(0, 6) i, session_history('fore' || i, namespace => 'chat')}), $n, '.. and the messages appended meanwhile are kept');
my ($tuples) = value(q{SELECT n_tup_del FROM pg_stat_all_tables WHERE relid = 'conversation_history'::regclass});
cmp_ok($tuples, '>=', $large, 'autovacuum knows of it');

# the tasks of the keeper
wait_for($node, q{SELECT count(*) FILTER (WHERE t -> 'last_run' IS NOT NULL AND t ->> 'last_run' IS NOT NULL) >= 4 FROM jsonb_each(session_health() #> '{keeper,tasks}') AS j (name, t)}, 'tasks have run', timeout => 10, show => 1);
is(value(q{SELECT string_agg(name, ' ' ORDER BY name) FROM jsonb_object_keys(session_health() #> '{keeper,tasks}') name}), 'counters events history notify operations orphans purge sample touch', 'session_health() names the tasks of the keeper');
is(value(q{SELECT (session_health() #>> '{keeper,tasks,history,last_run}')::timestamptz > now() - interval '1 minute', session_health() #>> '{keeper,tasks,history,failures}'}), 't|0', '.. the task "history" has run, without failures');
is(health($node, 'warnings'), '[]', '.. and there is no warning');

# messages after a TRUNCATE of the sessions
fill('trunc', 300);
value(q{BEGIN; CREATE TEMP TABLE keep ON COMMIT DROP AS SELECT * FROM conversation_sessions WHERE session_id LIKE 'live%'; TRUNCATE conversation_sessions; INSERT INTO conversation_sessions SELECT * FROM keep; COMMIT});
is(living(), $living, 'TRUNCATE, and some of the rows inserted again: their messages are kept');
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id))}, '.. and those of the others removed', timeout => 10);
is(living(), $living, '.. only those');

# ---- a crash in the middle

keeper_conf(purge_rate => 15000, purge_batch => 1000);
fill('crash', $large);
value(q{SELECT session_delete('crash', namespace => 'chat')});
my $start = time;
my $at = left();
while ($at > $large * 0.8 && time - $start < 20)
{
	usleep(20_000);
	$at = left();
}
crash($node);
ok($at > 0 && $at <= $large * 0.8, "a crash when $at of $large are left");
cmp_ok(left(), '<=', $at, '.. none of the removed ones is back');
is(living(), $living, '.. living sessions lose none');
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id))}, '.. and the keeper continues where it was', timeout => 20);
is(living(), $living, '.. to the end');
is(value(q{SELECT session_append('live1', '{"n": 1}', 'first', namespace => 'chat')}), '1', '.. operation ids are known');

# ---- sessions without messages are purged as fast as before

sub purge_costs
{
	my $dead = 40;
	my $live = 100_000;
	my $cost = new_store('cost', conf => <<'EOC');
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
wal_level = minimal
max_wal_senders = 0
full_page_writes = off
session_store.purge_interval = 0
EOC

	$cost->safe_psql('postgres', <<"EOS");
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, check_at, updated_at, expires_at)
	SELECT 'default', 'live' || i, 'owner' || i, '{"n": 1}', '30 days', t, t + interval '30 days', t, t + interval '30 days'
	FROM (SELECT i, now() - interval '1 hour' + interval '1 ms' * i AS t FROM generate_series(1, $live) i) s;
SELECT count(session_append('talk' || i, '[{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}]')) FROM generate_series(1, 2000) i;
ANALYZE;
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 minute'
	WHERE session_id IN (SELECT 'live' || (i * @{[ $live / $dead ]} - 7) FROM generate_series(1, $dead) i);
VACUUM;
CHECKPOINT;
EOS
	my $all = $live + 2000;
	# what a backend reads of the catalogs the first time does not count
	$cost->safe_psql('postgres', "INSERT INTO session_namespaces (name) VALUES ('empty') ON CONFLICT DO NOTHING");
	my ($hit, $read) = buffers($cost, 'SELECT session_purge()', before => "BEGIN;\nSELECT session_purge(namespace => 'empty') AS warm \\gset\n");
	is($cost->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $all, 'rolled back, so that it can be repeated');
	cmp_ok($hit + $read, '<=', 440, "purging $dead without messages of $all: $hit buffers hit, $read read, as without conversations");
	$cost->restart;
	($hit, $read) = buffers($cost, 'SELECT session_purge()', before => "SELECT session_count(owner => 'nobody') AS warm \\gset\n");
	cmp_ok($read, '<=', 120, ".. and from a cold start $read distinct pages ($hit hits)");
	is($cost->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $all - $dead, "$dead are gone");
	($hit, $read) = buffers($cost, 'SELECT session_purge()', before => "SELECT session_purge() AS warm \\gset\n");
	cmp_ok($hit + $read, '<=', 60, "a purge with nothing to do: @{[ $hit + $read ]} buffers");
	leave_nothing($cost);
	return;
}

purge_costs();

# ---- without the library preloaded

my $bare = new_store('bare', bare => 1);
$bare->safe_psql('postgres', q{SELECT session_append('b', (SELECT jsonb_agg(jsonb_build_object('n', i)) FROM generate_series(1, 3000) i)); SELECT session_append('keep', '{"n": 1}'); SELECT session_share('b', 'm'), session_share('keep', 'm'); SELECT session_delete('b')});
is($bare->safe_psql('postgres', q{SELECT count(*) FROM session_history('b')}), '0', 'without the library preloaded a delete hides messages');
my @bare = map { $bare->safe_psql('postgres', 'SELECT session_purge(1000)') } 1 .. 4;
is($bare->safe_psql('postgres', 'SELECT count(*) FROM conversation_history') . ' ' . $bare->safe_psql('postgres', 'SELECT count(*) FROM session_members'), '1 1', ".. and session_purge() removes them (@bare)");
cmp_ok((sort { $b <=> $a } @bare)[0], '<=', 1000, '.. in batches');
is($bare->safe_psql('postgres', q{SELECT message FROM session_history('keep')}), '{"n": 1}', '.. and no others');
leave_nothing($bare);

# ---- dump and restore

keeper_conf(purge_interval => '0');
value(q{SELECT session_append('dead' || i, '[{"n": 1}, {"n": 2}]', namespace => 'chat') FROM generate_series(1, 10) i; SELECT session_delete('dead' || i, namespace => 'chat') FROM generate_series(1, 10) i;
SELECT session_fork('live9', 'live9fork', namespace => 'chat'); SELECT session_pop('live50', 2, namespace => 'chat'), session_trim('live49', 3, namespace => 'chat'); SELECT session_regenerate('live48', namespace => 'chat');
SELECT session_append('live47', E'{"text": "tab\\\\tnew\\\\nline \\\\\\\\ \\\\"quoted\\\\" \\\\u00e4"}', E'op \\\\ ''"', namespace => 'chat')});
$living = living();
my @tables = qw(conversation_sessions conversation_history session_members session_operations conversation_history_ended session_namespaces session_events);

sub content
{
	my ($dbname, $server, @which) = @_;

	return { map { $_ => ($server // $node)->safe_psql($dbname, "SELECT count(*) || ' rows, ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM $_ t") }
		  @which ? @which : @tables };
}

my $redis_db = 0;

my %number_of;	# each database has a database of Redis

sub fresh
{
	my ($dbname, $extension) = @_;

	$number_of{$dbname} = ++$redis_db;
	value("CREATE DATABASE $dbname TEMPLATE template0");
	value("ALTER DATABASE $dbname SET session_store.redis_db = $redis_db");
	create_extension($node, $dbname) if $extension;
	return;
}

my @server = ('-h', $node->host, '-p', $node->port);
my $origin = content('postgres');
cmp_ok($origin->{conversation_history_ended} =~ s/ rows.*//r, '>=', 10, 'conversations that wait for their removal');
run_ok('pg_dump', $node->installed_command('pg_dump'), @server, '-d', 'postgres', '-f', "$dumps/full.sql");
run_ok('pg_dump --data-only', $node->installed_command('pg_dump'), @server, '-d', 'postgres', '-f', "$dumps/data.sql", '--data-only');
run_ok('pg_dump -Fd -j2', $node->installed_command('pg_dump'), @server, '-d', 'postgres', '-f', "$dumps/folder", '-Fd', '-j2');
my @psql = ($node->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', @server);
my @restore = ($node->installed_command('pg_restore'), @server, '--exit-on-error', '-j', '2');

fresh('whole');
run_ok('a full dump', @psql, '-d', 'whole', '-f', "$dumps/full.sql");
is_deeply(content('whole'), $origin, '.. is complete');
fresh('data', 1);
run_ok('data only', @psql, '-d', 'data', '-f', "$dumps/data.sql");
is_deeply(content('data'), $origin, '.. into a database that has the extension');
fresh('parallel');
run_ok('two at a time', @restore, '-d', 'parallel', "$dumps/folder");
is_deeply(content('parallel'), $origin, '.. in parallel');
fresh('sections');
run_ok("--section $_", @restore, '-d', 'sections', '--section', $_, "$dumps/folder") for qw(pre-data data post-data);
is_deeply(content('sections'), $origin, '.. section by section');
# while the keeper works
keeper_conf(purge_interval => '20ms', purge_rate => 0, purge_batch => 10000);
fresh('busy', 1);
for my $file ('folder')
{
	run_ok('data only, two at a time, while the keeper works', @restore, '-d', 'busy', '--data-only', "$dumps/$file");
}
# sessions that expired before their messages were loaded have left orphans
keeper_conf(orphan_keep => '1s');
for my $dbname (qw(whole data parallel sections busy))
{
	wait_for_keeper($node, $dbname, what => "$dbname: a keeper", timeout => 10);
	# a dump contains the record of a Redis: after a restore the takeover has to be requested
	wait_for($node, q{SELECT session_health() #>> '{cache,state}' IN ('running', 'refused')}, undef, db => $dbname, timeout => 20, quiet => 1);
	value('SELECT session_cache_takeover()', $dbname);
	wait_for_cache($node, $redis, db => $dbname, redis_db => $number_of{$dbname});
	wait_for($node, q{SELECT NOT EXISTS (SELECT FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)) AND NOT EXISTS (SELECT FROM conversation_history_ended) AND NOT EXISTS (SELECT FROM session_orphans)},
		'.. removes the messages of ended sessions', db => $dbname, timeout => 10);
	is(living($dbname), $living, '.. and none of living ones');
	is(value(q{SELECT session_append('live47', '{"second": true}', 'second', namespace => 'chat') = 48, session_append('live47', '{"n": 9}', namespace => 'chat')}, $dbname), 't|50', '.. operation ids and seqs continue');
	is(sqlstate($node, q{SELECT session_append('live47', '{"third": true}', 'second', namespace => 'chat')}, db => $dbname), 'SST11', '.. and other content is refused');
	wait_for($node, q{SELECT session_health() #>> '{cache,state}' = 'running' AND session_cache_sync() AND session_health() ->> 'warnings' = '[]'}, '.. its cache runs',
		db => $dbname, timeout => 10, show => 1);
}
my $client = $redis->client(db => 1);
is($client->get('tail:live47') =~ s/.*, //r, '{"n": 9}]', 'and a restored tail is in Redis');

# ---- DROP EXTENSION

my $mine = q{SELECT (SELECT count(*) FROM pg_class WHERE relname ~ '^(session_|conversation_)') + (SELECT count(*) FROM pg_proc WHERE proname ~ '^session_' AND pronamespace = 'public'::regnamespace)
	+ (SELECT count(*) FROM pg_type WHERE typname ~ '^_?(session_|conversation_)') + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_policy) + (SELECT count(*) FROM pg_event_trigger)};
cmp_ok(value($mine, 'data'), '>', 50, 'the extension has objects');
within(5, 'DROP EXTENSION', sub { value('DROP EXTENSION session_store', 'data') });
is(value($mine, 'data'), '0', '.. leaves none');
create_extension($node, 'data');
is(value('SELECT (SELECT count(*) FROM conversation_history) + (SELECT count(*) FROM session_members) + (SELECT count(*) FROM conversation_history_ended)', 'data'), '0', '.. and a new one has no rows');
value("DROP DATABASE $_") for qw(whole data parallel sections busy);

# ---- a standby

$living = living();
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
value(q{SELECT session_append('live1', '{"streamed": 1}', namespace => 'chat')});
wait_for_replay($node, $standby);
is($standby->safe_psql('postgres', q{SELECT seq, message FROM session_history('live1', last => 1, namespace => 'chat')}), '3|{"streamed": 1}', 'a standby reads messages');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM session_history('live40', before => 30, last => 10, namespace => 'chat')}), '10', '.. and windows of them');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM conversation_messages WHERE session_id = 'live40'}), '41', '.. and the view');
is($standby->safe_psql('postgres', q{SELECT string_agg(member || ' ' || role, ', ' ORDER BY member) FROM session_members('live1', namespace => 'chat')}), 'somebody 1 viewer, somebody 2 editor, somebody 3 owner', '.. and members');
for my $call (q{session_append('live1', '{}', namespace => 'chat')}, q{session_pop('live1', namespace => 'chat')}, q{session_trim('live1', 1, namespace => 'chat')}, q{session_fork('live1', namespace => 'chat')},
	q{session_absorb('live1', 'live2', namespace => 'chat')}, q{session_share('live1', 'm', namespace => 'chat')}, q{session_unshare('live1', 'somebody 1', namespace => 'chat')})
{
	is(sqlstate($standby, "SELECT $call"), '25006', "$call: read only");
}
leave_nothing($standby);

# ---- logical replication

my $subscriber = new_store('subscriber', conf => "session_store.purge_interval = 100ms\n");
my @published = qw(conversation_sessions conversation_history session_members session_operations session_namespaces);
value('CREATE PUBLICATION pub FOR TABLE ' . join(', ', @published));
my $connection = $node->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($node, 'sub');

sub same
{
	my ($what) = @_;

	my $give_up = time + 20;
	my ($there, $here);

	wait_for_replay($node, 'sub');
	# the keeper of each server removes messages without a session by itself
	do
	{
		($there, $here) = (content('postgres', $subscriber, @published), content('postgres', $node, @published));
		return ok(1, $what) if alike($there, $here);
		usleep(50_000);
	} while (time < $give_up);
	return is_deeply($there, $here, $what);
}

# Like is_deeply, but returns the result without a test.
sub alike
{
	my ($a, $b) = @_;
	local $Data::Dumper::Sortkeys = 1;

	return Data::Dumper::Dumper($a) eq Data::Dumper::Dumper($b);
}

same('logical replication: the initial copy');
is($subscriber->safe_psql('postgres', q{SELECT message FROM session_history('live1', last => 1, namespace => 'chat')}), '{"streamed": 1}', '.. functions read it');
value(q{SELECT session_append('live1', '{"n": 5}', namespace => 'chat'), session_append('begun', '[{"n": 1}, {"n": 2}]', namespace => 'chat'), session_pop('live3', 2, namespace => 'chat'), session_trim('live4', 1, namespace => 'chat');
SELECT session_fork('live5', 'forked', namespace => 'chat'); SELECT session_absorb('live6', 'live7', namespace => 'chat'); SELECT session_share('live8', 'else', namespace => 'chat'), session_unshare('live8', 'somebody 2', namespace => 'chat');
SELECT session_regenerate('live9', namespace => 'chat')});
same('.. appends, pops, trims, forks and members');
value(q{SELECT session_delete('live10', namespace => 'chat'); DELETE FROM conversation_sessions WHERE session_id = 'live11'; UPDATE conversation_history SET message = '{"edited": 1}' WHERE seq = 1});
wait_for_replay($node, 'sub');
for my $server ($node, $subscriber)
{
	wait_for($server, q{SELECT NOT EXISTS (SELECT FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id))}, $server->name . ': messages of ended sessions are removed', timeout => 10);
}
same('.. deletes');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM session_history('live12', namespace => 'chat') WHERE message = '{"edited": 1}'}), '1', '.. and plain SQL');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_subscription WHERE subname = 'sub' AND pid IS NOT NULL}), '1', '.. and the subscription continues');
is(count_log($subscriber, qr/ERROR: /), 0, '.. without an error');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
leave_nothing($subscriber);

# the cache works through all of this
value(q{SELECT session_append('live1', '{"n": 6}', namespace => 'chat')});
sync_cache($node);
is($redis->get('tail:live1') =~ s/.*, //r, '{"n": 6}]', 'Redis has the last message');
is($redis->get('tail:live10'), undef, '.. and none of ended sessions');

leave_no_redis($node, $redis);
done_testing();
