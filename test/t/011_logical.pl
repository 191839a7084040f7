# Logical replication of the tables: sessions, policies and events arrive unchanged, and policies
# take effect on the subscriber at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $publisher = new_store('publisher', init => { allows_streaming => 'logical' });
my $subscriber = new_store('subscriber');

my $tables = 'conversation_sessions, conversation_history, session_members, session_operations, session_namespaces, session_events';

sub content
{
	my ($node) = @_;

	return { map { $_ => $node->safe_psql('postgres', "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM $_ t") }
		  split /, /, $tables };
}

sub same
{
	my ($what) = @_;

	wait_for_replay($publisher, 'sub');
	is_deeply(content($subscriber), content($publisher), $what);
}

# rows from before the subscription: the initial copy
$publisher->safe_psql('postgres', <<"EOS");
INSERT INTO session_namespaces (name, key_prefix, ttl, audit) VALUES ('chat', 'chat:', '2 hours', true);
SELECT session_save('s' || i, jsonb_build_object('n', i), owner => 'u' || i % 2, namespace => 'chat') FROM generate_series(1, 50) i;
SELECT session_save('s' || i, '{"again": 1}', namespace => 'chat') FROM generate_series(1, 50, 2) i;
SELECT session_delete('s50', namespace => 'chat');
SELECT session_append('s' || i, '[{"m": 1}, {"m": 2}]', 'op', namespace => 'chat') FROM generate_series(2, 40, 2) i;
SELECT session_share('s2', 'bob', namespace => 'chat');
UPDATE conversation_sessions SET version = 77 WHERE session_id = 's7';
SELECT session_turn_begin('s' || i, '1 day', holder => 'agent ' || i, namespace => 'chat') FROM generate_series(1, 9) i;
CREATE PUBLICATION pub FOR TABLE $tables;
EOS
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($publisher, 'sub');
same('the initial copy');
is($subscriber->safe_psql('postgres', q{SELECT version FROM session_fetch('s7', namespace => 'chat')}), '77', 'with its versions');

# an open session of the subscriber, which has cached the policies
my $psql = $subscriber->background_psql('postgres', on_error_stop => 0);
is($psql->query_safe(q{SELECT session_save('mine1', '{}', namespace => 'chat'); SELECT ttl FROM conversation_sessions WHERE session_id = 'mine1'}), "1\n02:00:00",
	'the policy holds');
$subscriber->safe_psql('postgres', q{DELETE FROM conversation_sessions WHERE session_id = 'mine1'; DELETE FROM session_events WHERE session_id = 'mine1'});

$publisher->safe_psql('postgres', <<'EOS');
SELECT session_save('new', '{"n": 1}', namespace => 'chat');
SELECT session_save('new', '{"n": 2}', namespace => 'chat');
SELECT session_merge('s1', '{"m": 1}', namespace => 'chat');
SELECT session_turn_end('s9', turn, 'chat'), session_turn_renew('s8', turn, '2 days', 'chat'), session_turn_begin('s10', holder => 'agent 10', namespace => 'chat') FROM conversation_sessions WHERE session_id IN ('s8', 's9');
SELECT session_incr('s2', '{n}', by => 5, namespace => 'chat');
SELECT session_touch('s3', '3 hours', namespace => 'chat');
SELECT session_delete('s4', namespace => 'chat');
SELECT session_delete_all('u1', namespace => 'chat');
SELECT session_regenerate('s6', namespace => 'chat');
SELECT session_save('owned', '{}', owner => 'w', namespace => 'chat');
SELECT session_append('s12', '{"m": 3}', namespace => 'chat'), session_pop('s14', namespace => 'chat'), session_trim('s16', 1, namespace => 'chat'), session_amend('s28', 2, '{"m": "amended"}', 'chat'), session_pop('s30', from_start => true, namespace => 'chat'), session_append('talk', '{"m": 1}', namespace => 'chat');
SELECT session_compact('s32', 1, '{"sum": 1}', 'chat'), session_compact('s34', 2, to_jsonb(repeat('long ', 5000)), 'chat'), session_compact('s36', 1, '1', 'chat'), session_compact('s38', 1, '1', 'chat');
SELECT session_append('s34', '{"m": 3}', namespace => 'chat'), session_pop('s36', 2, 'chat'), session_regenerate('s38', 'chat', 'sixteen bytes 38'), session_compact('s40', 1, '1', 'chat'), session_delete('s40', 'chat');
SELECT session_fork('s18', 'fork', namespace => 'chat'), session_absorb('s20', 's22', namespace => 'chat'), session_delete('s24', namespace => 'chat');
SELECT session_share('s2', 'carol', 'editor', 'chat'), session_unshare('s2', 'bob', 'chat'), session_share('s26', 'dave', namespace => 'chat'), session_regenerate('s26', 'chat');
DELETE FROM conversation_sessions WHERE session_id = 's8';
UPDATE conversation_sessions SET session_data = '{"direct": 1}' WHERE session_id = 's10';
EOS
# ended sessions are purged on both sides, by whichever keeper comes first
for ($publisher, $subscriber)
{
	wait_for($_, q{SELECT count(*) = 0 FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)}, 'hidden messages are purged on the ' . $_->name);
	wait_for_replay($publisher, 'sub');
}
same('inserts, saves, merges, touches, deletes, new ids, messages, members and plain SQL');
is($subscriber->safe_psql('postgres', q{SELECT session_get('new', namespace => 'chat'), (SELECT version FROM session_fetch('s10', namespace => 'chat'))}),
	'{"n": 2}|2', 'and calls see them');
is($subscriber->safe_psql('postgres', q{SELECT string_agg(message ->> 'm', ' ' ORDER BY seq) FROM session_history('s20', namespace => 'chat')}), '1 2 1 2', 'histories, too');
is($subscriber->safe_psql('postgres', q{SELECT session_tail('s32', 'chat'), session_tail('s34', 'chat') = jsonb_build_array(jsonb_build_object('summary', repeat('long ', 5000)), '{"m": 3}'::jsonb), session_tail('s36', 'chat'), session_tail('sixteen bytes 38', 'chat')}),
	'[{"summary": {"sum": 1}}, {"m": 2}]|t|[]|[{"summary": 1}, {"m": 2}]', '.. with their summaries');
is(sqlstate($subscriber, q{SELECT session_save('s4', '{}', namespace => 'chat')}), 'SST10', 'dead ids are dead there, too');

$publisher->safe_psql('postgres', q{UPDATE session_namespaces SET ttl = '5 hours' WHERE name = 'chat'; INSERT INTO session_namespaces (name, key_prefix, ttl) VALUES ('more', 'more:', '7 hours')});
wait_for_replay($publisher, 'sub');
is($psql->query_safe(q{SELECT session_save('mine2', '{}', namespace => 'chat'); SELECT ttl FROM conversation_sessions WHERE session_id = 'mine2'}), "1\n05:00:00",
	'a policy that is changed on the publisher applies in a session that was open before');
is($psql->query_safe(q{SELECT session_save('mine3', '{}', namespace => 'more'); SELECT ttl FROM conversation_sessions WHERE session_id = 'mine3'}), "1\n07:00:00",
	'.. and so does a new namespace');
$subscriber->safe_psql('postgres', q{DELETE FROM conversation_sessions WHERE session_id LIKE 'mine%'; DELETE FROM session_events WHERE session_id LIKE 'mine%'});
$publisher->safe_psql('postgres', q{DELETE FROM session_namespaces WHERE name = 'more'});
wait_for_replay($publisher, 'sub');
my ($out, $failed) = $psql->query(q{SELECT session_save('mine4', '{}', namespace => 'more')});
unlike($out // '', qr/\d/, '.. and a deleted one');
$psql->quit;
same('policies, too');

# sessions that expire on the publisher are purged there, and that is replicated; the keeper of the
# subscriber may have been first
$publisher->safe_psql('postgres', q{SELECT session_save('short', '{}', ttl => '500 ms', namespace => 'chat')});
wait_for($publisher, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'short')}, 'purged', timeout => 10);
wait_for_replay($publisher, 'sub');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM conversation_sessions WHERE session_id = 'short'}), '0', 'here and there');
is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_subscription WHERE subname = 'sub' AND pid IS NOT NULL}), '1', '.. and the subscription continues');

# TRUNCATE
$publisher->safe_psql('postgres', 'TRUNCATE conversation_sessions');
wait_for_replay($publisher, 'sub');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), '0', 'TRUNCATE');

is(count_log($subscriber, qr/ERROR: /), count_log($subscriber, qr/ERROR: .*(?:more|has ended)/), 'no error in the log of the subscriber except the expected ones');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION sub');
leave_nothing($subscriber);
leave_nothing($publisher);
done_testing();
