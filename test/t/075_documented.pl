# Statements of README.md, docs/reference.md and docs/redis.md that no other test covers: touches
# and transactions, the longest ttl, plain SQL over ended rows, contents of pg_dump, members and
# wording of session_health(), and the functions of the cache without one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $reference = slurp_file("$top/docs/reference.md");
my $node = new_store('documented', conf => "max_prepared_transactions = 2\nmax_worker_processes = 32\n");
my $dumps = PostgreSQL::Test::Utils::tempdir();

sub value
{
	my ($sql, $db) = @_;

	return $node->safe_psql($db // 'postgres', $sql);
}

# ---- session_touch: outside a transaction block it does not write the row, in one it does

my $place = q{SELECT ctid FROM conversation_sessions WHERE session_id = 'touched'};
my $expiry = q{SELECT session_effective_expiry(namespace, session_id, expires_at) FROM conversation_sessions WHERE session_id = 'touched'};

# Runs a statement on the session, late enough for a pending touch: has it restarted the lifetime?
sub restarts
{
	my ($sql) = @_;
	my $before = value($expiry);

	wait_for($node, q{SELECT session_ttl('touched') < '59 minutes 59.7 seconds'}, 'the session gets older', must => 1);
	value($sql);
	return value("SELECT ($expiry) > '$before'");
}

value(q{SELECT session_save('touched', '{}', ttl => '1 hour')});
my $written = value($place);

is(restarts(q{SELECT session_touch('touched')}), 't', 'later calls see the touch');
is(value($place), $written, '.. which has not written the row');
is(restarts(q{EXPLAIN SELECT FROM pg_class WHERE to_jsonb(relname) = session_get('touched')}), 't', 'the planner reads a session to estimate a condition');
is(restarts(q{SELECT session_exists('touched')}), 'f', 'session_exists and session_ttl restart nothing');
is(value($place), $written, '.. and none of this writes the row');
value(q{BEGIN; SELECT session_touch('touched'); COMMIT});
isnt(value($place), $written, 'a touch in a transaction block writes the row');
$written = value($place);
value(q{SELECT session_touch('touched', '1 hour')});
is(value($place), $written, 'a touch with the same ttl does not');
value(q{SELECT session_touch('touched', '2 hours')});
isnt(value($place), $written, '.. one with another ttl does');

# ---- updated_at

sub moves_updated_at
{
	my ($call) = @_;

	return value(<<"EOS");
CREATE TEMP TABLE was AS SELECT updated_at FROM session_fetch('touched');
DO 'BEGIN PERFORM $call; END';
SELECT f.updated_at > was.updated_at FROM session_fetch('touched') f, was;
EOS
}

for my $call (q{session_touch(''touched'', ''3 hours'')}, q{session_get(''touched'')}, q{session_exists(''touched'')})
{
	is(moves_updated_at($call), 'f', "updated_at stays: $call");
}
for my $call (q{session_save(''touched'', ''{}'')}, q{session_append(''touched'', ''{}'')}, q{session_pop(''touched'')},
	q{session_share(''touched'', ''bob'')}, q{session_unshare(''touched'', ''bob'')})
{
	is(moves_updated_at($call), 't', "updated_at moves: $call");
}

# ---- limits and states

is(sqlstate($node, q{INSERT INTO session_namespaces (name, ttl) VALUES ('long', '100 years')}), '23514', 'a ttl has no years');
is(sqlstate($node, q{INSERT INTO session_namespaces (name, ttl) VALUES ('long', '36526 days')}), '23514', '.. and no more than 36525 days');
value(q{INSERT INTO session_namespaces (name, ttl, max_bytes, max_sessions_per_owner) VALUES ('long', '36525 days', 20, 1)});
is(sqlstate($node, q{SELECT session_save('a', '{"a": "more than twenty bytes"}', namespace => 'long')}), '54000', 'max_bytes limits calls');
value(q{INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) SELECT 'long', 's' || i, '{"a": "more than twenty bytes"}', 'ann' FROM generate_series(1, 3) i});
is(value(q{SELECT session_count('ann', namespace => 'long')}), '3', '.. and neither it nor a quota limits plain SQL');
is(value(q{BEGIN; UPDATE session_namespaces SET name = 'longer' WHERE name = 'long'; UPDATE conversation_sessions SET namespace = 'longer' WHERE namespace = 'long'; COMMIT; SELECT session_count('ann', namespace => 'longer')}),
	'3', 'sessions stay in their namespace when it is renamed');
is(value(q{SELECT session_save('counted', '{"l": [1, 2]}'), session_incr('counted', '{l,1}'), session_incr('counted', '{l,-1}')}), '1|3|4', 'elements of arrays have indexes, from the end as well');
is(sqlstate($node, q{SELECT session_incr('counted', '{l,2}')}), '22023', '.. and must exist');
is(value(q{SELECT session_delete('absent'), session_save('absent', '{}')}), 'f|1', 'deleting an absent session leaves no tombstone');
value(q{SELECT session_delete('absent')});
is(sqlstate($node, q{SELECT session_fork('touched', 'absent')}), 'SST10', 'a session cannot be forked to a dead id');
value(q{UPDATE conversation_sessions SET session_data = '{"n": 1}', dead_until = NULL WHERE session_id = 'absent'});
is(value(q{SELECT session_exists('absent')}), 'f', 'a document over an ended row does not begin a session without an expires_at in the future');

set_conf($node, purge_interval => '0');
$node->restart;
value(q{INSERT INTO conversation_sessions (session_id, session_data, expires_at) SELECT 'expired' || i, '{}', clock_timestamp() - interval '1 second' FROM generate_series(1, 10020) i});
is(value('SELECT session_purge()'), '10000', 'session_purge() removes 10,000 rows at most');

# ---- no cache

for my $call ('session_cache_verify()', 'session_cache_flush()', 'session_cache_takeover()')
{
	is(sqlstate($node, "SELECT $call"), '55000', "without a cache: $call");
}
is(value('SELECT session_cache_sync()'), 'f', '.. and session_cache_sync() is false');

# ---- contents of pg_dump

sub dump_of
{
	my ($db, @options) = @_;
	my ($out, $err) = run_command([ $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, @options, $db ]);

	is($err, '', "pg_dump @options");
	return $out;
}

sub restore
{
	my ($db, $dump) = @_;

	my $file = "$dumps/$db.sql";
	my $err = '';

	append_to_file($file, $dump);
	IPC::Run::run([ $node->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', $db, '-f', $file ],
		'>', '/dev/null', '2>', \$err);
	unlink $file;
	return $err;
}

value(qq{CREATE DATABASE $_}) for qw(origin copy copy_with_column moved);
value(<<'EOS', 'origin');
CREATE SCHEMA sessions;
CREATE EXTENSION session_store SCHEMA sessions;
SET search_path = sessions;
CREATE ROLE reader;
GRANT SELECT ON conversation_sessions TO reader;
SELECT session_save('kept', '{"n": 1}');
CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER a_own_trigger BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION public.own();
CREATE INDEX own_index ON conversation_sessions (updated_at);
ALTER TABLE conversation_sessions ADD CONSTRAINT own_check CHECK (version < 1000000);
CREATE POLICY own_policy ON conversation_sessions USING (false);
EOS
my $dump = dump_of('origin');
unlike($dump, qr/own_trigger|own_index|own_check|own_policy/, '.. has none of the objects that were added to a table');
like($dump, qr/^GRANT SELECT ON TABLE sessions\.conversation_sessions TO reader/m, '.. has the grants');
unlike(dump_of('origin', '-n', 'sessions'), qr/CREATE EXTENSION/, '.. has rows alone');
like(dump_of('origin', '-n', 'sessions', '-e', 'session_store'), qr/CREATE EXTENSION.*^COPY sessions\.conversation_sessions/ms, '.. has both');

value(q{ALTER TABLE sessions.conversation_sessions ADD COLUMN extra int DEFAULT 7}, 'origin');
$dump = dump_of('origin');
like(restore('copy', $dump), qr/column "extra" .* does not exist/, 'a column that was added must be there before the restore');
value(q{CREATE SCHEMA sessions; CREATE EXTENSION session_store SCHEMA sessions; ALTER TABLE sessions.conversation_sessions ADD COLUMN extra int}, 'copy_with_column');
is(restore('copy_with_column', $dump =~ s/^CREATE SCHEMA sessions;$//mr), '', '.. as it is here');
is(value(q{SELECT session_data, extra FROM sessions.conversation_sessions}, 'copy_with_column'), '{"n": 1}|7', '.. with its values');

value(q{ALTER TABLE sessions.conversation_sessions DROP COLUMN extra}, 'origin');
value(q{CREATE SCHEMA other; CREATE EXTENSION session_store SCHEMA other}, 'moved');
is(restore('moved', dump_of('origin', '--data-only') =~ s/\bsessions\./other./gr), '', 'rows can be moved to another schema');
is(value(q{SELECT other.session_get('kept')}, 'moved'), '{"n": 1}', '.. by a dump of their data');
is(sqlstate($node, q{ALTER EXTENSION session_store SET SCHEMA public}, db => 'moved'), '0A000', '.. and not by ALTER EXTENSION');

# ---- with a cache: members and values of session_health()

value(qq{DROP DATABASE $_ WITH (FORCE)}) for qw(origin copy copy_with_column moved);
my $redis = new_redis();
set_conf($node, purge_interval => '1s', redis_url => $redis->url);
wait_for_cache($node, $redis);
is(sqlstate($node, "SELECT session_cache_verify($_)"), '22023', "no sample of $_") for 0, 1_000_001;
is(sqlstate($node, q{SELECT session_cache_sync(NULL)}), '22004', 'a timeout is not null');

my ($section) = $reference =~ /^### session_health\(\)(.*?)^### session_metrics/ms;
my @members = split /\n/, value(<<'EOS');
WITH RECURSIVE m (name, value) AS (
	SELECT e.* FROM session_health() h, jsonb_each(h) e
	UNION ALL
	SELECT e.* FROM m, jsonb_each(CASE jsonb_typeof(m.value) WHEN 'object' THEN m.value ELSE '{}' END) e)
SELECT DISTINCT name FROM m ORDER BY name
EOS
cmp_ok(scalar @members, '>', 80, 'members of session_health()');
is(join(' ', grep { $section !~ /\b$_\b/ } @members), '', '.. each is in the reference');

my %words;
for my $file (map { glob "$top/src/$_" } qw(*/pusher.c */pusher_report.c */*/pusher.c */*/pusher_report.c))
{
	my $source = slurp_file($file);

	$words{$_} = 1 for $source =~ /return "([a-z_]+)";/g, $source =~ /report\.state, "([a-z]+)"/g;
}
cmp_ok(scalar keys %words, '>', 15, 'values of states and refusals');
is(join(' ', grep { $section !~ /\b$_\b/ } sort keys %words), '', '.. each is in the reference');

# ---- a policy that ends copies earlier cannot be prepared, another one can

value(q{INSERT INTO session_namespaces (name) VALUES ('prepared')});
is(sqlstate($node, q{BEGIN; UPDATE session_namespaces SET cache_ttl = '1 minute' WHERE name = 'prepared'; PREPARE TRANSACTION 'shorter'}), '0A000', 'a shorter cache_ttl cannot be prepared');
is(sqlstate($node, q{BEGIN; UPDATE session_namespaces SET ttl = '1 minute' WHERE name = 'prepared'; PREPARE TRANSACTION 'ttl'}), '00000', '.. a ttl can');
value(q{ROLLBACK PREPARED 'ttl'});

# ---- the password of a URL is logged

my $from = -s $node->logfile;
set_conf($node, redis_url => 'redis://someone:in-the-log@127.0.0.1:1/0');
soon('a reload writes the password of redis_url to the log', 30, sub { count_log($node, qr/in-the-log/, $from) > 0 });
wait_for($node, q{SELECT session_health() ->> 'warnings' LIKE '%the password for Redis is in session_store.redis_url%'}, '.. and session_health() warns of it');

$redis->stop;
leave_nothing($node);
done_testing();
