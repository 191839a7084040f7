# Direct purge: uses the table access method while the table has its original definition, and SPI
# if triggers or constraints of others must be considered, with the same results. It removes
# nothing that is locked or was changed meanwhile.
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

# The keeper must not purge the dead rows.
my $node = new_store('purge', conf => "session_store.purge_interval = 0\nwal_level = logical\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, key_prefix, sliding, audit) VALUES ('ways', 'off', 'ways:', false, true);
CREATE TABLE seen (what text, id text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	INSERT INTO seen VALUES (TG_NAME, OLD.session_id);
	RETURN OLD;
END $$;
CREATE FUNCTION see_all() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	INSERT INTO seen SELECT TG_NAME, session_id FROM old_rows;
	RETURN NULL;
END $$;
CREATE TABLE refers (namespace text COLLATE "C", session_id text COLLATE "C");
-- A row whose times are minutes from now.
CREATE FUNCTION put(id text, end_in int, dead_in int = NULL, check_in int = NULL, data jsonb = '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, updated_at, expires_at, dead_until, check_at)
	SELECT 'ways', id, 'ada', data, '1 day', now() - interval '2 days', now() - interval '1 day', now() + end_in * interval '1 min', now() + dead_in * interval '1 min',
		now() + coalesce(check_in, end_in) * interval '1 min'$$;
CREATE FUNCTION left_over() RETURNS text LANGUAGE sql AS $$
	SELECT (SELECT coalesce(string_agg(session_id || CASE WHEN check_at = greatest(expires_at, dead_until) THEN '' ELSE ' due' END, ', ' ORDER BY session_id), 'none')
			FROM conversation_sessions) || '; told ' ||
		(SELECT coalesce(string_agg(event || ' ' || session_id || ' of ' || owner_id || ' by ' || actor, ', ' ORDER BY event, session_id), 'of none')
			FROM session_events WHERE event <> 'created') || '; ' ||
		(SELECT count(*) FROM conversation_history) || ' messages, ' || (SELECT count(*) FROM conversation_history_ended) || ' ended; seen ' ||
		(SELECT coalesce(string_agg(what || ' ' || id, ', ' ORDER BY what, id), 'none') FROM seen)$$;
EOS

# The rows that a purge leaves, of one of each kind.
sub scenario
{
	my ($way) = @_;
	my $options = "SET session_store.direct_rows = $way;";

	value('DELETE FROM refers; DELETE FROM conversation_sessions; SELECT session_purge(); DELETE FROM conversation_history; DELETE FROM session_events; DELETE FROM seen');
	value(q{SELECT session_append('talk', '[{"n": 1}, {"n": 2}]', namespace => 'ways')});
	value(q{UPDATE conversation_sessions SET owner_id = 'bob', expires_at = now() - interval '1 hour'});
	value(<<'EOS');
SELECT put('dead', -60), put('dead2', -59), put('big', -58, data => (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 1000) i)),
	put('locked', -57), put('shared', -56), put('tombstone over', -60, -30), put('tombstone', -60, 30, -60),
	put('living', 60, check_in => -60), put('living and locked', 60, check_in => -60), put('young', 60);
UPDATE conversation_sessions SET owner_id = NULL WHERE session_id = 'dead2';
EOS
	value(q{INSERT INTO refers VALUES ('ways', 'dead')});
	my $holder = $node->background_psql('postgres');
	$holder->query_safe(q{BEGIN; SELECT FROM conversation_sessions WHERE session_id IN ('locked', 'living and locked') FOR NO KEY UPDATE; SELECT FROM conversation_sessions WHERE session_id = 'shared' FOR KEY SHARE});
	my ($rc, $out, $err) = $node->psql('postgres', "$options SELECT session_purge()");
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	my $result = $rc == 0 ? "purged $out; " . value('SELECT left_over()') : $err =~ s/\s*CONTEXT.*//sr;

	# a statement that locks rows takes a lock of its own on the table
	value(q{DELETE FROM refers; DELETE FROM conversation_sessions; SELECT put('probe', -1)});
	($rc, $out, $err) = $node->psql('postgres', qq{$options BEGIN; SELECT session_purge() > 0;
		SELECT count(*) FROM pg_locks WHERE relation = 'conversation_sessions'::regclass AND mode = 'RowShareLock' AND pid = pg_backend_pid(); COMMIT});
	return ($result, $out eq "t\n0" ? 'directly' : $out eq "t\n1" ? 'by statement' : "neither: $out");
}

# Both ways give the same result; which one is taken when both are possible?
sub compare
{
	my ($what, $expected, %params) = @_;
	my ($result, $way) = scenario('on');
	my ($plain, $long) = scenario('off');

	is($way, $expected, "$what: $expected");
	is($long, 'by statement', '.. and not when the setting is off');
	is($result, $plain, '.. with the same result');
	like($result, $params{like}, '.. which is right') if $params{like};
	return;
}

my $left = 'living, living and locked due, locked, shared, tombstone, young';
my $told = 'expired big of ada by postgres, expired dead of ada by postgres, expired talk of bob by postgres';
my $all = 7;	# four sessions, a tombstone and two messages

compare('the table as it was created', 'directly', like => qr/^purged $all; $left; told $told; 0 messages, 0 ended; seen none$/);

value('CREATE TRIGGER a_before BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see()');
compare('a trigger before a row', 'by statement', like => qr/seen a_before big, a_before dead, a_before dead2, a_before talk/);
value('ALTER TABLE conversation_sessions DISABLE TRIGGER a_before');
compare('a disabled one', 'directly', like => qr/seen none/);
value('DROP TRIGGER a_before ON conversation_sessions');

value('CREATE TRIGGER an_after AFTER DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see()');
compare('a trigger after a row', 'by statement', like => qr/seen an_after big/);
value('DROP TRIGGER an_after ON conversation_sessions');

value('CREATE TRIGGER of_all AFTER DELETE ON conversation_sessions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION see_all()');
compare('a trigger after a statement', 'by statement', like => qr/seen of_all big/);
value('DROP TRIGGER of_all ON conversation_sessions');

value('CREATE TRIGGER updates AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see()');
compare('a trigger for updates only', 'directly', like => qr/seen updates dead2, updates living, updates talk, updates tombstone/);
value('DROP TRIGGER updates ON conversation_sessions');

value(q{CREATE RULE a_rule AS ON DELETE TO conversation_sessions DO ALSO INSERT INTO seen VALUES ('rule', OLD.session_id)});
compare('a rule', 'by statement', like => qr/seen .*rule dead/);
value('DROP RULE a_rule ON conversation_sessions');

value('ALTER TABLE refers ADD CONSTRAINT fk FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON DELETE CASCADE');
compare('a foreign key that cascades', 'by statement', like => qr/^purged $all;/);
value('ALTER TABLE refers DROP CONSTRAINT fk, ADD CONSTRAINT fk FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions');
compare('one that refuses', 'by statement', like => qr/^purged @{[ $all - 1 ]}; dead, $left; told expired big of ada by postgres, expired talk of bob by postgres;/);
value('ALTER TABLE refers DROP CONSTRAINT fk');

value('ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_change');
compare('without our trigger', 'by statement', like => qr/2 messages/);
value('ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change');

value('CREATE TABLE child () INHERITS (conversation_sessions)');
compare('a table that inherits', 'by statement');
value('DROP TABLE child');
compare('a table that inherited, and was dropped', 'directly');
my $dropper = $node->background_psql('postgres');
$dropper->query_safe(q{CREATE TABLE child () INHERITS (conversation_sessions); SELECT session_save('parent', '{}')});
$dropper->query_safe(q{BEGIN; SAVEPOINT a; DROP TABLE child; SELECT session_save('parent', '{}'); ROLLBACK TO a; COMMIT});
$dropper->query_safe(q{INSERT INTO child SELECT * FROM conversation_sessions WHERE session_id = 'parent'; UPDATE ONLY child SET session_id = 'child'});
is($dropper->query_safe(q{SELECT session_get('child')}), '{}', 'a child whose removal was rolled back is read');
$dropper->query_safe('DROP TABLE child');
$dropper->quit;

value(q{SELECT put('told', -60); CREATE PUBLICATION p FOR TABLE conversation_sessions; ALTER TABLE conversation_sessions REPLICA IDENTITY NOTHING});
for my $way (qw(on off))
{
	my ($rc, $out, $err) = $node->psql('postgres', "SET session_store.direct_rows = $way; SELECT session_purge()");

	is("$rc $out", '0 0', "a publication that cannot tell of deletes: direct_rows $way");
	like($err, qr/WARNING:  1 sessions could not be removed\nDETAIL:  .* does not have a replica identity/, '.. and a warning');
}
value('DROP PUBLICATION p; ALTER TABLE conversation_sessions REPLICA IDENTITY DEFAULT');

value('DROP INDEX conversation_sessions_check_at; CREATE INDEX due_downwards ON conversation_sessions (check_at DESC)');
compare('another index on check_at', 'by statement', like => qr/^purged $all; $left;/);
value(q{DROP INDEX due_downwards; CREATE INDEX due_partly ON conversation_sessions (check_at) WHERE namespace = 'other'});
compare('a partial index', 'by statement', like => qr/^purged $all; $left;/);
# an index that snapshots from before it must not use
value(q{DROP INDEX due_partly; SELECT put('moved', -60)});
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN; CREATE TEMP TABLE holds_an_xid ()');
value(q{UPDATE conversation_sessions SET check_at = check_at - interval '1 s'});
value('CREATE INDEX conversation_sessions_check_at ON conversation_sessions (check_at)');
is(value(q{SELECT indcheckxmin FROM pg_index WHERE indexrelid = 'conversation_sessions_check_at'::regclass}), 't', 'a new index');
compare('.. too new for older snapshots', 'by statement');
$old->query_safe('ROLLBACK');
$old->quit;
compare('as it was', 'directly', like => qr/^purged $all; $left; told $told;/);

# ---- rows that the transaction itself has changed, and an old snapshot

value(q{SELECT put('mine', -60)});
is(value(q{BEGIN; SELECT FROM conversation_sessions WHERE session_id = 'mine' FOR UPDATE; SELECT session_purge(); COMMIT}), '1', 'a row that this transaction has locked');
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	value(q{SELECT put('old', -60)});
	is(value("BEGIN ISOLATION LEVEL $level; SELECT session_purge(); COMMIT"), '1', $level);
}
value(q{SELECT put('back' || i, -60) FROM generate_series(1, 2500) i});
is(value('BEGIN; SELECT session_purge(); ROLLBACK; SELECT session_purge(1100); SELECT session_purge()'), "2500\n1100\n1400", 'rolled back, and in parts');

# ---- locked rows do not delay others, nor forever

value(q{SELECT put('held' || i, 60, check_in => -60) FROM generate_series(1, 1500) i; SELECT put('due' || i, -59) FROM generate_series(1, 1500) i});
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions WHERE session_id LIKE 'held%' FOR UPDATE) held});
within(10, 'living sessions that are locked and due at the same time, more than a batch', sub { value('SELECT session_purge()') });
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_id LIKE 'due%'}), '0', '.. delay no dead one');
$holder->query_safe('ROLLBACK');
value(q{SELECT put('due' || i, -59) FROM generate_series(1, 1500) i});
$holder->query_safe(q{BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions WHERE session_id LIKE 'due%' AND session_id < 'due9' FOR UPDATE) held});
value('SELECT session_purge()');
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_id >= 'due9'}), '1500', 'dead ones that are locked delay none behind them');
$holder->query_safe('ROLLBACK');
$holder->quit;
value('SELECT session_purge()');
is(value(q{SELECT count(*) FROM conversation_sessions WHERE check_at < now()}), '0', 'later nothing is due');
value('DELETE FROM conversation_sessions');

# ---- several purges at once, while sessions are saved again

value(q{SELECT put('many' || i, -60) FROM generate_series(1, 20000) i});
value('CREATE TABLE purges (n bigint)');
pgbench_run($node, "INSERT INTO purges SELECT session_purge(700);\n", '-c', 4, '-j', 2, '-t', 20);
is(value('SELECT sum(n) FROM purges'), '20000', 'four purges at once remove each row once');

value(<<'EOS');
CREATE PROCEDURE revive(id text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM session_save(id, '{"n": 1}', ttl => '2 ms', namespace => 'ways');
	COMMIT;
	PERFORM pg_sleep(random() * 0.004);
	PERFORM session_save(id, '{"n": 2}', ttl => '1 hour', namespace => 'ways');
	COMMIT;
	IF session_get(id, 'ways') IS DISTINCT FROM '{"n": 2}' THEN
		RAISE EXCEPTION 'session % was lost', id;
	END IF;
	COMMIT;
	PERFORM session_touch(id, '1 ms', 'ways');
	COMMIT;
	PERFORM session_purge();
	COMMIT;
END $$;
EOS
my $out = pgbench_run($node, "CALL revive('s' || :client_id);\n", '-c', 8, '-j', 2, '-t', 300, "--random-seed=$seed");
like($out, qr/number of failed transactions: 0/, 'sessions that are saved during the purge are kept');
value('SELECT pg_sleep(0.01), session_purge()');
is(value('SELECT count(*) FROM conversation_sessions'), '0', '.. and dead ones are removed');

leave_nothing($node);
done_testing();
