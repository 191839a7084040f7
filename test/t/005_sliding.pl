# Sliding expiry: a read keeps a session alive without writing. It becomes a pending touch in
# shared memory, which every later call sees and the keeper writes in batches.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time);

my $node = new_store('sliding', conf => "checkpoint_timeout = 1h\nautovacuum = off\n");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# reading($seconds, $call): SQL that makes a call ten times a second for so many seconds
sub reading
{
	my ($seconds, $call) = @_;

	return "DO \$\$ DECLARE began timestamptz := clock_timestamp(); BEGIN WHILE clock_timestamp() < began + interval '$seconds s' LOOP PERFORM $call; PERFORM pg_sleep(0.1); END LOOP; END \$\$";
}

sql(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, sliding) VALUES ('fixed', 'fixed:', false);
INSERT INTO session_namespaces (name, key_prefix, max_lifetime) VALUES ('capped', 'capped:', '4 seconds');
EOS

# ---- where reads slide

my %read = (
	'get in autocommit' => ['', '', 'session_get(%s)'],
	'get in BEGIN READ ONLY' => ['BEGIN READ ONLY;', 'COMMIT;', 'session_get(%s)'],
	'get in a transaction that is rolled back' => ['BEGIN;', 'ROLLBACK;', 'session_get(%s)'],
	'get in SERIALIZABLE READ ONLY' => ['BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;', 'COMMIT;', 'session_get(%s)'],
	'fetch' => ['', '', 'session_id FROM session_fetch(%s)'],
	# as PostgREST does for a GET: read only, claims, one composed statement
	'get in a GET of PostgREST' => [
		q{BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
		SELECT set_config('search_path', '"public", "public"', true), set_config('role', 'web', true),
			set_config('request.jwt.claims', '{"sub": "u", "role": "web"}', true), set_config('request.method', 'GET', true);},
		'COMMIT;',
		q{coalesce((json_agg(b.s)->0)::text, 'null') FROM (WITH c AS (SELECT session_get(%s) AS s) SELECT * FROM c) b}
	],
);
sql('CREATE ROLE web; GRANT EXECUTE ON FUNCTION session_get(text, text) TO web');

for my $how (sort keys %read)
{
	my ($begin, $end, $call) = @{ $read{$how} };
	my $id = $how =~ tr/a-zA-Z/_/cr;

	$call = sprintf $call, "'$id'";
	sql("SELECT session_save('$id', '{}', ttl => '1 hour')");
	sql("UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = '$id'");
	my $out = sql("$begin SELECT $call; $end SELECT session_ttl('$id') > '59 minutes'");
	like($out, qr/(?:^|\n)t$/, "$how slides");
}

# ---- where reads do not slide

for my $call ('session_exists(%s)', 'session_ttl(%s)', 'session_count()', q{count(*) FROM session_list()}, q{session_data FROM session_list(id_prefix => 'st', with_data => true)}, q{session_id FROM conversation_sessions})
{
	sql("SELECT session_save('still', '{}', ttl => '1 hour')");
	sql("UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 'still'");
	sql('SELECT ' . sprintf($call, q{'still'}));
	is(sql(q{SELECT session_ttl('still') <= '10 minutes'}), 't', sprintf("%s does not slide", $call =~ s/%s/id/r));
}
sql(q{SELECT session_save('still', '{}', ttl => '1 hour', namespace => 'fixed')});
sql(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE namespace = 'fixed'});
is(sql(q{SELECT session_get('still', namespace => 'fixed'); SELECT session_ttl('still', namespace => 'fixed') <= '10 minutes'}),
	"{}\nt", 'a read in a namespace that does not slide leaves the expiry as it is');
is(sql(q{SELECT session_touch('still', namespace => 'fixed') > clock_timestamp() + interval '59 minutes'}), 't',
	'.. where a touch extends it');

# ---- a session lives while it is read, and not longer

sql(q{SELECT session_save('read', '{}', ttl => '2 s'), session_save('fetched', '{}', ttl => '2 s'), session_save('unread', '{}', ttl => '2 s'),
	session_save('peeked', '{}', ttl => '2 s'),
	session_save('capped', '{}', ttl => '2 s', namespace => 'capped'), session_save('fixed', '{}', ttl => '2 s', namespace => 'fixed')});
# (in one connection: on a slow machine making another one takes longer than the lifetime)
is(sql(reading(7, q{session_get('read'), session_fetch('fetched')}) . q{; SELECT session_get('read'), session_get('fetched'), session_get('unread')}), '{}|{}|',
	'7 s of reading keep a session of 2 s alive, and one that was not read is gone');
is(sql(q{SELECT count(*) FROM conversation_sessions WHERE session_id IN ('unread', 'peeked')}), '0', 'and purged');

# (rows that were saved before are gone by now)
is(sql(q{DO $$BEGIN PERFORM session_save('peeked', '{}', ttl => '2 s'), session_save('capped', '{}', ttl => '2 s', namespace => 'capped'), session_save('fixed', '{}', ttl => '2 s', namespace => 'fixed'); END$$; }
			. reading(3, q{session_exists('peeked'), session_ttl('peeked'), session_get('capped', namespace => 'capped'), session_get('fixed', namespace => 'fixed')})
			. q{; SELECT session_get('peeked'), session_get('capped', namespace => 'capped'), session_get('fixed', namespace => 'fixed')}), '|{}|',
	'exists and ttl keep no session alive, nor does a get in a namespace that does not slide');
sql(reading(2, q{session_get('capped', namespace => 'capped')}));
is(sql(q{SELECT session_get('capped', namespace => 'capped')}), '', 'max_lifetime ends a session that is read all the time');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE session_id IN ('read', 'fetched')},
	'.. and is purged when it is not read any more', timeout => 10);

# ---- a read writes nothing

sql(q{SELECT session_save('quiet', '{}', ttl => '1 day')});
is(sql(q{BEGIN; SELECT session_get('quiet'); SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT}), "{}\nt", 'a read takes no transaction id');
my ($before, $after) = split /\n/, sql(<<'EOS');
CHECKPOINT;
SELECT session_get('quiet') \gset
SELECT pg_current_wal_insert_lsn();
DO $$ BEGIN FOR i IN 1 .. 20000 LOOP PERFORM session_get('quiet'); END LOOP; END $$;
SELECT pg_current_wal_insert_lsn();
EOS
my $bytes = sql("SELECT '$after'::pg_lsn - '$before'");
cmp_ok($bytes, '<=', 2000, "20,000 reads and $bytes bytes of WAL");

# touches: next to nothing
($before, $after) = split /\n/, sql(<<'EOS');
SELECT session_touch('quiet') \gset
SELECT pg_current_wal_insert_lsn();
DO $$ BEGIN FOR i IN 1 .. 20000 LOOP PERFORM session_touch('quiet'); COMMIT; END LOOP; END $$;
SELECT pg_current_wal_insert_lsn();
EOS
$bytes = sql("SELECT '$after'::pg_lsn - '$before'");
cmp_ok($bytes, '<=', 200_000, "20,000 touches and $bytes bytes of WAL");

# a touch that must be written does not rewrite the document
sql(q{SELECT session_save('large', jsonb_build_object('a', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 20000) i)), ttl => '1 hour')});
($before, $after) = split /\n/, sql(<<'EOS');
CHECKPOINT;
SELECT session_touch('large', '2 hours') \gset
SELECT pg_current_wal_insert_lsn();
SELECT session_touch('large', '3 hours') \gset
SELECT pg_current_wal_insert_lsn();
EOS
$bytes = sql("SELECT '$after'::pg_lsn - '$before'");
cmp_ok($bytes, '<=', 20_000, "touching 640 KB with another ttl: $bytes bytes of WAL");
is(sql(q{SELECT session_ttl('large') > '179 minutes'}), 't', 'and the new ttl holds');

# ---- pending touches are written to rows

# those that move the expiry by the slack, an eighth of the ttl, or more
my $written = health($node, 'touches,written');
sql(q{SELECT session_save('noted', '{}', ttl => '20 s')});
sql(reading(6, q{session_get('noted')}));
wait_for($node, "SELECT (session_health() #>> '{touches,written}')::int > $written", 'notes get written', timeout => 15);
cmp_ok(health($node, 'touches,noted'), '>', 60, 'and are counted');
is(sql(q{SELECT expires_at - created_at > interval '20 s' FROM conversation_sessions WHERE session_id = 'noted'}), 't', 'as rows');
is(sql(q{SELECT version FROM conversation_sessions WHERE session_id = 'noted'}), '1', '.. which does not change the version');

# a crash ends a session early by at most the slack (5 minutes at a ttl of 1 hour)
sql(<<'EOS');
SELECT session_save('crash' || i, '{}', ttl => '1 hour') FROM generate_series(1, 50) i;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id LIKE 'crash%';
SELECT count(session_get('crash' || i)) FROM generate_series(1, 50) i;
EOS
wait_for($node, q{SELECT min(expires_at) > clock_timestamp() + interval '54 minutes' FROM conversation_sessions WHERE session_id LIKE 'crash%'},
	'expiries that moved by more than the slack are soon in the table', timeout => 20);
# the keeper need not wait for its commits to reach the disk
my $lsn = sql('SELECT pg_current_wal_insert_lsn()');
wait_for($node, "SELECT pg_current_wal_flush_lsn() >= '$lsn'", 'and on disk', timeout => 5);
$node->stop('immediate');
$node->start;
wait_for_keeper($node, 'postgres');
is(sql(q{SELECT count(*) FROM generate_series(1, 50) i WHERE session_ttl('crash' || i) > '54 minutes'}), '50',
	'.. and survive a crash');

# an orderly stop keeps pending touches as well, within the slack
sql(q{SELECT session_save('stopped', '{}', ttl => '80 s')});
sql(reading(2, q{session_get('stopped')}));
my $end = sql(q{SELECT extract(epoch FROM clock_timestamp() + session_ttl('stopped'))});
$node->restart;
is(sql("SELECT extract(epoch FROM clock_timestamp() + session_ttl('stopped')) > $end - 10.5"), 't',
	'a restart costs at most the slack');

# ---- pending touches revive nothing, and extend nothing that was changed since

sql(q{SELECT session_save('gone', '{}', ttl => '1 hour')});
is(sql(q{SELECT session_get('gone'); SELECT session_delete('gone'); SELECT session_get('gone'), session_exists('gone')}), "{}\nt\n|f",
	'a deleted session stays deleted');
sql(q{SELECT session_save('shorter', '{}', ttl => '1 hour')});
sql(q{SELECT session_get('shorter')});
sql(q{SELECT session_save('shorter', '{}', ttl => '1 s')});
is(sql(q{SELECT session_ttl('shorter') <= '1 s'}), 't', 'a shorter ttl holds at once');
sql(q{SELECT session_save('touched', '{}', ttl => '1 hour'); SELECT session_get('touched'); SELECT session_touch('touched', '1 s')});
is(sql(q{SELECT session_ttl('touched') <= '1 s'}), 't', '.. and one from a touch, too');
sql(q{SELECT session_save('direct', '{}', ttl => '1 hour')});
sql(q{SELECT session_get('direct')});
sql(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 s' WHERE session_id = 'direct'});
is(sql(q{SELECT session_ttl('direct') <= '1 s'}), 't', '.. and an expiry set by plain SQL');
sql(q{SELECT session_save('raw', '{}', ttl => '1 hour')});
sql(q{SELECT session_get('raw')});
sql(q{DELETE FROM conversation_sessions WHERE session_id = 'raw'});
is(sql(q{SELECT session_get('raw') IS NULL, session_save('raw', '{}', ttl => '1 s')}), 't|1', 'a row deleted by plain SQL is gone');
sql('SELECT pg_sleep(1.2)');
is(sql(q{SELECT session_get('shorter') IS NULL, session_get('touched') IS NULL, session_get('direct') IS NULL, session_get('raw') IS NULL}), 't|t|t|t',
	'.. and all of them end when they should');

# a read followed by a change that is rolled back
sql(q{SELECT session_save('rolled', '{}', ttl => '1 hour')});
is(sql(q{BEGIN; SELECT session_save('rolled', '{}', ttl => '1 s'); ROLLBACK; SELECT session_ttl('rolled') > '59 minutes'}), "2\nt",
	'a save that is rolled back changes no expiry');

# ---- the purge takes pending touches into account

$node->safe_psql('postgres', "SELECT session_save('held', '{}', ttl => '2 s')");
my $holder = $node->background_psql('postgres');
# the keeper cannot lock the table, so no touch is written meanwhile
$holder->query_safe('BEGIN; LOCK TABLE conversation_sessions IN SHARE MODE');
wait_for($node, "SELECT session_get('held') IS NOT NULL AND expires_at < clock_timestamp() FROM conversation_sessions WHERE session_id = 'held'",
	'a session that was read is alive beyond the expiry in its row', must => 1);
$holder->query_safe('SELECT session_purge()');
$holder->query_safe('COMMIT');
$holder->quit;
is($node->safe_psql('postgres', "SELECT session_exists('held')"), 't', 'and not purged');

leave_nothing($node);

# ---- all touch slots in use

my $small = new_store('small', conf => "session_store.touch_slots = 64\nautovacuum = off\n");
my $sessions = 3000;
my $start = time;

$small->safe_psql('postgres', "SELECT session_save('s' || i, '{}', ttl => '1 hour') FROM generate_series(1, $sessions) i");
is($small->safe_psql('postgres', "SELECT count(session_get('s' || i)) FROM generate_series(1, $sessions) i"), $sessions,
	'every read is answered while all touch slots are in use');
in_time(time - $start, 60, 'in bounded time');

# With every row locked no touch can be written, and the slots stay in use.
my $slots = health($small, 'touches,slots');
my $reads = $slots + 30;
cmp_ok($reads, '<', $sessions, 'more sessions than slots');
$small->safe_psql('postgres', "UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes'");
my $psql = $small->background_psql('postgres');
$psql->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions FOR UPDATE) s');
my ($longest, $all) = one_row($small, <<"EOS");
CREATE TEMP TABLE waits (ms float8, document jsonb);
DO \$\$
DECLARE
	t timestamptz;
	d jsonb;
BEGIN
	FOR i IN 1 .. $reads LOOP
		t := clock_timestamp();
		d := session_get('s' || i);
		INSERT INTO waits VALUES (extract(epoch FROM clock_timestamp() - t) * 1000, d);
	END LOOP;
END \$\$;
SELECT round(max(ms)), count(document) FROM waits;
EOS
is($all, $reads, "$reads reads with $slots slots, all answered");
in_time($longest / 1000, 0.25, 'none waits much longer than 100 ms');
cmp_ok(health($small, 'touches,dropped'), '>', 0, 'session_health() counts the touches that were dropped');
like(health($small, 'warnings'), qr/reads did not slide their session, for want of room.*touch_slots/, 'and names the setting');
$psql->query_safe('COMMIT');
$psql->quit;
wait_for($small, qq{SELECT (session_health() #>> '{touches,used}')::int < $slots / 2}, 'the touches are written once that is possible', timeout => 15);
$small->safe_psql('postgres', "SELECT session_save('after', '{}', ttl => '3 s')");
$small->safe_psql('postgres', reading(5, q{session_get('after')}));
is($small->safe_psql('postgres', q{SELECT session_get('after')}), '{}', '.. and once there are free slots, sessions slide again');
leave_nothing($small);

done_testing();
