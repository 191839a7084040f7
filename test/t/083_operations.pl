# Operations in session_operations: the keeper removes those that are no longer kept and sets aside
# what it cannot remove; they end with their session, and without one they are orphans. A database
# with the tables of an earlier state is carried over by sql/carry_over.sql.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = new_store('operations', init => { allows_streaming => 'logical' },
	conf => "session_store.purge_interval = '100ms'\nsession_store.orphan_keep = '1s'\nautovacuum = off\n");

sub value
{
	my ($query, $db) = @_;

	return $node->safe_psql($db // 'postgres', $query);
}

# A keeper checks at its start, and then once a minute.
sub look
{
	my ($pid) = keeper_pid($node, 'postgres');

	value("SELECT pg_terminate_backend($pid, 180000)");
	wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = 'postgres' AND pid <> $pid", undef, quiet => 1);
	return;
}

# ---- the keeper

value(<<'EOS');
INSERT INTO session_namespaces (name, ttl, sliding, tombstone, operation_keep) VALUES ('chat', '1 day', false, '0', '1 hour');
SELECT count(session_append('s' || i % 7, jsonb_build_object('m', i), 'op ' || i, 'chat')) FROM generate_series(1, 2500) i;
BEGIN;
UPDATE session_operations SET keep_until = clock_timestamp() WHERE result % 2 = 0;
CREATE TABLE kept AS SELECT * FROM session_operations WHERE keep_until > clock_timestamp();
COMMIT;
EOS
my $same = q{SELECT NOT EXISTS (TABLE session_operations EXCEPT TABLE kept) AND NOT EXISTS (TABLE kept EXCEPT TABLE session_operations)};
look();
wait_for($node, $same, 'operations that are no longer kept are removed, in several batches, and no other');
is(health($node, 'keeper,tasks,operations,failures'), '0', 'the task has not failed');
is(health($node, 'warnings'), '[]', 'health is content');

# one that a trigger of the owner keeps delays no other
value(<<'EOS');
CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.operation_id = 'op 1' THEN
		RAISE EXCEPTION 'this one stays' USING ERRCODE = 'restrict_violation';
	END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER keeps BEFORE DELETE ON session_operations FOR EACH ROW EXECUTE FUNCTION keeps();
UPDATE session_operations SET keep_until = clock_timestamp() WHERE operation_id IN ('op 1', 'op 3', 'op 5');
DELETE FROM kept WHERE operation_id IN ('op 3', 'op 5');
UPDATE kept k SET keep_until = o.keep_until FROM session_operations o WHERE o.operation_id = 'op 1' AND k.operation_id = 'op 1';
EOS
look();
wait_for($node, $same, 'one that cannot be removed delays no other');
wait_for($node, q{SELECT session_health() ->> 'warnings' ~ 'old operations cannot be removed: 1 rows and 0 namespaces as a whole are set aside, the last failure in namespace chat'},
	'.. it is set aside, and session_health() names its namespace');
like(value('SELECT session_metrics()'), qr/^session_store_rows_set_aside\{work="operations"\} 1$/m, '.. in a metric');
is(sqlstate($node, q{SELECT session_purge()}), '00000', 'session_purge leaves it out');
value('DROP TRIGGER keeps ON session_operations');
look();
wait_for($node, q{SELECT count(*) = 0 FROM session_operations WHERE operation_id = 'op 1'}, 'without the trigger it is removed');

# ---- the end of the session

value(q{SELECT session_delete('s2', 'chat')});
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM session_operations o WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = o.history_id))}, 'operations end with their session');
cmp_ok(value('SELECT count(*) FROM session_operations'), '>', 100, '.. the others stay');

# ---- operations without a session, or on a subscriber

value(q{INSERT INTO session_operations SELECT clock_timestamp() + '1 day', gen_random_uuid(), 1, 'chat', 'orphan ' || i, 'x' FROM generate_series(1, 5) i});
value('SELECT pg_stat_force_next_flush()');
wait_for($node, q{SELECT count(*) = 0 FROM session_operations, pg_reload_conf() WHERE operation_id LIKE 'orphan%'}, 'operations that have no session are removed as orphans', timeout => 120);
value('CREATE DATABASE subscriber TEMPLATE template0');
value(q{CREATE PUBLICATION pub FOR TABLE session_operations; SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
create_extension($node, 'subscriber');
value(q{CREATE SUBSCRIPTION sub CONNECTION '} . $node->connstr . q{ dbname=postgres' PUBLICATION pub WITH (create_slot = false, copy_data = false)}, 'subscriber');
value(q{INSERT INTO session_operations SELECT clock_timestamp() - interval '1 s', gen_random_uuid(), 1, 'chat', 'old', 'x'}, 'subscriber');
my ($code, $out, $err) = $node->psql('subscriber', 'SELECT session_purge()');
like($err, qr/WARNING:  table "session_operations" is not purged because a subscription replicates it/, 'session_purge says that it leaves them to the publisher');
is(value('SELECT count(*) FROM session_operations', 'subscriber'), '1', '.. and does so');
value('DROP SUBSCRIPTION sub', 'subscriber');
value('SELECT session_purge()', 'subscriber');
is(value('SELECT count(*) FROM session_operations', 'subscriber'), '0', '.. until the subscription ends');
value('DROP DATABASE subscriber (FORCE)');

# ---- carry_over.sql with the tables of an earlier state

sub content
{
	my ($db, $schema) = @_;

	return value(<<"EOS", $db);
SELECT string_agg(concat_ws(' ', t, n, sum), E'\\n' ORDER BY t) FROM (
	SELECT 1 AS t, count(*) AS n, md5(string_agg((to_jsonb(x) - '{operation_keep,token_path,turns}'::text[])::text, ' ' ORDER BY name)) AS sum FROM $schema.session_namespaces x
	UNION ALL SELECT 2, count(*), md5(string_agg(jsonb_strip_nulls(to_jsonb(x))::text, ' ' ORDER BY namespace, session_id)) FROM $schema.conversation_sessions x
	UNION ALL SELECT 3, count(*), md5(string_agg(concat_ws(',', history_id, seq, created_at, message), ' ' ORDER BY history_id, seq)) FROM $schema.conversation_history x
	UNION ALL SELECT 4, count(*), md5(string_agg(concat_ws(',', history_id, member, role, created_at), ' ' ORDER BY history_id, member)) FROM $schema.session_members x
	UNION ALL SELECT 5, count(*), md5(string_agg(concat_ws(',', namespace, history_id, from_seq, ended_at, entry_id), ' ' ORDER BY entry_id)) FROM $schema.conversation_history_ended x
	UNION ALL SELECT 6, count(*), md5(string_agg(x::text, ' ' ORDER BY event_id)) FROM $schema.session_events x) c
EOS
}

my $schema = '"old one"';
my $old_tables = slurp_file("$top/test/upgrade/tables_bce6701.sql");
$node->append_conf('postgresql.conf', "session_store.purge_interval = 0\n");
$node->reload;
value('CREATE DATABASE old TEMPLATE template0');
value('CREATE ROLE app; CREATE ROLE watcher');
# the operation that a message contained is what session_append() now records under the same id
value(<<"EOS", 'old');
CREATE SCHEMA $schema; CREATE EXTENSION session_store SCHEMA $schema;
SET search_path = $schema;
INSERT INTO session_namespaces (name, key_prefix, ttl, audit, operation_keep) VALUES ('chat', 'c:', '2 days', true, '3 hours');
SELECT session_append('s' || i, '[{"m": 1}, {"m": 2}]', 'first', namespace => 'chat'), session_append('s' || i, '{"m": 3}', namespace => 'chat'), session_append('s' || i, '{"m": 4}', 'second', namespace => 'chat') FROM generate_series(1, 20) i;
SELECT session_append('s1', '{}'), session_save('s1', '{"other": 1}'), session_share('s2', 'bob', 'editor', 'chat'), session_delete('s20', 'chat');
CREATE TABLE keep_namespaces AS TABLE session_namespaces; CREATE TABLE keep_sessions AS TABLE conversation_sessions; CREATE TABLE keep_history AS TABLE conversation_history;
CREATE TABLE keep_members AS TABLE session_members; CREATE TABLE keep_ended AS TABLE conversation_history_ended; CREATE TABLE keep_events AS TABLE session_events; CREATE TABLE keep_operations AS TABLE session_operations;
ALTER EXTENSION session_store DROP VIEW conversation_messages; ALTER EXTENSION session_store DROP VIEW session_stats; DROP VIEW conversation_messages, session_stats;
DO \$\$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{session_namespaces,session_members,conversation_sessions,conversation_history,session_operations,conversation_history_ended,session_events,session_samples,session_orphans,session_cache_claims}'::text[] LOOP
		EXECUTE format('ALTER EXTENSION session_store DROP TABLE %I', name);
		EXECUTE format('DROP TABLE %I', name);
	END LOOP;
END \$\$;
$old_tables
INSERT INTO session_namespaces SELECT name, key_prefix, ttl, sliding, max_lifetime, cache, cache_ttl, hot_uses, hash_keys, max_bytes, max_sessions_per_owner, on_quota, tombstone, allowed_roles, owner_isolation, audit, events_keep, durability, tail_prefix, tail_size, audit_saves FROM keep_namespaces;
INSERT INTO conversation_sessions SELECT created_at, check_at, ttl, namespace, session_id, owner_id, last_seq, message_count, version, updated_at, expires_at, session_data, history_id, dead_until FROM keep_sessions;
INSERT INTO conversation_history (history_id, seq, created_at, message, operation_id, operation_hash, operation_last)
	SELECT h.history_id, seq, created_at, message, operation_id, operation_hash, result FROM keep_history h
	LEFT JOIN keep_operations o ON o.history_id = h.history_id AND seq = CASE operation_id WHEN 'first' THEN 1 ELSE 4 END;
INSERT INTO session_members SELECT history_id, member, role, created_at FROM keep_members;
INSERT INTO conversation_history_ended SELECT namespace, history_id, from_seq, ended_at, entry_id FROM keep_ended;
INSERT INTO session_events SELECT * FROM keep_events;
DROP TABLE keep_namespaces, keep_sessions, keep_history, keep_members, keep_ended, keep_events, keep_operations;
GRANT EXECUTE ON FUNCTION session_append, session_get TO app WITH GRANT OPTION;
GRANT SELECT ON conversation_sessions TO app; GRANT UPDATE (session_data) ON conversation_sessions TO watcher;
GRANT USAGE ON SCHEMA $schema TO PUBLIC;
EOS
my $before = content('old', $schema);
my @carry = ($node->installed_command('psql'), '-X', '-q', '-h', $node->host, '-p', $node->port, '-d', 'old', '-f', "$top/sql/carry_over.sql");

like($node->psql('old', "SELECT $schema.session_get('s1')", stderr => \$err) && $err, qr/session_store is damaged/, 'an earlier state is told as damage');
value("ALTER TABLE $schema.session_members ADD COLUMN note text", 'old');
(undef, $err) = run_command([@carry]);
like($err, qr/column note of table session_members is not one of the extension/, 'a column of the owner is not lost');
value("ALTER TABLE $schema.session_members DROP COLUMN note", 'old');
value("CREATE VIEW public.mine AS SELECT session_id FROM $schema.conversation_sessions", 'old');
(undef, $err) = run_command([@carry]);
like($err, qr/cannot drop extension session_store because other objects depend on it/, '.. nor is an object that depends on the extension');
value('DROP VIEW public.mine', 'old');
is(content('old', $schema), $before, 'after an error all is as it was');
value("CREATE TRIGGER mine BEFORE UPDATE ON $schema.conversation_sessions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", 'old');
# what the owner has changed on the tables and functions
value("SET search_path = $schema;" . <<'EOS', 'old');
CREATE TRIGGER "Off" AFTER INSERT OR DELETE ON session_members FOR EACH STATEMENT EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger();
ALTER TABLE session_members DISABLE TRIGGER "Off", FORCE ROW LEVEL SECURITY, REPLICA IDENTITY FULL, SET (autovacuum_enabled = off, toast.autovacuum_freeze_max_age = 100000000),
	ALTER member SET STORAGE MAIN, ALTER member SET STATISTICS 77, ALTER role SET (n_distinct = 3);
ALTER TABLE conversation_history REPLICA IDENTITY USING INDEX conversation_history_pkey;
ALTER TABLE conversation_sessions SET (autovacuum_vacuum_scale_factor = 0.5);
COMMENT ON COLUMN session_members.role IS 'what''s shared';
REVOKE EXECUTE ON FUNCTION session_may, session_alive FROM PUBLIC;
GRANT EXECUTE ON FUNCTION session_alive TO app;
EOS
my $settings = <<"EOS";
SELECT concat_ws(' ', relname, relforcerowsecurity, relreplident, reloptions, (SELECT reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid)) FROM pg_class c WHERE oid = '$schema.session_members'::regclass
UNION ALL SELECT concat_ws(' ', attname, attstorage, attstattarget, (SELECT string_agg(o, ',') FROM unnest(attoptions) o WHERE o !~ '^pg_'), col_description(attrelid, attnum)) FROM pg_attribute WHERE attrelid = '$schema.session_members'::regclass AND attname IN ('member', 'role')
UNION ALL SELECT concat_ws(' ', indexrelid::regclass) FROM pg_index WHERE indisreplident AND indrelid = '$schema.conversation_history'::regclass
UNION ALL SELECT concat_ws(' ', tgname, tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal AND tgfoid = 'pg_catalog.suppress_redundant_updates_trigger'::regproc
UNION ALL SELECT concat_ws(' ', proname, has_function_privilege('app', oid, 'EXECUTE'), has_function_privilege('watcher', oid, 'EXECUTE')) FROM pg_proc WHERE pronamespace = '$schema'::regnamespace AND proname IN ('session_may', 'session_alive')
ORDER BY 1
EOS
my $was_set = value($settings, 'old');
value(<<"EOS", 'old');
CREATE POLICY limits ON $schema.conversation_sessions AS RESTRICTIVE USING (namespace <> 'secret');
ALTER TABLE $schema.session_events ADD CONSTRAINT "No x" CHECK (event <> 'x');
EOS
$err = run_ok('an earlier state is carried over', @carry);
is(value($settings, 'old'), $was_set, '.. with triggers and settings of the tables, and what was revoked from PUBLIC');
like($was_set, qr/session_may f f/, '(which was all)');
like($err, qr/option autovacuum_vacuum_scale_factor of table conversation_sessions is no longer 0.5/, '.. with a warning of settings that are lost');
unlike($err, qr/index \S+ on table \S+ is dropped/, '.. and of no index');
like($err, qr/policy limits on table conversation_sessions is dropped/, '.. also of policies');
like($err, qr/constraint "No x" on table session_events is dropped/, '.. and of constraints');
unlike($err, qr/(policy|constraint|rule) (?!limits|"No x")\S+ on table \S+ is dropped/, '.. and of no others');
is(content('old', $schema), $before, '.. all rows');
is(value("SELECT count(*) || ' ' || min(namespace) || ' ' || bool_and(keep_until BETWEEN clock_timestamp() + '23 hours' AND clock_timestamp() + '1 day') FROM $schema.session_operations", 'old'), '38 chat true', '.. the operations of living sessions, for a day');
value("SET search_path = $schema; SELECT session_delete('s19', 'chat')", 'old');
is(value("SET search_path = $schema; SELECT session_append('s3', '[{\"m\": 1}, {\"m\": 2}]', 'first', 'chat') || ' ' || session_append('s3', '{\"m\": 4}', 'second', 'chat')", 'old'), '2 4', '.. which are not carried out again');
is(sqlstate($node, "SELECT $schema.session_append('s3', '{\"m\": 5}', 'second', 'chat')", db => 'old'), 'SST11', '.. nor with other messages');
is(value("SELECT string_agg(member || ' ' || accepted, ',') FROM $schema.session_members", 'old'), 'bob true', '.. the members');
is(value("SELECT has_function_privilege('app', p.oid, 'EXECUTE WITH GRANT OPTION') FROM pg_proc p WHERE proname = 'session_append'", 'old'), 't', '.. the privileges on functions');
is(value("SELECT concat(has_table_privilege('app', '$schema.conversation_sessions', 'SELECT'), has_table_privilege('app', '$schema.conversation_sessions', 'UPDATE'), has_column_privilege('watcher', '$schema.conversation_sessions', 'session_data', 'UPDATE'))", 'old'), 'tft', '.. on tables and columns');
value("SET search_path = $schema; SELECT session_hit('c', '1 day', 5), session_compact('s3', 2, '\"1 and 2\"', 'chat')", 'old');
is(value("SET search_path = $schema; SELECT string_agg(DISTINCT turns, ' ') || ' ' || (session_turn_begin('s3', '1 day', holder => 'agent', namespace => 'chat') > 0) FROM session_namespaces", 'old'), 'optional true', '.. without turns, which can begin');
value("UPDATE $schema.session_namespaces SET turns = 'required' WHERE name = 'chat'", 'old');
$before = content('old', $schema);
run_ok('once more', @carry);
is(content('old', $schema), $before, '.. changes nothing');
is(value("SELECT hits FROM $schema.session_counters", 'old'), '5', '.. also what came later');
is(value("SELECT $schema.session_tail('s3', 'chat') -> 0", 'old'), '{"summary": "1 and 2"}', '.. and summaries');
is(value("SELECT t.holder || ' ' || n.turns FROM $schema.session_turn('s3', 'chat') t, $schema.session_namespaces n WHERE n.name = 'chat'", 'old'), 'agent required', '.. and turns');
value("CREATE TABLE $schema.later (n int); ALTER EXTENSION session_store ADD TABLE $schema.later", 'old');
(undef, $err) = run_command([@carry]);
like($err, qr/table later belongs to the extension and would be lost/, 'a table that the script does not know is not lost');
value('DROP DATABASE old (FORCE)');
value('DROP ROLE app; DROP ROLE watcher');

leave_nothing($node);
done_testing();
