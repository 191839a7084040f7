# Relaxed durability: which transactions do not wait for the disk and, above all, which do; and a
# crash loses whole transactions and leaves no inconsistency, in the table or in Redis.
#
# A commit that waited has its record on the disk when it returns.  One that did not has not, for
# here the background flushes next to never.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $redis = new_redis();
my $node = new_store('relaxed', conf => redis_conf($redis) . <<'EOS');
fsync = on
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
autovacuum = off
checkpoint_timeout = 1h
max_prepared_transactions = 5
session_store.purge_interval = 0
EOS

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sql(<<'EOS');
CREATE TABLE other (n int);
CREATE SEQUENCE numbers;
INSERT INTO session_namespaces (name, durability, cache, audit) VALUES
	('fast', 'relaxed', 'all', false), ('told', 'relaxed', 'off', true), ('safe', 'strict', 'all', false);
EOS
wait_for_cache($node, $redis);

sub check
{
	return durability_is($node, @_);
}

my $save = q{SELECT session_save('s', '{"n": 1}', namespace => 'fast')};

check('strict', 'a save elsewhere', q{SELECT session_save('s', '{}', namespace => 'safe')});
check('relaxed', 'a save that begins a session', $save);
check('relaxed', 'a save over one', $save);
check('relaxed', 'create', q{SELECT session_create(namespace => 'fast')});
check('relaxed', 'merge', q{SELECT session_merge('s', '{"m": 1}', namespace => 'fast')});
check('relaxed', 'incr', q{SELECT session_incr('s', '{n}', namespace => 'fast')});
check('relaxed', 'append', q{SELECT session_append('s', '{"m": 1}', namespace => 'fast')});
check('relaxed', 'append an array', q{SELECT session_append('s', '[{"m": 2}, {"m": 3}]', namespace => 'fast')});
check('relaxed', 'with an event', q{SELECT session_save('s', '{}', namespace => 'told')});
check('relaxed', 'several in a transaction', "BEGIN; $save; SELECT session_append('t', '{}', namespace => 'fast'); $save; COMMIT");
check('relaxed', 'within a savepoint', "BEGIN; SAVEPOINT a; $save; RELEASE a; COMMIT");
check('relaxed', 'one after a read', "BEGIN; SELECT session_get('s', 'fast'), count(*) FROM other; $save; COMMIT");

# ---- commits that wait

my $there = q{INSERT INTO other VALUES (1)};
check('strict', 'delete', q{SELECT session_delete('t', 'fast')});
check('strict', 'a save and a delete', "BEGIN; $save; SELECT session_save('t', '{}', if_version => 0, namespace => 'fast'); SELECT session_delete('t', 'fast'); COMMIT");
sql(q{SELECT session_save('u', '{}', namespace => 'fast')});
check('strict', 'regenerate', q{SELECT session_regenerate('u', 'fast')});
check('strict', 'something else before', "BEGIN; $there; $save; COMMIT");
check('strict', 'something else after', "BEGIN; $save; $there; COMMIT");
check('strict', 'another change in between', "BEGIN; $save; $there; $save; COMMIT");
check('strict', 'another change in the same statement', "WITH o AS (INSERT INTO other VALUES (1) RETURNING 1) SELECT session_save('s', '{}', namespace => 'fast') FROM o");
check('strict', 'another change that was rolled back', "BEGIN; $save; SAVEPOINT a; $there; ROLLBACK TO a; COMMIT");
check('strict', 'a sequence', "BEGIN; $save; SELECT nextval('numbers'); COMMIT");
check('strict', 'a strict namespace as well', "BEGIN; $save; SELECT session_save('s', '{}', namespace => 'safe'); COMMIT");
check('strict', 'a strict namespace before', "BEGIN; SELECT session_save('s', '{}', namespace => 'safe'); $save; COMMIT");
check('strict', 'a row lock before', "BEGIN; SELECT * FROM conversation_sessions LIMIT 1 FOR UPDATE; $save; COMMIT");
check('strict', 'plain SQL', q{UPDATE conversation_sessions SET session_data = '{}' WHERE namespace = 'fast'});
check('strict', 'DDL', "BEGIN; $save; CREATE TABLE more (n int); COMMIT");
check('strict', 'a deferred trigger of a user', <<"EOS");
CREATE FUNCTION too() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS 'BEGIN INSERT INTO more VALUES (1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER too AFTER INSERT ON other DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION too();
BEGIN; $save; $there; COMMIT
EOS
check('strict', 'while the table has a trigger of the owner', <<"EOS");
CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS 'BEGIN INSERT INTO more VALUES (1); RETURN NULL; END';
CREATE TRIGGER mine AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION mine();
$save
EOS
sql('DROP TRIGGER mine ON conversation_sessions');
# .. nor does it matter that it has the name of one of our triggers
sql("CREATE TRIGGER zz_history_truncate AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION mine(); $save");
check('strict', 'while the owner has a trigger with the name of one of another table of ours', $save);
sql('DROP TRIGGER zz_history_truncate ON conversation_sessions; DROP TRIGGER zz_session_truncate ON conversation_sessions;
	CREATE TRIGGER zz_session_truncate AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION mine()');
check('strict', 'while the owner has replaced one of our triggers', $save);
sql('DROP TRIGGER zz_session_truncate ON conversation_sessions;
	CREATE TRIGGER zz_session_truncate BEFORE TRUNCATE ON conversation_sessions FOR EACH STATEMENT EXECUTE FUNCTION session_change_note();
	ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_truncate');
check('relaxed', 'with our own triggers again', $save);
sql('CREATE TRIGGER mine AFTER INSERT ON session_events FOR EACH ROW EXECUTE FUNCTION mine()');
check('strict', 'while the table of events has one', q{SELECT session_save('s', '{}', if_version => -1, namespace => 'told'), session_create(namespace => 'told')});
sql('DROP TRIGGER mine ON session_events');
check('relaxed', 'an increment that is refused', q{SELECT session_incr('s', '{most}', 2, 1, namespace => 'fast')});
sql(q{SELECT session_append('s', '{"once": 1}', 'op', 'fast')});
check('relaxed', 'a repeated append', q{SELECT session_append('s', '{"once": 1}', 'op', 'fast')});
check('relaxed', '.. and again without it', $save);
is(sql("SET synchronous_commit = on; BEGIN; $save; SHOW synchronous_commit; COMMIT; SHOW synchronous_commit") =~ s/^\d+\n//r,
	"on\non", 'the setting is as before');
check('strict', 'after a transaction that failed', "BEGIN; $save; ROLLBACK; $there");
sql("UPDATE session_namespaces SET durability = 'strict' WHERE name = 'fast'");
check('strict', 'switched back', $save);
sql("UPDATE session_namespaces SET durability = 'relaxed' WHERE name = 'fast'");
check('relaxed', 'and on again', $save);

# ---- a crash: changes in strict namespaces are there; of the relaxed ones whole transactions, the
# first ones; Redis has the same

sql('CHECKPOINT');
sql(q{SELECT session_save('kept', '{"n": 1}', namespace => 'safe')});
for my $n (1 .. 200)
{
	sql("BEGIN; SELECT session_save('a', '{\"n\": $n}', namespace => 'fast'); SELECT session_append('b', '{\"n\": $n}', namespace => 'fast'); COMMIT")
	  if $n % 20 == 0 || $n < 5;
	sql(qq{SELECT session_save('kept', '{"n": $n}', namespace => 'safe')}) if $n == 100;
}
my $before = sql(q{SELECT session_get('a', 'fast') ->> 'n'});
crash($node);
my ($a, $b, $kept) = split /\|/, sql(q{SELECT session_get('a', 'fast') ->> 'n', (SELECT max((message ->> 'n')::int) FROM session_history('b', namespace => 'fast')), session_get('kept', 'safe') ->> 'n'});
is($kept, 100, 'after a crash: strict changes are there');
is($a, $b, ".. of the relaxed ones whole transactions ($a of $before)");
cmp_ok($a, '>=', 100, '.. all of those before a strict commit');
cmp_ok($a, '<=', $before, '.. and nothing else');
wait_for_cache($node, $redis);
is(sql('SELECT session_cache_sync()'), 't', '.. the cache is back');
my $copy = $redis->get('fast:a');
ok(!defined $copy || $copy eq qq({"n": $a}), '.. and has the same as the table');

leave_no_key($node, $redis);
leave_nothing($node);
done_testing();
