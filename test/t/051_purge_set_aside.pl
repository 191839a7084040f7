# Rows that cannot be purged, because of a foreign key, trigger or rule of others, are set aside,
# and all other expired sessions are removed on time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('aside', conf => "session_store.purge_interval = '100ms'\nmax_prepared_transactions = 2\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub aside
{
	my ($work, $key) = @_;

	return health($node, "set_aside,$work,$key");
}

sub warning
{
	return value(q{SELECT string_agg(w, '; ') FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w LIKE '%set aside%'});
}

sub left
{
	my ($ns) = @_;

	return value("SELECT count(*) FROM conversation_sessions WHERE namespace = '$ns'");
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, key_prefix, sliding, audit) VALUES ('tenant', 'off', 'tenant:', false, true), ('other', 'off', 'other:', false, true);
CREATE TABLE orders (ns text COLLATE "C", id text COLLATE "C", FOREIGN KEY (ns, id) REFERENCES conversation_sessions);
-- Sessions that expired before now.
CREATE FUNCTION expired(ns text, stem text, n int, at timestamptz = now() - interval '1 min') RETURNS void LANGUAGE sql AS $$
	INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, created_at, updated_at, expires_at, check_at)
	SELECT ns, stem || i, '{}', '1 day', at - interval '1 day', at, at, at FROM generate_series(1, n) i$$;
EOS

# ---- one row

value(q{BEGIN; SELECT expired('tenant', 'ordered', 1), expired('tenant', 'free', 500), expired('other', 'free', 500); INSERT INTO orders VALUES ('tenant', 'ordered1'); COMMIT});
wait_for($node, 'SELECT count(*) = 1 FROM conversation_sessions', 'one row that a foreign key keeps: 1,000 others are removed');
wait_for($node, q{SELECT count(*) = 1000 FROM session_events WHERE event = 'expired'}, '.. each with its event');
is(aside('purge', 'rows'), '1', 'it is set aside');
is(aside('purge', 'last_namespace'), 'tenant', '.. its namespace is named');
is(aside('purge', 'last_sqlstate'), '23503', '.. and the error');
like(warning(), qr/^expired sessions cannot be removed: 1 rows and 0 namespaces .*namespace tenant is update or delete on table "conversation_sessions" violates foreign key constraint "orders_ns_id_fkey" on table "orders" \(SQLSTATE 23503\)/, '.. in a warning');
is(health($node, 'keeper,tasks,purge,failures'), '0', '.. and no task failed');
like(value('SELECT session_metrics()'), qr/^session_store_rows_set_aside\{work="purge"\} 1$/m, '.. in a metric');
like(value('SELECT session_metrics()'), qr/^session_store_row_failures_total\{work="purge"\} [1-9]/m, '.. its attempts as well');
is(value(q{SELECT count(*) FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w LIKE '%behind%'}), '0', '.. and the purge is not reported as being behind');
is(count_log($node, qr/session_store set a row aside: update or delete/), 1, '.. it is logged');

# ---- session_purge()

$node->append_conf('postgresql.conf', "session_store.purge_interval = 0\n");
$node->reload;
wait_for($node, q{SELECT NOT (session_health() #>> '{purge,automatic}')::boolean}, 'no keeper purges', quiet => 1);
value(q{SELECT expired('tenant', 'free', 1500), expired('other', 'free', 1500)});
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT session_purge()');
is("$rc $out", '0 3000', 'session_purge(): all others are removed');
like($err, qr/WARNING:  1 sessions could not be removed\nDETAIL:  The last of namespace "tenant": update or delete.*\nHINT:/s, '.. with a warning');
unlike($err, qr/ordered1/, '.. which does not name the session');
value(q{SELECT expired('tenant', 'free', 20)});
($rc, $out, $err) = $node->psql('postgres', q{BEGIN; SELECT session_purge(5); SELECT session_purge(namespace => 'tenant'); COMMIT});
is("$rc $out", "0 5\n15", '.. in several calls and for one namespace');
($rc, $out, $err) = $node->psql('postgres', q{SELECT session_purge(namespace => 'other')});
is("$rc $out$err", '0 0', '.. of a namespace without such a row: no warning');
value(q{SELECT expired('tenant', 'free', 1)});
is(sqlstate($node, q{SET lock_timeout = '10ms'; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN PERFORM pg_sleep(100); RETURN OLD; END $$;
	CREATE TRIGGER slow BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION slow(); SET statement_timeout = '100ms'; SELECT session_purge()}), '57014', 'a canceled call ends with the cancellation');
value('DROP TRIGGER slow ON conversation_sessions');
# more of them than a call remembers one by one, in two namespaces, all due at the same time
value(q{BEGIN; SELECT expired('tenant', 'many', 700), expired('other', 'many', 700), expired('default', 'free', 100);
	INSERT INTO orders SELECT namespace, session_id FROM conversation_sessions WHERE session_id LIKE 'many%'; COMMIT});
($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '60s'; SELECT session_purge()});
is("$rc $out", '0 101', '.. with many in two namespaces: the call ends, and all others are removed');
value(q{DELETE FROM orders WHERE id LIKE 'many%'; SELECT session_purge()});
$node->append_conf('postgresql.conf', "session_store.purge_interval = '100ms'\n");
$node->reload;
wait_for($node, 'SELECT count(*) = 1 FROM conversation_sessions', 'the keeper again');

# ---- after a repair

value('DELETE FROM orders');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', 'once the foreign key does not refer to it, it is removed');
wait_for($node, q{SELECT session_health() #> '{set_aside,purge,rows}' = '0'}, '.. and is not set aside any more');
is(warning(), '', '.. without a warning');

# ---- a namespace full of such rows, due at the same time, and neighbors due after them

value(q{BEGIN; SELECT expired('tenant', 'ordered', 5000), expired('tenant', 'free', 100), expired('other', 'free', 100, now() - interval '1 s');
	INSERT INTO orders SELECT 'tenant', 'ordered' || i FROM generate_series(1, 5000) i; COMMIT});
my $attempts = aside('purge', 'failures');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE namespace = 'other'}, '5,000 rows that cannot be removed: the neighbors after them are');
wait_for($node, q{SELECT session_health() #> '{set_aside,purge,namespaces}' = '1'}, '.. because their namespace is set aside');
cmp_ok(aside('purge', 'failures') - $attempts, '<', 500, '.. after a few attempts');
like(warning(), qr/and 1 namespaces as a whole .*namespace tenant/, '.. and named');
value(q{SELECT expired('other', 'later', 100)});
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE namespace = 'other'}, '.. neighbors that expire later are removed as well');
value(q{DELETE FROM orders WHERE id > 'ordered5'});
value('DELETE FROM orders');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', '.. and once nothing refers to them, all are removed', timeout => 400);
wait_for($node, q{SELECT session_health() #> '{set_aside,purge,namespaces}' = '0'}, '.. the namespace is not set aside any more');

# ---- other refusals: a trigger, a rule; a living row whose check_at cannot be raised

value(<<'EOS');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	IF OLD.session_id = 'kept' THEN
		RAISE EXCEPTION 'not %', OLD.session_id;
	END IF;
	RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, updated_at, expires_at, check_at) VALUES ('tenant', 'kept', '{}', '1 day', now(), now() + interval '1 day', now() - interval '1 min');
SELECT expired('other', 'free', 100);
EOS
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE namespace = 'other'}, 'a trigger that refuses to have a living row raised: others are removed');
like(warning(), qr/namespace tenant is see the server log \(SQLSTATE P0001\)/, '.. the message of the trigger is in the server log only');
value('DROP TRIGGER refuse ON conversation_sessions');
wait_for($node, q{SELECT check_at > now() FROM conversation_sessions WHERE session_id = 'kept'}, '.. without the trigger, it is raised');
value('DELETE FROM conversation_sessions');
value(q{CREATE RULE keep AS ON DELETE TO conversation_sessions WHERE OLD.session_id = 'ruled1' DO INSTEAD NOTHING; SELECT expired('tenant', 'ruled', 1), expired('tenant', 'free', 50), expired('other', 'free', 50)});
wait_for($node, q{SELECT count(*) = 1 FROM conversation_sessions}, 'a rule that skips one: others are removed');
value('DROP RULE keep ON conversation_sessions');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions}, '.. without the rule, it is removed');

# ---- a row whose event cannot be written

value(q{ALTER TABLE session_events ADD CONSTRAINT wanted CHECK (session_id <> 'silent1') NOT VALID; SELECT expired('tenant', 'silent', 1), expired('tenant', 'free', 50)});
wait_for($node, q{SELECT count(*) = 1 FROM conversation_sessions}, 'a session whose event is refused: others are removed');
is(left('tenant'), '1', '.. and it stays, because its end would not be recorded');
value('ALTER TABLE session_events DROP CONSTRAINT wanted');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions}, '.. until the event can be written');

# ---- locked rows are no fault

value(q{ALTER TABLE orders DROP CONSTRAINT orders_ns_id_fkey, ADD FOREIGN KEY (ns, id) REFERENCES conversation_sessions ON DELETE CASCADE});
value(q{BEGIN; SELECT expired('tenant', 'busy', 1, now() + interval '1 s'); INSERT INTO orders VALUES ('tenant', 'busy1'); COMMIT});
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM orders FOR UPDATE');
value(q{SELECT expired('other', 'free', 100)});
wait_for($node, q{SELECT count(*) = 1 FROM conversation_sessions WHERE expires_at < now() - interval '2 s'}, 'a row that waits for a lock of another session', quiet => 1);
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE namespace = 'other'}, 'a row whose removal waits for a lock: others are removed');
is(warning(), '', '.. and there is no warning');
$holder->query_safe('ROLLBACK');
$holder->quit;
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions}, '.. and it is removed when the lock is released');

# ---- messages of ended sessions

value(<<'EOS');
CREATE FUNCTION refuse_message() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	IF OLD.message ? 'kept' THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER refuse BEFORE DELETE ON conversation_history FOR EACH ROW EXECUTE FUNCTION refuse_message();
SELECT count(session_append('talk' || i, '[{"n": 1}, {"n": 2}]', namespace => 'other')) FROM generate_series(1, 300) i;
SELECT session_append('kept', '[{"n": 1}, {"kept": 2}]', namespace => 'tenant');
SELECT session_share('kept', 'ada', namespace => 'tenant');
SELECT session_clear('tenant'), session_clear('other');
EOS
wait_for($node, 'SELECT count(*) = 2 FROM conversation_history', 'a message that cannot be removed: those of 300 other sessions are');
wait_for($node, q{SELECT session_health() #>> '{set_aside,history,last_namespace}' = 'tenant'}, '.. its namespace is named');
like(warning(), qr/messages of ended sessions cannot be removed: 1 rows .*P0001/, '.. in a warning');
is(health($node, 'keeper,tasks,history,failures'), '0', '.. and no task failed');
# the keeper may be trying that one again at this moment, and then it is locked
soon('.. session_purge() says so', 15, sub {
	($rc, $out, $err) = $node->psql('postgres', q{SELECT session_append('talk', '[{"n": 1}]', namespace => 'other'); SELECT session_clear('other'); SELECT session_purge()});
	return "$rc $err" =~ /^0 .*WARNING:  1 conversations could not be removed/s;
});
value('DROP TRIGGER refuse ON conversation_history');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_history', '.. and when it can be removed, it is');
is(value('SELECT count(*) FROM session_members'), '0', '.. with the members');

# ---- touches

value(<<'EOS');
UPDATE session_namespaces SET sliding = true, ttl = '8 s';
CREATE FUNCTION refuse_touch() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	IF NEW.session_id = 'kept' AND NEW.expires_at > OLD.expires_at THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION refuse_touch();
DELETE FROM conversation_sessions;
SELECT session_save('kept', '{}', namespace => 'tenant'), count(session_save('read' || i, '{}', namespace => 'other')) FROM generate_series(1, 300) i;
EOS
my $written = health($node, 'touches,written');
value(q{SELECT pg_sleep(1.5)});
value(q{SELECT session_get('kept', 'tenant'), count(session_get('read' || i, 'other')) FROM generate_series(1, 300) i});
wait_for($node, qq{SELECT (session_health() #>> '{touches,written}')::int >= $written + 300}, 'a touch that cannot be written: 300 others are');
wait_for($node, q{SELECT session_health() #>> '{set_aside,touch,last_namespace}' = 'tenant'}, '.. its namespace is named');
like(warning(), qr/reads and touches of sessions cannot be written: 1 rows .*P0001/, '.. in a warning');
is(health($node, 'keeper,tasks,touch,failures'), '0', '.. and no task failed');
ok(value(q{SELECT session_ttl('kept', 'tenant') > expires_at - clock_timestamp() + interval '1 s' FROM conversation_sessions WHERE session_id = 'kept'}) eq 't', '.. it counts all the same');
wait_for($node, q{SELECT NOT session_exists('kept', 'tenant')}, 'it ends', quiet => 1);
wait_for($node, q{SELECT session_health() #> '{touches,used}' = '0'}, '.. and is not kept once the session has ended');
value('DROP TRIGGER refuse ON conversation_sessions');

# ---- a read of a session while an earlier touch of it cannot be written

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, key_prefix, ttl) VALUES ('short', 'off', 'short:', '3 s');
CREATE FUNCTION refuse_slowly() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	PERFORM pg_sleep(2);
	RAISE EXCEPTION 'not this one';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON conversation_sessions FOR EACH ROW WHEN (OLD.namespace = 'short') EXECUTE FUNCTION refuse_slowly();
SELECT session_save('read', '{}', namespace => 'short');
EOS
($rc, $out, $err) = $node->psql('postgres', <<'EOS');
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		ASSERT session_get('read', 'short') IS NOT NULL, 'it is gone';
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$
EOS
is("$rc $err", '0 ', 'a session that is read stays alive, although its touches cannot be written');
value(q{DROP TRIGGER refuse ON conversation_sessions; DELETE FROM conversation_sessions WHERE namespace = 'short'});

# ---- more rows with one key than were asked for, in a table that inherits from ours

$node->append_conf('postgresql.conf', "session_store.purge_rate = 100\n");
$node->restart;	# the trigger above has made a sweep long, and so delays the next one
wait_for_keeper($node, 'postgres');
value(q{CREATE TABLE heir () INHERITS (conversation_sessions); DELETE FROM session_events;
	CREATE FUNCTION inherited(at timestamptz = now() - interval '1 min') RETURNS void LANGUAGE sql AS $$
	INSERT INTO heir (namespace, session_id, session_data, ttl, created_at, updated_at, expires_at, check_at)
	SELECT 'other', 'twin1', '{}', '1 day', at - interval '1 day', at, at, at FROM generate_series(1, 5)$$});
value(q{SELECT expired('other', 'twin', 1), inherited()});
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE namespace = 'other'}, 'rows with one key in a table that inherits: all are removed');
is(value(q{SELECT count(*) FROM session_events WHERE namespace = 'other' AND event = 'expired'}), '6', '.. each with its event');
is(count_log($node, qr/problem in alloc set/), 0, '.. and no memory is overwritten');
value('DROP TABLE heir');
$node->append_conf('postgresql.conf', "session_store.purge_rate = 0\n");
$node->reload;

# ---- events and samples

value(<<'EOS');
CREATE FUNCTION refuse_event() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	IF OLD.session_id = 'kept' THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER refuse BEFORE DELETE ON session_events FOR EACH ROW EXECUTE FUNCTION refuse_event();
DELETE FROM session_events WHERE session_id <> 'kept';
TRUNCATE session_events;
INSERT INTO session_events (created_at, namespace, session_id, event, actor) SELECT now() - interval '60 days', 'other', 'old' || i, 'created', 'me' FROM generate_series(1, 30) i;
INSERT INTO session_events (created_at, namespace, session_id, event, actor) VALUES (now() - interval '60 days', 'tenant', 'kept', 'created', 'me');
INSERT INTO session_events (created_at, namespace, session_id, event, actor) SELECT now() - interval '90 days', 'other', 'locked', 'created', 'me' FROM generate_series(1, 8);
INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
VALUES ('default', now(), false, 0, 0, 0, 0, 0, 0, 0, 0), ('gone', now(), false, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
ALTER TABLE session_samples ADD CONSTRAINT wanted CHECK (namespace <> 'tenant') NOT VALID;
-- another transaction has locked some rows
BEGIN;
SELECT FROM session_events WHERE session_id = 'locked' FOR UPDATE;
SELECT FROM session_samples WHERE namespace IN ('default', 'gone') FOR UPDATE;
PREPARE TRANSACTION 'locks';
EOS
my $sampled = q{SELECT string_agg(sampled_at::text, ' ' ORDER BY namespace COLLATE "C") FROM session_samples WHERE namespace IN ('default', 'gone')};
my $before = value($sampled);
$node->restart;	# the keeper begins with both
wait_for_keeper($node, 'postgres');
wait_for($node, q{SELECT string_agg(DISTINCT session_id, ' ') = 'kept locked' FROM session_events}, 'an event that cannot be removed, and some that are locked: others are removed');
wait_for($node, q{SELECT session_health() #>> '{set_aside,events,last_namespace}' = 'tenant'}, '.. its namespace is named');
like(warning(), qr/old events cannot be removed: 1 rows .*P0001/, '.. in a warning');
wait_for($node, q{SELECT session_health() #>> '{set_aside,sample,last_namespace}' = 'tenant'}, 'a sample that cannot be written: its namespace is named');
like(warning(), qr/session_samples cannot be written: 1 rows .*23514/, '.. in a warning');
is(value(q{SELECT count(*) FROM session_stats WHERE namespace = 'other' AND age < interval '1 min'}), '1', '.. others are');
is(value($sampled), $before, '.. but for those that are locked, which are skipped');
value(q{ROLLBACK PREPARED 'locks'});
$node->restart;
wait_for($node, q{SELECT string_agg(session_id, ' ') = 'kept' FROM session_events}, 'a locked event goes when it is free');
wait_for($node, "SELECT ($sampled) <> '$before' AND NOT EXISTS (SELECT FROM session_samples WHERE namespace = 'gone')", '.. and samples are written and removed');

leave_nothing($node);
done_testing();
