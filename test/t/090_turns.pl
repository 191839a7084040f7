# Turns on whole servers: of fifty that begin one gets it; a holder that was suspended changes nothing
# afterwards, in the tables or in Redis; tokens grow across a purge, a restore, a crash, a promotion and
# a switch to a subscriber; a turn is no change that Redis, the fence or the disk would notice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

note_seed();
my $redis = new_redis();
my $node = new_cached_store('turns', $redis, init => { allows_streaming => 'logical' }, max_connections => 80,
	conf => "session_store.purge_interval = 0\nsession_store.lease = 10s\ndeadlock_timeout = 200ms\n");
my $tables = 'conversation_sessions, conversation_history, session_members, session_operations, session_namespaces, session_events';

sub value
{
	my ($sql, $at) = @_;

	return ($at // $node)->safe_psql('postgres', $sql);
}

sub token_of
{
	my ($id, $at) = @_;

	return value("SELECT turn FROM conversation_sessions WHERE session_id = '$id'", $at);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, sliding, tail_prefix, audit, tombstone) VALUES ('t', 'all', false, 'tail:', true, '0');
INSERT INTO session_namespaces (name, cache, durability) VALUES ('relaxed', 'off', 'relaxed');
ALTER DATABASE postgres SET session_store.namespace = 't';
CREATE TABLE given (client int, token bigint);
EOS

# ---- fifty begin at once: all of them wait for the row, then one has the turn

my $clients = 50;
value(q{SELECT session_save('one', '{"n": 0}')});
my $lock = $node->background_psql('postgres');
$lock->query_safe(q{BEGIN; SELECT 1 FROM conversation_sessions WHERE session_id = 'one' FOR UPDATE});
my @waiting = map { $node->background_psql('postgres') } 1 .. $clients;
$_->query_until(qr/started/, "\\echo started\nINSERT INTO given SELECT 0, t FROM (SELECT session_turn_begin('one', '1 hour') AS t OFFSET 0) b WHERE t IS NOT NULL;\n\\echo done\n") for @waiting;
wait_for($node, q{SELECT count(*) = 50 FROM pg_stat_activity WHERE query ~ '^INSERT INTO given' AND wait_event_type = 'Lock'}, 'fifty clients wait for the row', must => 1);
$lock->query_safe('COMMIT');
$_->query_until(qr/done/, '') for @waiting;
$_->quit for @waiting, $lock;
is(value('SELECT count(*) FROM given'), '1', 'one of them has the turn');
is(value('SELECT token FROM given'), token_of('one'), '.. under the token of the row');

# ---- fifty take turns: never two at a time

value(q{TRUNCATE given; SELECT session_save('hot', '{"n": 0}')});
pgbench_run($node, <<'EOS', '-c', $clients, '-j', 2, '-t', 20);
SELECT coalesce(session_turn_begin('hot', '1 hour', holder => 'client ' || :client_id), 0) AS turn \gset
\if :turn
INSERT INTO given VALUES (:client_id, :turn);
SELECT (session_get('hot') ->> 'n')::int AS n \gset
SELECT session_save('hot', jsonb_build_object('n', :n + 1), turn => :turn);
SELECT session_turn_end('hot', :turn);
\endif
EOS
my ($turns, $saved) = one_row($node, q{SELECT count(*), session_get('hot') ->> 'n' FROM given});
cmp_ok($turns, '>', 0, "there were turns ($turns)");
is($saved, $turns, 'no save was lost under them, though each read before it wrote');
is(value('SELECT count(*) - count(DISTINCT token) FROM given'), '0', 'no token was given twice');
is(value(q{SELECT count(*) FROM (SELECT event, lag(event, 1, 'turn_ended') OVER w AS before, (detail ->> 'turn')::bigint AS turn, lag((detail ->> 'turn')::bigint, 1, 0::bigint) OVER w AS turn_before
	FROM session_events WHERE session_id = 'hot' AND event LIKE 'turn%' WINDOW w AS (ORDER BY created_at)) e
	WHERE event = before OR turn < turn_before OR (event = 'turn_ended' AND turn <> turn_before)}), '0', 'each ended before the next began, and tokens grew');
is(value(q{SELECT count(*) FROM session_events WHERE session_id = 'hot' AND event = 'turn_begun'}), $turns, 'an event for each');

# ---- a holder is suspended past its turn: its backend stops before the statement arrives, and goes on later

value(q{SELECT session_save('s', '{"by": "setup"}'), session_append('s', '{"m": "setup"}')});
my $late = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $late->query_safe('SELECT pg_backend_pid()');
my $token = $late->query_safe(q{SELECT session_turn_begin('s', '1 hour', holder => 'late')});
is($late->query_safe("SELECT session_save('s', '{\"by\": \"late\"}', turn => $token)"), '2', 'the holder saves');
# (a copy that a flush has removed is there again after a read)
soon('.. which reaches Redis', 5, sub { value(q{SELECT session_get('s')}); return ($redis->get('t:s') // '') eq '{"by": "late"}' });
kill 'STOP', $pid;
$late->query_until(qr/sent/, "\\echo sent\n\\set VERBOSITY sqlstate\n\\o /dev/null\n"
	  . "SELECT session_save('s', '{\"by\": \"too late\"}', turn => $token);\nSELECT session_append('s', '{\"m\": \"too late\"}', turn => $token);\n\\echo gave up\n");
value(q{UPDATE conversation_sessions SET turn_until = clock_timestamp() WHERE session_id = 's'});
my $next = value(q{SELECT session_turn_begin('s', '1 hour', holder => 'next')});
cmp_ok($next, '>', $token, 'another has the turn meanwhile');
value("SELECT session_save('s', '{\"by\": \"next\"}', turn => $next), session_append('s', '{\"m\": \"next\"}', turn => $next)");
my @copies = ('{"by": "next"}', '[{"m": "setup"}, {"m": "next"}]');
soon('.. and Redis has what it saved', 5, sub { value(q{SELECT session_get('s')}); return join(' ', map { $_ // '' } $redis->get('t:s'), $redis->get('tail:s')) eq "@copies" });
kill 'CONT', $pid;
$late->query_until(qr/gave up/, '');
$late->quit;
is(value(q{SELECT session_data, version, message_count, holder FROM session_fetch('s'), session_turn('s')}), '{"by": "next"}|3|2|next', 'the suspended one has changed nothing in the table');
sync_cache($node);
is_deeply([ $redis->get('t:s'), $redis->get('tail:s') ], \@copies, '.. nor in Redis');
is(sqlstate($node, "SELECT session_save('s', '{}', turn => $token)"), 'SST12', '.. its turn is refused');

# ---- a turn is no change: no copy is written, no commit waits at the fence

# (What was written into Redis by hand is a difference from the table, which the pusher repairs when it is in a
# sample. Then the copies tell nothing, and all is done again.)
my $fenced = value(q{SELECT session_metrics()}) =~ /^session_store_fenced_total (\d+)$/m ? $1 : -1;
my $untouched;
for my $attempt (1 .. 20)
{
	my $repaired = cache_health($node, 'divergence');

	$redis->cmd('SET', $_, 'untouched') for 't:s', 'tail:s';
	value("SELECT session_turn_renew('s', $next, '2 hours'), session_turn_end('s', $next)");
	$next = value(q{SELECT session_turn_begin('s', '1 hour', holder => 'again')});
	value(q{UPDATE conversation_sessions SET turn_holder = 'by hand' WHERE session_id = 's'});
	value(q{SET session_store.direct_rows = off; SELECT session_turn_renew('s', turn, '3 hours') FROM conversation_sessions WHERE session_id = 's'});
	foreach my $call ("save('s', '{}'", "append('s', '{}'", "merge('s', '{}'", "trim('s', 0")
	{
		is(sqlstate($node, "SELECT session_$call, turn => $token)"), 'SST12', "refused: session_$call)");
	}
	sync_cache($node);
	$untouched = join(' ', map { $_ // '' } $redis->get('t:s'), $redis->get('tail:s')) eq 'untouched untouched';
	last if $untouched;
	soon('.. but for a repair, which is counted', 10, sub { cache_health($node, 'divergence') > $repaired }) or last;
}
ok($untouched, 'turns and refused changes write no copy');
is(value(q{SELECT session_metrics()}) =~ /^session_store_fenced_total (\d+)$/m ? $1 : -1, $fenced, '.. and wait at no fence');
value("SELECT session_save('s', '{\"by\": \"again\"}', turn => $next)");
sync_cache($node);
soon('a change under the turn is written', 5, sub { ($redis->get('t:s') // '') eq '{"by": "again"}' });
like(value('SELECT session_metrics()'), qr/^session_store_errors_turn_total [1-9]/m, 'refused changes are counted');
like(value('SELECT session_metrics()'), qr/^session_store_turns_begun_total [1-9]/m, '.. and turns');
durability_is($node, 'strict', 'a turn in a namespace with durability relaxed', q{SELECT session_turn_begin('r', namespace => 'relaxed')})
  if value(q{SELECT session_save('r', '{}', namespace => 'relaxed')}) ne '';

# ---- tokens grow: over an end, a purge, a restore

my $purged = value(q{SELECT session_save('p', '{}'); SELECT session_turn_begin('p', '1 hour')});
$purged =~ s/.*\n//s;
value(q{SELECT session_delete('p'); SELECT session_purge()});
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_id = 'p'}), '0', 'the row is purged');
value(q{SELECT session_save('p', '{}')});
cmp_ok(value(q{SELECT session_turn_begin('p', '1 hour')}), '>', $purged, '.. and the next token of the id is greater');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
run_ok('pg_dump', $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f', $dump);
value('CREATE DATABASE restored TEMPLATE template0');
run_ok('.. restored', $node->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'restored', '-f', $dump);
my $restored = $node->safe_psql('restored', qq{SET session_store.namespace = 't'; SELECT t.holder, session_save('s', '{}', turn => $next) FROM session_turn('s') t});
is($restored, 'by hand|5', 'the turn is held there as well, under its token');
cmp_ok($node->safe_psql('restored', qq{SET session_store.namespace = 't'; SELECT session_turn_end('s', $next) \\g /dev/null\nSELECT session_turn_begin('s')}), '>', $next, '.. and the next is greater');
$node->safe_psql('postgres', 'DROP DATABASE restored (FORCE)');

# ---- over a crash, on a subscriber, and on a standby that is promoted

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "session_store.redis_url = ''\n");
$standby->start;
my $subscriber = new_store('subscriber', conf => "session_store.purge_interval = 0\n");
value("CREATE PUBLICATION pub FOR TABLE $tables");
value("CREATE SUBSCRIPTION sub CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION pub", $subscriber);
$subscriber->wait_for_subscription_sync($node, 'sub');

value(q{SELECT session_save('c', '{}')});
my $crashed = value(q{SELECT session_turn_begin('c', '1 hour', holder => 'before the crash')});
crash($node);
is(value(q{SELECT holder FROM session_turn('c')}), 'before the crash', 'a turn outlives a crash');
is(value("SELECT session_save('c', '{}', turn => $crashed)"), '2', '.. and is good for a save');
# the clock of the server may go back
value(q{UPDATE conversation_sessions SET turn = 8000000000000000, turn_holder = 'ahead' WHERE session_id = 'c'});
wait_for_replay($node, 'sub');
wait_for_replay($node, $standby);
is(value(q{SELECT holder FROM session_turn('c', 't')}, $subscriber), 'ahead', 'the subscriber has the turn');
is(value(q{SELECT session_turn_begin('c', namespace => 't')}, $subscriber), '', '.. which is held there');
is(value(q{SELECT holder FROM session_turn('c', 't')}, $standby), 'ahead', 'the standby too');
is(sqlstate($standby, q{SELECT session_turn_begin('c', namespace => 't')}), '25006', '.. where none can begin');
value('DROP SUBSCRIPTION sub', $subscriber);
leave_nothing($node, crashes => 0);
$standby->promote;
for my $at ($subscriber, $standby)
{
	my $name = $at->name;

	is(value(q{SELECT session_save('c', '{"there": 1}', namespace => 't', turn => 8000000000000000)}, $at), '3', "$name: the holder goes on there");
	is(value(q{SELECT session_turn_end('c', 8000000000000000, 't')}, $at), 't', "$name: .. and ends its turn");
	is(value(q{SELECT session_turn_begin('c', namespace => 't')}, $at), '8000000000000001', "$name: the next token is greater, whatever the clock says");
	leave_nothing($at);
}
$redis->stop;

done_testing();
