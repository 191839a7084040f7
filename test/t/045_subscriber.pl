# The keeper of a logical subscriber leaves published tables to the publisher: a subscriber that
# comes back late, or whose initial copy is unfinished, loses no session that is alive. After a
# switchover it purges.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $publisher = new_store('publisher', init => { allows_streaming => 'logical' });
my $subscriber = new_store('subscriber', conf => "wal_retrieve_retry_interval = 200ms\n");
my $connection = $publisher->connstr . ' dbname=postgres';
my $tables = 'conversation_sessions, conversation_history, session_members, session_namespaces, session_events';

sub subscriber_says
{
	my ($query) = @_;

	return $subscriber->safe_psql('postgres', $query);
}

sub content
{
	my ($node) = @_;

	return { map { $_ => $node->safe_psql('postgres', "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM $_ t") }
		  split /, /, $tables };
}

# Waits until the keeper of the subscriber has purged, or would have, what was due at a time.
sub wait_for_purge_after
{
	my ($time) = @_;

	for my $task (qw(purge history))
	{
		wait_for($subscriber, "SELECT (session_health() #>> '{keeper,tasks,$task,last_run}')::timestamptz > '$time'::timestamptz",
			"the subscriber's keeper has run its task $task", quiet => 1);
	}
	return;
}

$publisher->safe_psql('postgres', <<"EOS");
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, audit) VALUES ('chat', 'chat:', '2 s', false, true);
CREATE PUBLICATION pub FOR TABLE $tables;
EOS

# ---- the initial copy is not finished

# (an existing row stops it)
$publisher->safe_psql('postgres', q{SELECT session_save('first', '{}', ttl => '1 day', namespace => 'chat')});
subscriber_says(q{INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl) VALUES ('chat', 'first', '{}', '1 hour')});
subscriber_says("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub");
wait_for($subscriber, q{SELECT srsubstate = 'r' FROM pg_subscription_rel WHERE srrelid = 'conversation_history'::regclass}, 'messages are copied, while sessions wait');
is(subscriber_says(q{SELECT srsubstate <> 'r' FROM pg_subscription_rel WHERE srrelid = 'conversation_sessions'::regclass}), 't', 'the copy of sessions is not finished');
my $left = health($subscriber, 'purge,left_to_publisher');
like($left, qr/"$_"/, "session_health(): $_ is left to the publisher") for grep { $_ ne 'session_namespaces' } split /, /, $tables;
subscriber_says(q{UPDATE conversation_sessions SET expires_at = now() - interval '1 minute'});
wait_for_purge_after(subscriber_says('SELECT clock_timestamp()'));
is(subscriber_says('SELECT count(*) FROM conversation_sessions'), '1', 'an expired row is not purged meanwhile');
unlike($left, qr/ended/, '.. and neither are tables that are not published');
is(health($publisher, 'purge,left_to_publisher'), '[]', 'the publisher leaves nothing');
like(subscriber_says('SELECT session_metrics()'), qr/^session_store_subscribed_tables 4$/m, 'the metric');
subscriber_says('DELETE FROM conversation_sessions; TRUNCATE conversation_history_ended');
$subscriber->wait_for_subscription_sync($publisher, 'sub');

# ---- a subscriber that was disconnected for long

$publisher->safe_psql('postgres', <<'EOS');
SELECT session_save('s' || i, jsonb_build_object('n', i), owner => 'u' || i % 3, ttl => '1 hour', namespace => 'chat') FROM generate_series(1, 60) i;
SELECT session_append('s' || i, '[{"m": 1}, {"m": 2}]', namespace => 'chat'), session_share('s' || i, 'bob', namespace => 'chat') FROM generate_series(1, 60) i;
SELECT session_touch('s' || i, '5 s', namespace => 'chat') FROM generate_series(1, 50) i;
EOS
wait_for_replay($publisher, 'sub');
is(subscriber_says('SELECT count(*) FROM conversation_sessions'), '61', 'all sessions have arrived');
subscriber_says('ALTER SUBSCRIPTION sub DISABLE');
wait_for($subscriber, q{SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL}, 'no change arrives', quiet => 1);

# in use on the publisher; expired by what is known here
my $used = $publisher->safe_psql('postgres', q{SELECT count(session_touch('s' || i, '1 day', namespace => 'chat')) FROM generate_series(1, 50) i});
cmp_ok($used, '>', 0, "$used of them were used again in time");
wait_for($subscriber, q{SELECT max(expires_at) < clock_timestamp() - interval '100 ms' FROM conversation_sessions WHERE session_id IN (SELECT 's' || generate_series(1, 50))}, 'by the late copy they have expired');
wait_for_purge_after(subscriber_says('SELECT clock_timestamp()'));
is(subscriber_says('SELECT count(*) FROM conversation_sessions'), '61', 'the late subscriber purges none of them');
is(subscriber_says('SELECT count(*) FROM conversation_history'), '120', 'nor their messages');
my ($rc, $out, $err) = $subscriber->psql('postgres', 'SELECT session_purge()');
is($out, '0', 'session_purge() removes none');
like($err, qr/WARNING:  table "conversation_sessions" is not purged because a subscription replicates it/, '.. and session_health() says why');
is(subscriber_says('SELECT count(*) FROM conversation_sessions'), '61', 'all of them are there');

# sessions that end on the publisher meanwhile
$publisher->safe_psql('postgres', q{SELECT session_delete('s' || i, namespace => 'chat') FROM generate_series(51, 55) i});
my $offset = -s $subscriber->logfile;
subscriber_says('ALTER SUBSCRIPTION sub ENABLE');
wait_for($publisher, q{SELECT count(*) = 0 FROM conversation_history_ended}, 'messages of ended sessions are purged on the publisher');
wait_for_replay($publisher, 'sub');
is_deeply(content($subscriber), content($publisher), 'these changes arrive');
is($publisher->safe_psql('postgres', q{SELECT count(*) FROM conversation_sessions s WHERE s.session_id IN (SELECT 's' || generate_series(1, 50)) AND s.expires_at > now() + interval '1 hour'}),
	$used, 'the sessions in use stay alive');
is(subscriber_says(q{SELECT count(session_get('s' || i, namespace => 'chat')) FROM generate_series(1, 50) i}), $used, '.. here as well');
is(count_log($subscriber, qr/conflict detected|could not/, $offset), 0, 'no conflict');
wait_for($subscriber, 'SELECT count(*) = 0 FROM conversation_history_ended', 'the queue that the trigger fills here is emptied');

# ---- the queue is published as well

$publisher->safe_psql('postgres', 'ALTER PUBLICATION pub ADD TABLE conversation_history_ended');
subscriber_says('ALTER SUBSCRIPTION sub REFRESH PUBLICATION');
$subscriber->wait_for_subscription_sync($publisher, 'sub');
$publisher->safe_psql('postgres', q{SELECT session_delete('s' || i, namespace => 'chat') FROM generate_series(1, 10) i});
wait_for($publisher, q{SELECT count(*) = 0 FROM conversation_history_ended}, 'the publisher empties its queue');
wait_for_replay($publisher, 'sub');
is(subscriber_says('SELECT count(*) FROM conversation_history_ended'), '0', 'the queue here is the same');
is_deeply(content($subscriber), content($publisher), '.. and so are the other tables');

# ---- the publisher is gone: nothing is purged until the subscription is dropped

subscriber_says('ALTER SUBSCRIPTION sub DISABLE');
wait_for($subscriber, q{SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL}, 'no change arrives', quiet => 1);
subscriber_says(q{UPDATE conversation_sessions SET expires_at = now() - interval '2 minutes' WHERE session_id = 's60'});
like(health($subscriber, 'warnings'), qr/the purge is \d+ seconds behind: sessions arrive by a subscription.*drop the subscription/, 'health says what nobody does, and the remedy');
subscriber_says('ALTER SUBSCRIPTION sub SET (slot_name = NONE)');
subscriber_says('DROP SUBSCRIPTION sub');
wait_for($subscriber, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 's60')}, 'after the switchover the keeper purges', timeout => 15);
wait_for($subscriber, q{SELECT count(*) = 0 FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)}, 'messages, too', timeout => 15);
is(health($subscriber, 'purge,left_to_publisher'), '[]', '.. and leaves nothing to a publisher');
is(health($subscriber, 'warnings'), '[]', 'health is content');

leave_nothing($subscriber);
leave_nothing($publisher);
done_testing();
