# Changes without a function call: disabled triggers, rewrites, TRUNCATE, replication, and
# transactions larger than the ledger. Redis follows, or the cache is stopped with a warning.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $redis = new_redis();
my $node = new_cached_store('triggers', $redis, conf => <<'EOC');
session_store.lease = 1s
session_store.ledger_size = 1000
max_wal_size = 4GB
max_worker_processes = 20
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub save
{
	my ($n) = @_;

	value(qq{SELECT session_save('s' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 20) i});
	return;
}

# There is nothing in Redis, and no lease.
sub empty_soon
{
	my ($what) = @_;

	return soon($what, 5, sub { !$redis->keys('whole:*') && !defined $redis->get('session_store:lease') });
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')});
save(1);
compare_all($node, $redis, 'at first', all => 1);

# ---- a disabled trigger

for my $off ('DISABLE TRIGGER zz_session_change', 'DISABLE TRIGGER ALL', 'DISABLE TRIGGER zz_session_truncate', 'ENABLE TRIGGER zz_session_change', 'ENABLE REPLICA TRIGGER zz_session_change')
{
	value("ALTER TABLE conversation_sessions $off");
	empty_soon("$off: nothing is cached any more");
	wait_for($node, q{SELECT session_health() #>> '{cache,trouble}' LIKE '%ALTER TABLE % ENABLE ALWAYS TRIGGER %' AND session_health() ->> 'warnings' LIKE '%ENABLE ALWAYS%'},
		'.. and health gives the ALTER TABLE to run', timeout => 5, show => 1);
	is(cache_health($node, 'running'), 'false', '.. and session_health() says that the cache does not run');
	save(2);
	value(q{SELECT session_delete('s1', namespace => 'whole'); UPDATE conversation_sessions SET session_data = '{"n": 3}' WHERE session_id = 's2'});
	usleep(200_000);
	is(scalar $redis->keys('whole:*'), 0, '.. nor changes that are made meanwhile');
	is(value(q{SELECT session_get('s2', namespace => 'whole')}), '{"n": 3}', '.. and SQL works');
	# the text of the warning, as often as it is there
	for (1 .. 4)
	{
		my ($alter) = cache_health($node, 'trouble') =~ /(ALTER TABLE .*TRIGGER \w+)/;

		last unless defined $alter;
		value("SET search_path = ''; $alter");
		usleep(700_000);
	}
	value('ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER aa_session_row') if value(q{SELECT count(*) FROM pg_trigger WHERE tgname = 'aa_session_row' AND tgenabled = 'D'});
	value(q{DO $$ DECLARE t text; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'conversation_sessions'::regclass AND tgenabled = 'D' LOOP
		EXECUTE 'ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER ' || quote_ident(t); END LOOP; END $$});
	wait_for_cache($node, $redis, what => 'run, it works again');
	save(4);
	compare_all($node, $redis, '.. with no wrong copy', all => 1);
}

# disabled and enabled in one transaction, with changes in between
my $number = 10;
for my $between (q{UPDATE conversation_sessions SET session_data = '{"n": 0}'}, q{DELETE FROM conversation_sessions WHERE session_id <= 's15'}, q{TRUNCATE conversation_sessions})
{
	save($number++);
	sync_cache($node);
	value("BEGIN; ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_change, DISABLE TRIGGER zz_session_truncate; $between; ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change, ENABLE ALWAYS TRIGGER zz_session_truncate; COMMIT");
	# the pusher notices that at its next check
	usleep(1_600_000);
	wait_for_cache($node, $redis, what => "disabled and enabled around $between");
	compare_all($node, $redis, '.. leaves no wrong copy');
}
save($number++);
value(q{BEGIN; ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_change; ROLLBACK});
wait_for_cache($node, $redis, what => 'disabled and rolled back');
save($number++);
compare_all($node, $redis, '.. it works', all => 1);

# ---- triggers of others

value(q{CREATE FUNCTION rename_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.session_id := NEW.session_id || 'x'; RETURN NEW; END $$});
value(q{CREATE TRIGGER zzz_mine BEFORE INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION rename_it()});
wait_for($node, q{SELECT session_health() #>> '{cache,trouble}' LIKE '%zzz_mine%' AND session_health() ->> 'warnings' LIKE '%zzz_mine%'},
	'a trigger that fires after ours is reported', timeout => 5, show => 1);
empty_soon('.. and nothing is cached');
value(q{ALTER TRIGGER zzz_mine ON conversation_sessions RENAME TO mine; ALTER TABLE conversation_sessions DISABLE TRIGGER mine});
wait_for_cache($node, $redis, what => 'one with a name that sorts before ours is allowed');
value(q{DROP TRIGGER mine ON conversation_sessions; CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER mine BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER zzzz_after AFTER INSERT OR UPDATE OR DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION nothing()});
wait_for_cache($node, $redis, what => 'other triggers are allowed');
save($number++);
compare_all($node, $redis, '.. and the copies are right');
value(q{DROP TRIGGER mine ON conversation_sessions; DROP TRIGGER zzzz_after ON conversation_sessions});

# ---- loaded, truncated and rewritten tables

save($number++);
sync_cache($node);
value('TRUNCATE conversation_sessions');
is(scalar $redis->keys('whole:*'), 0, 'TRUNCATE is fenced: there is no copy when it returns');
save($number++);
value('BEGIN; TRUNCATE conversation_sessions; ROLLBACK');
compare_all($node, $redis, 'TRUNCATE that is rolled back');
value(q{BEGIN; TRUNCATE conversation_sessions; SELECT session_save('s1', '{"after": 1}', namespace => 'whole'); COMMIT});
compare_all($node, $redis, 'TRUNCATE and a save in one transaction');
save($number++);
sync_cache($node);

for my $rewrite ('VACUUM FULL conversation_sessions', 'CLUSTER conversation_sessions USING conversation_sessions_pkey',
	q{ALTER TABLE conversation_sessions ADD COLUMN extra timestamptz DEFAULT clock_timestamp()}, 'ALTER TABLE conversation_sessions DROP COLUMN extra',
	q{ALTER TABLE conversation_sessions ALTER COLUMN session_data TYPE jsonb USING session_data || '{"rewritten": true}'},
	'ALTER TABLE conversation_sessions SET UNLOGGED', 'ALTER TABLE conversation_sessions SET LOGGED', 'REINDEX TABLE conversation_sessions', 'ANALYZE conversation_sessions')
{
	my ($rc, $out, $err) = $node->psql('postgres', $rewrite);

	if ($rc)
	{
		note("$rewrite: $err");
		next;
	}
	# the pusher notices that at its next check
	usleep(1_100_000);
	wait_for_cache($node, $redis, what => $rewrite);
	compare_all($node, $redis, '.. leaves no wrong copy');
	save($number++);
	compare_all($node, $redis, '.. and the cache continues');
}
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_data ? 'rewritten'}), '0', '(all sessions were saved again)');

value(q{SET session_replication_role = replica; UPDATE conversation_sessions SET session_data = '{"replica": 1}'; INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at) VALUES ('whole', 'replica', '{}', '1 hour', clock_timestamp() + interval '1 hour')});
compare_all($node, $redis, 'session_replication_role = replica', all => 1);
is($redis->get('whole:s1'), '{"replica": 1}', '.. reaches Redis');
value(q{SET session_replication_role = replica; DELETE FROM conversation_sessions WHERE session_id = 's1'});
is($redis->get('whole:s1'), undef, '.. and a DELETE is fenced');
# a transaction may fill a quarter of the ledger
for my $rows (200, 500)
{
	my $lines = join '', map { "whole\tcopied$rows-$_\t{\"n\": $_}\n" } 1 .. $rows;

	value("COPY conversation_sessions (namespace, session_id, session_data) FROM STDIN;\n$lines\\.\n");
	compare_all($node, $redis, "COPY of $rows", all => $rows == 200);
}

# ---- more than the ledger holds

my $psql = $node->background_psql('postgres');
sub many
{
	my ($sql, $what, %params) = @_;
	my $start = time;
	my ($checks, %wrong) = (0);

	# a strong reader at the same time: it sees the value before or after, or nothing
	$psql->query_until(qr/began/, "\\echo began\n$sql;\n\\echo ended\n");
	while (value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()}) > 0 && time - $start < 120)
	{
		my ($lease, @values) = $redis->mget('session_store:lease', map { "whole:m$_" } 1 .. 100);
		next unless defined $lease;
		$checks++;
		$wrong{$_} = 1 for grep { defined $_ && !/$params{may}/ } @values;
	}
	$psql->query_safe('SELECT 1');
	is(join(' ', sort keys %wrong), '', sprintf('%s (%.1f s): strong readers see nothing else', $what, time - $start));
	my $ended = time;
	wait_for_cache($node, $redis, timeout => 60);
	compare_all($node, $redis, sprintf('.. and afterwards no copy is wrong (after %.1f s)', time - $ended), timeout => 60);
	return;
}

value(q{DELETE FROM conversation_sessions});
many(q{INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl) SELECT 'whole', 'm' || i, '{"m": 1}', '1 hour' FROM generate_series(1, 100000) i},
	'100,000 sessions in one transaction', may => qr/"m": 1\}/);
is(value('SELECT count(*) FROM conversation_sessions'), '100000', 'all of them are there');
value(q{SELECT count(session_get('m' || i, namespace => 'whole')) FROM generate_series(1, 100) i});
soon('.. those that are read have copies', 5, sub { (grep { defined } $redis->mget(map { "whole:m$_" } 1 .. 100)) >= 90 });
many(q{UPDATE conversation_sessions SET session_data = '{"m": 2}'}, '100,000 updates', may => qr/"m": [12]\}/);
value(q{SELECT count(session_get('m' || i, namespace => 'whole')) FROM generate_series(1, 100) i});
many(q{BEGIN; UPDATE conversation_sessions SET session_data = '{"m": 666}'; ROLLBACK}, '100,000 that are rolled back', may => qr/"m": 2\}/);
value(q{SELECT count(session_get('m' || i, namespace => 'whole')) FROM generate_series(1, 100) i});
soon('.. those that are read have copies', 5, sub { (grep { defined } $redis->mget(map { "whole:m$_" } 1 .. 100)) >= 90 });
my $began = time;
value(q{DELETE FROM conversation_sessions WHERE session_id LIKE 'm%'});
# more than fit into the ledger: the lease ends first, the copies are deleted later
my ($lease, @seen) = $redis->mget('session_store:lease', map { "whole:m$_" } 1 .. 100);
@seen = grep { defined && defined $lease } @seen;
is("@seen", '', sprintf('100,000 deletes are fenced (%.1f s)', time - $began));
wait_for_cache($node, $redis, timeout => 60);
compare_all($node, $redis, '.. and right');
$psql->quit;

# many small transactions while Redis is away fill the ledger
save($number++);
sync_cache($node);
$redis->pause;
value(qq{DO \$\$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM session_save('small' || i, '{}', namespace => 'whole'); COMMIT; END LOOP; END \$\$});
save($number++);
is(value(q{SELECT count(*) FROM conversation_sessions WHERE session_id LIKE 'small%'}), '3000', 'a full ledger refuses no save');
$redis->resume;
wait_for_cache($node, $redis, what => '.. and afterwards the cache is back', timeout => 30);
compare_all($node, $redis, '.. with no wrong copy');
save($number++);
compare_all($node, $redis, '.. and it continues');

# ---- logical replication

my $publisher = new_store('publisher', init => { allows_streaming => 'logical' });
my $tables = 'conversation_sessions, session_namespaces';
value('TRUNCATE conversation_sessions; DELETE FROM session_namespaces');
$publisher->safe_psql('postgres', <<"EOS");
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0');
SELECT session_save('l' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 50) i;
CREATE PUBLICATION pub FOR TABLE $tables;
EOS
my $connection = $publisher->connstr . ' dbname=postgres';
value("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub");
$node->wait_for_subscription_sync($publisher, 'sub');

sub same
{
	my ($what, %params) = @_;

	wait_for_replay($publisher, 'sub');
	compare_all($node, $redis, $what, %params);
	return;
}

same('logical replication: the initial copy');
$publisher->safe_psql('postgres', q{SELECT session_save('l' || i, '{"n": 2}', namespace => 'whole') FROM generate_series(1, 60) i});
same('.. saves', all => 1);
is($redis->get('whole:l60'), '{"n": 2}', '.. reach Redis');
$publisher->safe_psql('postgres', q{SELECT session_delete('l' || i, namespace => 'whole') FROM generate_series(1, 10) i; DELETE FROM conversation_sessions WHERE session_id IN ('l11', 'l12'); SELECT session_regenerate('l13', namespace => 'whole')});
same('.. deletes and new ids', all => 1);
is(scalar $redis->keys('whole:*'), 48, '.. and no others');
$publisher->safe_psql('postgres', q{UPDATE conversation_sessions SET session_data = '{"n": 3}', session_id = 'moved ' || session_id WHERE session_id > 'l5'});
same('.. plain updates', all => 1);
$publisher->safe_psql('postgres', 'TRUNCATE conversation_sessions');
same('.. TRUNCATE');
is(scalar $redis->keys('whole:*'), 0, '.. leaves no copy');
$publisher->safe_psql('postgres', q{SELECT session_save('p', '{"n": 4}', namespace => 'whole'); UPDATE session_namespaces SET key_prefix = 'moved:'});
wait_for_replay($publisher, 'sub');
usleep(1_100_000);
value(q{SELECT session_get('p', namespace => 'whole')});
soon('.. and a policy that is changed on the publisher', 5, sub { ($redis->get('moved:p') // '') eq '{"n": 4}' });
same('.. with no wrong copy');
value('DROP SUBSCRIPTION sub');

leave_nothing($publisher);
leave_no_redis($node, $redis);
done_testing();
