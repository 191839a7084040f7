# Changes that a savepoint rolled back have no effect: they do not make a transaction too large
# for the ledger, nor empty the cache. Changes that are kept are recorded, in whatever order
# savepoints are set, released and rolled back.
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
my $node = new_cached_store('savepoints', $redis, conf => <<'EOC');
session_store.ledger_size = 1000
# changes of our tables have policies read again
autovacuum = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('n', 'n:', false, 'all');
	CREATE FUNCTION many(first int, last int) RETURNS void LANGUAGE sql AS $$ INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at) SELECT 'n', 'many' || i, '{}', '1 hour', clock_timestamp() + '1 hour' FROM generate_series(first, last) i $$});
wait_for_cache($node, $redis);

# The number of transactions so far that were too large for the ledger.
sub unlisted
{
	sync_cache($node);
	return cache_health($node, 'unlisted');
}

# A quarter of the ledger of this server; a transaction with that many changes does not fit.
my $quarter = int(cache_health($node, 'ledger_room') / 4);

value(q{SELECT session_save('before', '{"n": 1}', namespace => 'n')});
my $before = unlisted();

# ---- savepoints that are rolled back

for my $case (
	[ 'a savepoint', 'SAVEPOINT a; SELECT many(1, 2000); ROLLBACK TO a;' ],
	[ 'two of them', 'SAVEPOINT a; SELECT many(1, 2000); ROLLBACK TO a; SAVEPOINT b; SELECT many(1, 2000); ROLLBACK TO b;' ],
	[ 'the same again', 'SAVEPOINT a; SELECT many(1, 2000); ROLLBACK TO a; SELECT many(1, 2000); ROLLBACK TO a;' ],
	[ 'one in another that is released', 'SAVEPOINT a; SAVEPOINT b; SELECT many(1, 2000); RELEASE b; ROLLBACK TO a;' ],
	[ 'one that adds to keys of before', "SELECT many(1, 100); SAVEPOINT a; SELECT many(101, 2000); ROLLBACK TO a; DELETE FROM conversation_sessions WHERE session_id ~ '^many';" ],
	[ 'an exception in PL/pgSQL', q{DO $$ BEGIN PERFORM many(1, 2000); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$;} ],
	[ 'TRUNCATE', 'SAVEPOINT a; TRUNCATE conversation_sessions; ROLLBACK TO a;' ])
{
	my ($what, $sql) = @$case;

	value("BEGIN; $sql SELECT session_save('after', '{}', namespace => 'n'); COMMIT");
	is(unlisted(), $before, "$what, rolled back: the transaction fits the ledger");
	is($redis->get('n:before'), '{"n": 1}', '.. and copies stay');
}
is(scalar(grep { /many/ } $redis->keys), 0, 'changes that were rolled back are not in Redis');

# ---- savepoints that are kept

value("BEGIN; SAVEPOINT a; SELECT many(1, 100); RELEASE a; SAVEPOINT b; SELECT many(200, 400); ROLLBACK TO b; COMMIT");
is(unlisted(), $before, 'a savepoint that is kept and one that is not');
is(scalar(grep { /many/ } $redis->keys), 100, '.. the kept change is in Redis');

# The limit is unchanged: keys that are kept count.
value("BEGIN; SAVEPOINT a; DELETE FROM conversation_sessions WHERE session_id ~ '^many'; SELECT many(1000, 1000 + $quarter); RELEASE a; SAVEPOINT b; SAVEPOINT c; ROLLBACK TO b; COMMIT");
isnt(unlisted(), $before, 'too many kept changes do not fit the ledger');
compare_all($node, $redis, 'after that');
value($_) for "DELETE FROM conversation_sessions WHERE session_id ~ '[0-4]\$'", 'DELETE FROM conversation_sessions';

# ---- random savepoints: whatever is released and rolled back, no change is missing in Redis

note_seed();

# Statements of one subtransaction and of its subtransactions.
sub some
{
	my ($depth) = @_;
	my $sql = '';

	for (1 .. 1 + int rand 4)
	{
		my $id = 'r' . int rand 12;
		my $what = rand;

		if ($what < 0.35 && $depth < 4)
		{
			my $name = "s$depth";
			my $end = rand;

			$sql .= "SAVEPOINT $name; " . some($depth + 1);
			$sql .= $end < 0.4 ? "RELEASE $name; " : $end < 0.9 ? "ROLLBACK TO $name; " : '';
			$sql .= "RELEASE $name; " if $end >= 0.4 && $end < 0.6;
		}
		elsif ($what < 0.45)
		{
			$sql .= "DO \$\$ BEGIN PERFORM session_save('$id', '{\"x\": 0}', namespace => 'n'); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$; ";
		}
		elsif ($what < 0.55)
		{
			$sql .= "DELETE FROM conversation_sessions WHERE session_id = '$id'; ";
		}
		else
		{
			$sql .= sprintf "SELECT session_save('%s', '{\"x\": %d}', namespace => 'n'); ", $id, 1 + int rand 1e6;
		}
	}
	return $sql;
}

for my $round (1 .. 12)
{
	value(join '', map { 'BEGIN; ' . some(0) . (rand() < 0.9 ? 'COMMIT; ' : 'ROLLBACK; ') } 1 .. 25);
	last unless compare_all($node, $redis, "round $round", all => 1);
}

leave_no_key($node, $redis);
done_testing();
