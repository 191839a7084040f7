# Shares of the ledger: a database whose pusher may not run, is stopped or cannot keep up takes
# nothing from another database, which keeps its copies and its lease. session_health() of the
# affected database names the symptom, that of the other one the cause.
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
my $node = new_cached_store('shares', $redis, conf => <<'EOC');
session_store.ledger_size = 1000
max_worker_processes = 24
# changes of our tables have policies read again
autovacuum = off
EOC

sub value
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

my $rules = q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('n', 'n:', false, 'all')};
my $procedure = q{CREATE PROCEDURE many(first int, last int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN first .. last LOOP PERFORM session_save('s' || i, '{}', namespace => 'n'); COMMIT; END LOOP; END $$};

# Saves sessions of a database, each in a transaction of its own.
sub many
{
	my ($db, $first, $last) = @_;
	return value("CALL many($first, $last)", $db);
}

# One number of the group "cache" in session_health().
sub number
{
	my ($db, $name) = @_;
	return cache_health($node, $name, $db);
}

sub warnings_of
{
	my ($db) = @_;
	return health($node, 'warnings', $db);
}

# The database that the others must not affect: its copies, and the counters that would show it.
my %state;

sub remember
{
	sync_cache($node);
	%state = map { $_ => number('postgres', $_) } qw(unlisted unlisted_no_room flushes);
	return;
}

sub is_untouched
{
	my ($what) = @_;

	value(q{SELECT session_save('new', jsonb_build_object('t', clock_timestamp()), namespace => 'n')}) for 1 .. 20;
	sync_cache($node);
	is(number('postgres', $_), $state{$_}, "$what: $_ of the neighbor") for sort keys %state;
	is($redis->get('n:old'), '{"old": true}', '.. whose copies stay');
	compare_all($node, $redis, '.. and are right', all => 1);
	is(warnings_of('postgres'), '[]', '.. and whose health is good');
	return;
}

value("$rules; $procedure");
value(q{SELECT session_save('old', '{"old": true}', namespace => 'n')});
wait_for_cache($node, $redis);
is(number('postgres', 'ledger_share') > 0, 1, 'a database with a pusher has a share');

# ---- refused: two databases that use the same database of Redis

value("CREATE DATABASE $_") for qw(twin locked busy);
value("ALTER DATABASE locked SET session_store.redis_db = 3; ALTER DATABASE busy SET session_store.redis_db = 4");
for my $db (qw(twin locked busy))
{
	create_extension($node, $db);
	value("$rules; $procedure", $db);
}
wait_for_cache($node, $redis, db => 'locked', redis_db => 3);
wait_for_cache($node, $redis, db => 'busy', redis_db => 4);
wait_for($node, q{SELECT session_health() #>> '{cache,refused}' = 'other_owner'}, 'the twin is refused', db => 'twin');
remember();

my $room = number('postgres', 'ledger_room');

# so few keys would not be dropped for being too many
many('twin', 1, 3);
is(number('twin', 'ledger_mine'), 0, 'a database that is refused keeps not even a few keys in the ledger');
many('twin', 1, 2 * $room);
is(number('twin', 'ledger_mine'), 0, 'a database that is refused has no settled key in the ledger');
is(number('twin', 'unlisted'), 0, '.. and all its transactions are listed');
is_untouched('a refused database');
like(warnings_of('twin'), qr/belongs to another server or database/, 'health of the refused one names the cause');

# ---- suspended

value('ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_truncate', 'locked');
wait_for($node, q{SELECT session_health() #>> '{cache,state}' = 'suspended'}, 'one is suspended', db => 'locked');
many('locked', 1, 2 * $room);
is(number('locked', 'ledger_mine'), 0, 'a database that is suspended has no settled key in the ledger');
is_untouched('a suspended database');
like(warnings_of('locked'), qr/nothing is cached/, 'health of the suspended one names the cause');

value('ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_truncate', 'locked');
wait_for_cache($node, $redis, db => 'locked', redis_db => 3);
value(q{SELECT session_save('s2', '{"again": 1}', namespace => 'n')}, 'locked');
compare_all($node, $redis, 'once it may run again its copies are right', db => 'locked', redis_db => 3);

# ---- a database whose pusher is stopped, and that needs more than its share

my $stopped = pusher_pid($node, 'busy');
my $share = number('busy', 'ledger_share');
my $allowed = number('busy', 'ledger_allowed');

ok($share > 0 && $allowed > $share, "a share is not a limit ($share, but $allowed are allowed)");
kill 'STOP', $stopped;
many('busy', 1, 2 * $share);
cmp_ok(number('busy', 'ledger_mine'), '>=', 2 * $share, 'it may have more than its share');
is(number('busy', 'unlisted'), 0, '.. and all its transactions are listed');
is_untouched('a database with more than its share');
is(warnings_of('busy') =~ /ledger/, '', '.. which is no fault');
many('busy', 2 * $share + 1, 2 * $room);
cmp_ok(number('busy', 'ledger_mine'), '<=', $allowed, 'it may not have all');
cmp_ok(number('busy', 'unlisted_no_room'), '>', 0, '.. and only that one is refused');
is_untouched('a database that uses all that it may');
like(warnings_of('busy'), qr/found no room in the ledger.*has \d+ keys there/, 'its health says so');
like(value('SELECT session_metrics()', 'busy'), qr/^session_store_unlisted_no_room_total [1-9]/m, '.. and so does the metric');
kill 'CONT', $stopped;
wait_for_cache($node, $redis, db => 'busy', redis_db => 4);
compare_all($node, $redis, 'when its pusher continues, its copies are right', db => 'busy', redis_db => 4);
is(number('busy', 'ledger_mine'), 0, '.. and it has no key in the ledger any more');

# ---- the affected database names the symptom, the other one the cause

$stopped = pusher_pid($node, 'locked');
my $mine = pusher_pid($node);
kill 'STOP', $stopped, $mine;
many('locked', 1, 2 * $share);
many('postgres', 1, 2 * $room);
cmp_ok(number('postgres', 'unlisted_no_room'), '>', 0, 'a database that needs more than its share may find no room');
like(warnings_of('postgres'), qr/found no room in the ledger.*whether another database has more than its share/, 'its health names the symptom');
like(warnings_of('locked'), qr/this database has \d+ keys in the ledger, more than its share of \d+, while another found no room/, 'health of the other one names the cause');
like(value('SELECT session_metrics()', 'locked'), qr/^session_store_cache_ledger_mine [1-9]/m, '.. and so does the metric');
kill 'CONT', $stopped, $mine;
wait_for_cache($node, $redis);
compare_all($node, $redis, 'copies are right in one database');
wait_for_cache($node, $redis, db => 'locked', redis_db => 3);
compare_all($node, $redis, '.. and in the other', db => 'locked', redis_db => 3);

# ---- one transaction: a quarter of what its database may have

$allowed = number('busy', 'ledger_allowed');
my $unlisted = number('busy', 'unlisted');
my $insert = q{INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at) SELECT 'n', 'one' || i, '{}', '1 hour', clock_timestamp() + '1 hour' FROM generate_series(1, %d) i};

cmp_ok($allowed, '<', $room, 'slots that are reserved for others are not allowed');
value(sprintf($insert, int($allowed / 4) + 1), 'busy');
is(number('busy', 'unlisted'), $unlisted + 1, 'a transaction of more than a quarter of it is unlisted');
like(warnings_of('busy'), qr/changed more sessions, the last in namespace n, than a quarter of the \d+ keys/, '.. and health names the namespace');
value(q{DELETE FROM conversation_sessions WHERE session_id ~ '^one.*[0-4]$'}, 'busy');
value(q{DELETE FROM conversation_sessions WHERE session_id ~ '^one'}, 'busy');
value(sprintf($insert, int($allowed / 4) - 8), 'busy');
is(number('busy', 'unlisted'), $unlisted + 1, 'one of less is not');

leave_no_key($node, $redis, db => $_->[0], redis_db => $_->[1]) for [ 'locked', 3 ], [ 'busy', 4 ];
$node->safe_psql('twin', 'DROP EXTENSION session_store CASCADE');
leave_no_key($node, $redis);
done_testing();
