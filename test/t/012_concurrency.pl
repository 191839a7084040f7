# Many concurrent clients: no version, increment or member is lost, quotas hold, and there are no
# deadlocks.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

note_seed();
my $seed = int(rand(2**31));
my $node = new_store('concurrency', max_connections => 150, conf => "deadlock_timeout = 200ms\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# ---- 100 clients, one session

my $clients = 100;
my $each = 20;
my $all = $clients * $each;
my @hundred = ('-c', $clients, '-j', 2, '-t', $each, "--random-seed=$seed");

pgbench_run($node, "SELECT session_save('one', jsonb_build_object('client', :client_id));\n", @hundred);
is(value(q{SELECT version FROM session_fetch('one')}), $all, "$all saves by $clients clients, as many versions");

pgbench_run($node, "SELECT session_incr('count', '{n}');\n", @hundred);
is(value(q{SELECT session_get('count') ->> 'n', version FROM session_fetch('count')}), "$all|$all", 'as many increments');

pgbench_run($node, "SELECT session_incr('most', '{n}', max => 500);\n", @hundred);
is(value(q{SELECT session_get('most') ->> 'n', version FROM session_fetch('most')}), '500|500', '.. and none above max');

pgbench_run($node, "\\set k random(1, 1000000000)\nSELECT session_merge('keys', jsonb_build_object('c' || :client_id || '-' || :k, 1));\nSELECT session_merge('each', jsonb_build_object('c' || :client_id, 1));\n",
	'-c', $clients, '-j', 2, '-t', 5, "--random-seed=$seed");
is(value(q{SELECT count(*) FROM jsonb_object_keys(session_get('each'))}), $clients, 'parallel merges lose no key');
is(value(q{SELECT count(*) FROM jsonb_object_keys(session_get('keys'))}), $clients * 5, 'be they many');

# of the clients with if_version that read the same version one succeeds
value(q{SELECT session_save('cas', '{"n": 0}')});
value(<<'EOS');
CREATE FUNCTION add_one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	s record;
BEGIN
	LOOP
		BEGIN
			SELECT session_data, version INTO s FROM session_fetch('cas');
			PERFORM session_save('cas', jsonb_build_object('n', (s.session_data ->> 'n')::int + 1), if_version => s.version);
			RETURN;
		EXCEPTION WHEN serialization_failure THEN
		END;
	END LOOP;
END $$;
EOS
pgbench_run($node, "SELECT add_one();\n", '-c', 20, '-j', 2, '-t', 20);
is(value(q{SELECT session_get('cas') ->> 'n', version FROM session_fetch('cas')}), '400|401', 'if_version loses none');

# several clients log an owner out everywhere at the same time
pgbench_run($node, <<'EOS', '-c', 8, '-j', 2, '-t', 100, "--random-seed=$seed");
\set id random(1, 10)
SELECT session_save('out' || :client_id || '-' || :id, '{}', owner => 'm', if_version => 0) WHERE NOT session_exists('out' || :client_id || '-' || :id);
SELECT session_create(owner => 'm');
SELECT session_delete_all('m', except_session_id => 'out' || :client_id || '-' || :id);
EOS
is(count_log($node, qr/deadlock detected/), 0, 'delete_all by several clients: no deadlock');
value(q{SELECT session_delete_all('m')});
is(value(q{SELECT session_count(owner => 'm')}), '0', '.. and all sessions have ended');

# all calls at once on a few sessions, with logins, logouts and new ids between; a conflict is an
# accepted result
my $offset = -s $node->logfile;
value(<<'EOS');
CREATE FUNCTION any_call(id int, what int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE
		WHEN what <= 3 THEN session_save('mix' || id, '{}', owner => 'm', if_version => 0)::text
		WHEN what <= 5 THEN session_touch('mix' || id)::text
		WHEN what <= 7 THEN session_get('mix' || id)::text
		WHEN what = 8 THEN session_delete('mix' || id)::text
		WHEN what = 9 THEN session_regenerate('mix' || id)
		WHEN what = 10 THEN session_delete_all('m', except_session_id => 'mix' || id)::text
		WHEN what = 11 THEN session_purge()::text
		ELSE session_count(owner => 'm')::text END;
EXCEPTION WHEN serialization_failure THEN
	RETURN SQLSTATE;
END $$;
EOS
pgbench_run($node, "\\set id random(1, 5)\n\\set what random(1, 12)\nSELECT any_call(:id, :what);\n",
	'-c', 20, '-j', 2, '-T', 5, "--random-seed=$seed");
is(count_log($node, qr/deadlock detected/, $offset), 0, 'all calls at once: no deadlock');
$offset = -s $node->logfile;

# ---- quotas

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, max_sessions_per_owner, on_quota, tombstone)
	VALUES ('evict', 'evict:', 3, 'evict', '0'), ('refuse', 'refuse:', 3, 'refuse', '0');
CREATE TABLE seen (namespace text, living bigint);
-- refused, or in conflict: one answer of several
CREATE FUNCTION try_create(namespace text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN session_create(owner => 'u', namespace => namespace);
EXCEPTION WHEN configuration_limit_exceeded OR serialization_failure THEN
	RETURN SQLSTATE;
END $$;
EOS

for my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	for my $namespace ('evict', 'refuse')
	{
		value("SELECT session_clear('$namespace')");

		# an observer counts the committed sessions as often as it can
		my $watch = $node->background_psql('postgres');
		$watch->query_until(qr/watching/, <<"EOS");
\\echo watching
DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP INSERT INTO seen SELECT '$namespace', session_count(owner => 'u', namespace => '$namespace'); COMMIT; PERFORM pg_sleep(0.01); END LOOP; END \$\$;
\\echo done
EOS
		# a conflict that the server finds at COMMIT is retried
		my $out = pgbench_run($node, "BEGIN ISOLATION LEVEL $level;\nSELECT try_create('$namespace');\nCOMMIT;\n",
			'-c', 50, '-j', 2, '-t', 10, '--max-tries=50');
		my $living = value("SELECT session_count(owner => 'u', namespace => '$namespace')");
		cmp_ok($living, '<=', 3, "$level, $namespace: 50 clients, $living sessions at the end");
		cmp_ok($living, '>=', 1, '.. and some were created');
		$watch->query_safe('SELECT 1');
		$watch->quit;
		is(value("SELECT count(*) FROM seen WHERE namespace = '$namespace' AND living > 3"), '0', '.. and never more at any time');
	}
}
is(value(q{SELECT count(*) > 100 FROM seen}), 't', 'they were watched');

is(count_log($node, qr/deadlock detected/, $offset), 0, 'no deadlock because of a quota');

# ---- backends that start while the table is altered, whose catalog lookups see the changes

$offset = -s $node->logfile;
pgbench_run($node, "\\set what random(1, 3)\n\\if :what = 1\nALTER TABLE conversation_sessions SET (fillfactor = 80);\n\\else\nSELECT session_save('new' || :client_id, '{}');\n\\endif\n",
	'-C', '-c', 6, '-j', 2, '-t', 200, "--random-seed=$seed");
is(count_log($node, qr/was terminated by signal/, $offset), 0, 'new backends survive while the table is altered');
cmp_ok(value(q{SELECT sum(version) FROM conversation_sessions WHERE session_id LIKE 'new%'}), '>', 500, '.. and save');
is(health($node, 'warnings'), '[]', 'health is content');
leave_nothing($node);
done_testing();
