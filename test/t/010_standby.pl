# A streaming standby: reads work and do not extend expiries, nothing is purged; after promotion
# it has a keeper.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $primary = new_store('primary', init => { allows_streaming => 1 },
	conf => "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n");

$primary->safe_psql('postgres', <<'EOS');
INSERT INTO session_namespaces (name, key_prefix, ttl) VALUES ('chat', 'chat:', '2 hours');
SELECT session_save('s' || i, jsonb_build_object('n', i), owner => 'u' || i % 2) FROM generate_series(1, 20) i;
SELECT session_save('c', '{}', namespace => 'chat');
SELECT session_delete('s20');
SELECT session_turn_begin('s2', '1 day', holder => 'agent');
EOS
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', q{SELECT session_save('late', '{"n": 0}')});
wait_for_replay($primary, $standby);

sub answer
{
	return $standby->safe_psql('postgres', $_[0]);
}

is(answer(q{SELECT session_get('s1')}), '{"n": 1}', 'get');
is(answer(q{SELECT version, owner_id FROM session_fetch('s1')}), '1|u1', 'fetch');
is(answer(q{SELECT session_id, session_data FROM session_get_many('{s1,none,s20}')}), qq[s1|{"n": 1}\nnone|\ns20|], 'get_many');
is(answer(q{SELECT session_get('late')}), '{"n": 0}', 'replicated rows');
is(answer(q{SELECT session_get('c', namespace => 'chat')}), '{}', 'another namespace');
is(answer(q{SELECT session_get('s20'), session_exists('s20')}), '|f', 'a deleted one');
is(answer(q{SELECT count(*) FROM session_list()}), '20', 'list');
is(answer(q{SELECT holder, until > now() FROM session_turn('s2')}), 'agent|t', 'the holder of a turn');
is(answer(q{SELECT session_count(owner => 'u0')}), '9', 'count');
is(answer(q{SELECT session_exists('s1'), session_ttl('s1') > '59 minutes'}), 't|t', 'exists and ttl');
is(answer(q{SELECT session_health() ->> 'in_recovery'}), 'true', 'session_health() says that the server is in recovery');
is(answer(q{SELECT session_health() ->> 'warnings'}), '[]', '.. and has no warning');
like(answer('SELECT session_metrics()'), qr/^session_store_preloaded 1$/m, 'metrics');
is(answer('SELECT count(*) >= 0 FROM session_stats'), 't', 'stats');
is(answer(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT session_get('s1'); COMMIT}), '{"n": 1}', 'get at REPEATABLE READ');

for my $call (q{session_save('s1', '{}')}, q{session_create()}, q{session_merge('s1', '{}')}, q{session_incr('s1', '{n}')},
	q{session_delete('s1')}, q{session_take('s1')}, q{session_regenerate('s1', new_session_id => 'sixteen bytes id')}, q{session_delete_all('u1')}, q{session_regenerate('s1')}, q{session_touch('s1')}, q{session_purge()}, q{session_clear('chat')},
	q{session_turn_begin('s1')}, q{session_turn_renew('s2', 1)}, q{session_turn_end('s2', 1)})
{
	is(sqlstate($standby, "SELECT $call"), '25006', "$call: read only");
}

# reads do not slide on a standby
$primary->safe_psql('postgres', q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 's1'});
wait_for_replay($primary, $standby);
is(answer(q{SELECT session_get('s1'); SELECT session_ttl('s1') <= '10 minutes'}), qq[{"n": 1}\nt], 'a read does not slide');
is(answer(q{SELECT session_health() #>> '{touches,noted}'}), '0', '.. nor do they record anything');

# an expired session is not returned, purged or not
$primary->safe_psql('postgres', q{SELECT session_save('short', '{}', ttl => '500 ms')});
wait_for_replay($primary, $standby);
wait_for($standby, q{SELECT session_get('short') IS NULL}, 'what expires is gone there too', timeout => 5);

is(answer(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'session_store keeper'}), '0', 'no keeper during recovery');

# a change of a policy reaches open sessions
my $psql = $standby->background_psql('postgres');
$psql->query_safe(q{SELECT session_get('c', namespace => 'chat')});
$primary->safe_psql('postgres', q{INSERT INTO session_namespaces (name, key_prefix) VALUES ('later', 'later:'); SELECT session_save('x', '{"new": 1}', namespace => 'later')});
wait_for_replay($primary, $standby);
is($psql->query_safe(q{SELECT session_get('x', namespace => 'later')}), '{"new": 1}', 'an open session sees the new namespace');
$psql->quit;

# ---- promoted

$primary->safe_psql('postgres', q{SELECT session_save('expiring', '{}', ttl => '3 s')});
wait_for_replay($primary, $standby);
leave_nothing($primary);
$standby->promote;
wait_for_keeper($standby, 'postgres', what => 'after promotion it has a keeper', timeout => 10);
wait_for($standby, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'expiring')},
	'which purges', timeout => 15);
is(answer(q{SELECT session_save('s1', '{"n": 2}')}), '2', 'and calls write');
is(answer(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 's2'; SELECT session_get('s2'); SELECT session_ttl('s2') > '59 minutes'}),
	qq[{"n": 2}\nt], 'and reads slide');
is(sqlstate($standby, q{SELECT session_save('s20', '{}')}), 'SST10', 'dead ids are still dead');

leave_nothing($standby);
done_testing();
