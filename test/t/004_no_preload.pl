# Without shared_preload_libraries: SQL works, reads do not extend expiries, session_health()
# names the missing line; then with it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('no_preload', bare => 1);

# Each call is the first of its backend, and so loads the library.
sub answer
{
	return $node->safe_psql('postgres', $_[0]);
}

is(answer(q{SELECT session_save('a', '{"n": 1}', owner => 'u')}), '1', 'save');
is(answer(q{SELECT session_get('a')}), '{"n": 1}', 'get');
is(answer(q{SELECT version, owner_id FROM session_fetch('a')}), '1|u', 'fetch');
is(answer(q{SELECT session_merge('a', '{"m": 2}')}), '{"m": 2, "n": 1}', 'merge');
is(answer(q{SELECT session_incr('a', '{n}')}), '2', 'incr');
is(answer(q{SELECT session_touch('a', '2 hours') BETWEEN now() + interval '119 minutes' AND now() + interval '121 minutes'}), 't', 'touch with a ttl');
is(answer(q{SELECT session_ttl('a') BETWEEN '119 minutes' AND '2 hours'}), 't', 'and it holds');
is(answer(q{SELECT session_touch('a') > now()}), 't', 'touch');
is(answer(q{SELECT session_exists('a')}), 't', 'exists');
is(answer(q{SELECT session_count(owner => 'u')}), '1', 'count');
is(answer(q{SELECT session_id FROM session_list(owner => 'u')}), 'a', 'list');
is(answer(q{SELECT length(session_create()) >= 43}), 't', 'create');
is(answer(q{SELECT session_get(session_regenerate('a')) ->> 'm'}), '', 'regenerate, in one statement');
is(answer(q{SELECT session_get(session_id) FROM session_list(owner => 'u')}), '{"m": 2, "n": 2}', '.. for a session that was moved');
is(sqlstate($node, q{SELECT session_save('a', '{}')}), 'SST10', 'the old id is dead');
is(answer(q{SELECT session_delete_all('u')}), '1', 'delete_all');
is(answer(q{SELECT session_clear('default')}), '1', 'clear');

is(health($node, 'preloaded'), 'false', 'health knows');
like(health($node, 'warnings'), qr/shared_preload_libraries = '?"?[^"]*session_store/, 'and names the line');
is(answer(q{SELECT count(*) >= 0 FROM session_stats}), 't', 'stats');
like(answer('SELECT session_metrics()'), qr/^session_store_preloaded 0$/m, 'metrics');

# reads do not slide, touches do
answer(q{SELECT session_save('s', '{}', ttl => '2 s'), session_save('t', '{}', ttl => '2 s')});
is(answer(<<'EOS'), '|{}', 'a read does not slide, a touch does');
DO $$
BEGIN
	FOR i IN 1 .. 35 LOOP
		PERFORM session_get('s'), session_touch('t');
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT session_get('s'), session_get('t');
EOS

# only session_purge() purges
wait_for($node, q{SELECT expires_at < clock_timestamp() FROM conversation_sessions WHERE session_id = 't'},
	't expires', quiet => 1);
is(answer('SELECT session_purge()'), '2', 'purge by hand');

# a backend that has loaded the library knows the settings of the file
is(answer(q{SELECT session_count(); SET session_store.namespace = 'elsewhere'; SELECT current_setting('session_store.namespace')}),
	"0\nelsewhere", 'settings');
is(sqlstate($node, q{SELECT session_count(); SET session_store.no_such_setting = 1}), '42602', 'and no others');

answer(q{SELECT session_save('kept', '{"n": 1}', ttl => '1 day')});

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'session_store'\n");
$node->restart;
wait_for_keeper($node, 'postgres', what => 'with the line there is a keeper', timeout => 3);
is(health($node, 'preloaded'), 'true', 'health knows');
wait_for($node, q{SELECT session_health() ->> 'warnings' = '[]'}, 'and is content', timeout => 5);
is(answer(q{SELECT session_get('kept')}), '{"n": 1}', 'saved sessions are there');

leave_nothing($node);
done_testing();
