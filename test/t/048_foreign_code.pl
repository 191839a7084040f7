# Triggers and foreign keys of other roles that the keeper meets: none of them runs with the
# rights of the owner of the tables, and a foreign key alone does not stop the keeper.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('foreign', conf => "session_store.purge_interval = 100\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# Checks that no other role is a superuser, and that the attacker's code was not called.
sub safe
{
	my ($what) = @_;
	return is(value(q{SELECT concat((SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper AND rolname <> current_user), (SELECT CASE WHEN is_called THEN ' called' END FROM evil.called))}),
		'', $what);
}

sub purged
{
	my ($what) = @_;
	return wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', $what, timeout => 60);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, sliding, tombstone, audit) VALUES ('foreign', false, '0', true);
CREATE ROLE attacker;
CREATE SCHEMA evil AUTHORIZATION attacker;
GRANT REFERENCES, TRIGGER, SELECT ON conversation_sessions, conversation_history, session_events, session_samples TO attacker;
SET ROLE attacker;
CREATE SEQUENCE evil.called;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT USAGE ON SEQUENCE evil.called TO PUBLIC;
CREATE FUNCTION evil.pwn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('evil.called');
	EXECUTE 'ALTER ROLE attacker SUPERUSER';
	RETURN COALESCE(NEW, OLD);
EXCEPTION WHEN insufficient_privilege THEN
	RETURN COALESCE(NEW, OLD);
END $$;
EOS

# ---- foreign keys

value(<<'EOS');
SET ROLE attacker;
CREATE TABLE evil.cascades (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TRIGGER pwn AFTER UPDATE OR DELETE ON evil.cascades FOR EACH ROW EXECUTE FUNCTION evil.pwn();
CREATE TABLE evil.holds (namespace text COLLATE "C", session_id text COLLATE "C", FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions);
CREATE TABLE evil.empty (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE evil.messages (history_id uuid, seq bigint, FOREIGN KEY (history_id, seq) REFERENCES conversation_history ON DELETE CASCADE);
CREATE TRIGGER pwn AFTER DELETE ON evil.messages FOR EACH ROW EXECUTE FUNCTION evil.pwn();
RESET ROLE;
BEGIN;
SELECT session_append(id, '{"role": "user"}', namespace => 'foreign') FROM unnest(ARRAY['a', 'b', 'c']) id;
INSERT INTO evil.cascades VALUES ('foreign', 'a');
INSERT INTO evil.holds VALUES ('foreign', 'b');
INSERT INTO evil.messages SELECT history_id, seq FROM conversation_history;
UPDATE conversation_sessions SET expires_at = now() - interval '1 hour';
COMMIT;
EOS
purged('foreign keys of another role do not stop the keeper');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_history', '.. nor its purge of messages', timeout => 60);
safe('.. and have no effect');
is(value('SELECT count(*) FROM evil.cascades'), '1', '.. at all');
is(health($node, 'keeper,tasks,purge,failures'), '0', '.. and nothing failed');
is(health($node, 'foreign_code,foreign_keys_ignored'), '4', 'health counts them');
like(value('SELECT session_metrics()'), qr/^session_store_foreign_keys_ignored 4$/m, '.. metrics, too');
value('DROP TABLE evil.cascades, evil.holds, evil.empty, evil.messages');

# ---- triggers by a granted privilege

value('SET ROLE attacker; CREATE TRIGGER pwn AFTER DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION evil.pwn()');
value(q{SELECT session_save('d', '{}', ttl => '1 ms', namespace => 'foreign')});
wait_for($node, q{SELECT session_health() #>> '{keeper,tasks,purge,last_error}' LIKE 'function evil.pwn() does not run%' OR session_health() ->> 'warnings' LIKE '% is function evil.pwn() does not run%'},
	'a trigger of another role is refused in the keeper, and session_health() says so', timeout => 60);
safe('.. and did not run');
is(health($node, 'foreign_code,functions_refused'), '1', '.. session_health() counts the function');
like(value(q{SELECT session_health() ->> 'warnings'}), qr/function evil\.pwn\(\) is attached to the session tables/, '.. and names it');
value('DROP TRIGGER pwn ON conversation_sessions');
purged('.. without it the keeper continues');

value('SET ROLE attacker; CREATE TRIGGER pwn AFTER INSERT OR UPDATE ON session_samples FOR EACH ROW EXECUTE FUNCTION evil.pwn()');
value('SELECT pg_terminate_backend(' . keeper_pid($node, 'postgres') . ')');
wait_for($node, q{SELECT session_health() #>> '{keeper,tasks,sample,last_error}' LIKE 'function evil.pwn() does not run%' OR session_health() ->> 'warnings' LIKE '% is function evil.pwn() does not run%'}, '.. the same for one on session_samples', timeout => 60);
safe('.. which did not run');
value('DROP TRIGGER pwn ON session_samples');

value(q{SELECT session_save('e', '{}', namespace => 'foreign')});
value(<<'EOS');
SET ROLE attacker;
CREATE CONSTRAINT TRIGGER pwn AFTER INSERT ON session_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.event = 'expired') EXECUTE FUNCTION evil.pwn();
EOS
value(q{UPDATE conversation_sessions SET expires_at = now() - interval '1 hour'});
wait_for($node, q{SELECT session_health() #>> '{keeper,tasks,purge,last_error}' LIKE 'function evil.pwn() does not run%' OR session_health() ->> 'warnings' LIKE '% is function evil.pwn() does not run%'}, '.. and a deferred one on session_events', timeout => 60);
safe('.. which did not run, nor at the commit');
value('DROP TRIGGER pwn ON session_events');
purged('.. and it continues');

# The condition of a trigger can call functions without any hook.
value(q{SET ROLE attacker; CREATE TRIGGER pwn BEFORE DELETE ON conversation_sessions FOR EACH ROW WHEN (pg_catalog.nextval('evil.called') > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger()});
value(q{SELECT session_save('w', '{}', ttl => '1 ms', namespace => 'foreign')});
wait_for($node, q{SELECT session_health() #>> '{keeper,tasks,purge,last_error}' LIKE 'trigger "pwn" of table "conversation_sessions" does not fire%' OR EXISTS (SELECT FROM jsonb_each(session_health() -> 'set_aside') AS w (work, said) WHERE said ->> 'last_error' LIKE 'trigger "pwn" of table "conversation_sessions" does not fire%')},
	'a trigger whose condition has effects is refused in the keeper', timeout => 60);
safe('.. and its condition was not evaluated');
is(health($node, 'foreign_code,functions_refused'), '1', '.. session_health() counts it');
value('DROP TRIGGER pwn ON conversation_sessions');
purged('.. without it the keeper continues again');

# ---- triggers and foreign keys of the owner, which is not a superuser

value(<<'EOS');
CREATE ROLE keeps;
DO $$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store' WHERE c.relkind IN ('r', 'v')
	LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO keeps', t);
	END LOOP;
END $$;
CREATE SCHEMA own AUTHORIZATION keeps;
SET ROLE keeps;
CREATE TABLE own.log (id text, who text);
CREATE FUNCTION own.log() RETURNS trigger LANGUAGE plpgsql SET search_path = own, pg_temp AS $$
BEGIN
	INSERT INTO log VALUES (OLD.session_id, current_user);
	RETURN NULL;
END $$;
CREATE FUNCTION own.plain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO own.log VALUES (lower('PLAIN'), current_user);
	RETURN NULL;
END $$;
CREATE TRIGGER log AFTER DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION own.log();
CREATE TRIGGER plain AFTER DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION own.plain();
CREATE TABLE own.profile (namespace text COLLATE "C", session_id text COLLATE "C", FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON DELETE CASCADE);
RESET ROLE;
BEGIN;
SELECT session_save('f', '{}', namespace => 'foreign');
INSERT INTO own.profile VALUES ('foreign', 'f');
UPDATE conversation_sessions SET expires_at = now() - interval '1 hour';
COMMIT;
EOS
purged('an owner that is not a superuser: the keeper purges');
is(value(q{SELECT string_agg(id || ' ' || who, ', ' ORDER BY id) FROM own.log}), 'f keeps, plain keeps', '.. its triggers run with its rights');
is(value('SELECT count(*) FROM own.profile'), '0', '.. its foreign key cascades');
is(health($node, 'foreign_code'), '{"functions_refused": 0, "foreign_keys_ignored": 0, "functions_without_search_path": 1}', '.. session_health() knows which of them sets no search_path');
value(q{ALTER FUNCTION own.log() OWNER TO postgres});
value(q{SELECT session_save('g', '{}', ttl => '1 ms', namespace => 'foreign')});
purged('a function of a superuser runs as well');

# A parallel worker acts as the owner as well, and has not looked the tables up.
value(<<'EOS');
SET ROLE attacker;
CREATE FUNCTION evil.f(text) RETURNS bool LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RAISE 'runs as %', current_user; END$$;
SET ROLE keeps;
CREATE TABLE own.big AS SELECT i::text AS t FROM generate_series(1, 20000) i;
CREATE FUNCTION own.par() RETURNS trigger LANGUAGE plpgsql SET search_path = own, pg_temp AS $$BEGIN PERFORM count(*) FROM own.big WHERE evil.f(t); RETURN NULL; END$$;
CREATE TRIGGER par AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION own.par();
EOS
# the setting has another name since version 16
my $forced = value(q{SELECT CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END});
for my $leader ('on', 'off')
{
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET $forced = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = $leader; SELECT session_save('par', '{}', namespace => 'foreign')");
	like($err, qr/ERROR:  function evil\.f\(pg_catalog\.text\) does not run with the rights/, "a function of another role does not run as the owner in a parallel plan (leader $leader)");
	unlike($err, qr/runs as/, '.. not in a worker either');
	like($err, qr/parallel worker/, '.. which is where it was refused') if $leader eq 'off';
}
value('DROP TRIGGER par ON conversation_sessions');

leave_nothing($node);
done_testing();
