# session_forget() with Redis, a dump and a standby: once COMMIT has returned no strong
# reader sees a session or tail of the owner, histories that had ended are found by their owner, and
# the export is the same on a standby.
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
my $node = new_cached_store('forget', $redis, init => { allows_streaming => 1 }, conf => <<'EOC');
session_store.lease = 1s
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, tail_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', 'tail:', false, 'all', '0')});

# ---- clients forget owners, and read at once

my @lines = in_children(3, sub {
	my ($i, $say) = @_;
	my $client = $redis->client;
	my $psql = $node->background_psql('postgres');

	for my $n (1 .. 25)
	{
		# every other time the same owner and ids again
		my $owner = $n % 2 ? "o$i-$n" : "o$i";
		my $start = time;
		my @keys = map { ("whole:$owner $_", "tail:$owner $_") } 1 .. 3;
		my $seen = 0;

		$psql->query_safe("SELECT session_append('$owner ' || k, '{\"m\": $n}', namespace => 'whole'), session_save('$owner ' || k, '{\"n\": $n}', owner => '$owner', namespace => 'whole') FROM generate_series(1, 3) k");
		until ($seen == @keys || time - $start > 60)
		{
			$seen = grep { defined } $client->mget(@keys);
			usleep(200);
		}
		$say->("never there: $owner") if $seen < @keys;
		$psql->query_safe("SELECT session_forget('$owner', namespace => 'whole')");
		my ($lease, @strong) = $client->mget('session_store:lease', @keys);
		$say->("$owner seen by a strong reader") if defined $lease && grep { defined } @strong;
		$say->("$owner seen by a plain reader") if grep { defined } $client->mget(@keys);
		$say->('round');
	}
	$psql->quit;
});
my @wrong = grep { !/^round/ } @lines;
diag(join "\n", @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong);
is(scalar @wrong, 0, 'no reader sees a session or tail of the owner afterwards');
is(scalar(grep { /^round/ } @lines), 75, '.. in 25 rounds of 3 clients');
is(value(q{SELECT count(*) FROM conversation_history}), 0, 'no message is left');

# ---- a rollback removes nothing, from the tables or from Redis

value(q{SELECT session_append('r', '{"m": 1}', namespace => 'whole'), session_save('r', '{"n": 1}', owner => 'rob', namespace => 'whole')});
sync_cache($node);
value(q{BEGIN; SELECT session_forget('rob', namespace => 'whole'); ROLLBACK});
value(q{BEGIN; SAVEPOINT s; SELECT session_forget('rob', namespace => 'whole'); ROLLBACK TO s; COMMIT});
sync_cache($node);
is(value(q{SELECT session_get('r', 'whole'), (SELECT count(*) FROM session_history('r', namespace => 'whole'))}), '{"n": 1}|1', 'a rollback removes nothing');
is($redis->get('whole:r'), '{"n": 1}', '.. and the copy is there again');
value(q{SELECT session_forget('rob', namespace => 'whole')});

# ---- histories of ended sessions are found by their owner, whichever call ended these, also after a
# restore

$node->append_conf('postgresql.conf', 'session_store.purge_interval = 0');
$node->restart;
wait_for_cache($node, $redis);
# each leaves a history without a session, in the queue
my %ends = (
	'session_delete' => q{SELECT session_delete('%s', 'whole')},
	'session_delete_all' => q{SELECT session_delete_all('eve', namespace => 'whole')},
	'session_clear' => q{SELECT session_clear('whole', '%s')},
	'DELETE' => q{DELETE FROM conversation_sessions WHERE session_id = '%s'},
	'UPDATE' => q{UPDATE conversation_sessions SET dead_until = clock_timestamp() WHERE session_id = '%s'},
	'a save over the expired session' => q{UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE session_id = '%1$s'; SELECT session_save('%1$s', '{}', namespace => 'whole')},
	'TRUNCATE' => q{TRUNCATE conversation_sessions},
);
sub ended
{
	my ($end) = @_;

	value(q{SELECT session_append('e', '[{"m": 1}, {"m": 2}]', operation_id => 'op', namespace => 'whole'), session_save('e', '{}', owner => 'eve', namespace => 'whole'), session_share('e', 'x', namespace => 'whole')});
	value(sprintf $ends{$end}, 'e');
	return;
}
for my $end (sort keys %ends)
{
	ended($end);
	is(value(q{SELECT r ->> 'messages', r ->> 'operations', r ->> 'members' FROM session_forget('eve', namespace => 'whole') r}), '2|1|1', "after $end the messages are removed");
	is(value(q{SELECT (SELECT count(*) FROM conversation_history_ended), (SELECT count(*) FROM conversation_history h WHERE h.history_id NOT IN (SELECT history_id FROM conversation_sessions WHERE history_id IS NOT NULL))}), '0|0', '.. and their entry in the queue');
	value(q{DELETE FROM conversation_sessions WHERE session_id = 'e'; DELETE FROM conversation_history_ended WHERE owner_id IS NULL});
}
ended('session_delete');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/forget.sql';
$node->command_ok([ 'pg_dump', '--file', $dump, 'postgres' ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ], '.. and its restore');
is($node->safe_psql('restored', q{SELECT r ->> 'messages', r ->> 'operations', r ->> 'members' FROM session_forget('eve', namespace => 'whole') r}), '2|1|1', '.. where the owner is known as well');

# ---- the cost of a page is that of its own rows, at any number of sessions

value(q{SELECT count(session_save('s' || n, '{}', owner => 'o' || n % 100, namespace => 'whole')) FROM generate_series(1, 3000) n; ANALYZE conversation_sessions});
my $at = value(q{SELECT page_cursor FROM session_export('o7', page_size => 20, namespace => 'whole') OFFSET 19});
my $page = "SELECT count(*) FROM session_export('o7', '$at', 5, 'whole')";
my ($hit, $read) = buffers($node, $page, before => "$page; ");
cmp_ok($hit + $read, '<', 200, 'a page of 5 items reads few buffers (' . ($hit + $read) . ')');

# ---- the queue of ended conversations, which has no index by owner, is read once, whatever it holds of the owner

value(q{INSERT INTO conversation_history_ended (namespace, history_id, owner_id) SELECT 'whole', gen_random_uuid(), CASE WHEN n % 40 = 0 THEN 'big' ELSE 'o1' END FROM generate_series(1, 20000) n; ANALYZE conversation_history_ended});
my $rows_read = value(q{BEGIN; SELECT FROM session_forget('big', namespace => 'whole');
	SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'conversation_history_ended'::regclass; COMMIT});
cmp_ok($rows_read, '<', 30000, "session_forget reads the queue once ($rows_read rows)");
is(value(q{SELECT count(*) FILTER (WHERE owner_id = 'big'), count(*) FILTER (WHERE owner_id = 'o1') FROM conversation_history_ended}), '0|19500', '.. and removes what is of the owner');
value(q{TRUNCATE conversation_history_ended});

# ---- a standby can export, and cannot forget

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('forget_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "session_store.redis_url = ''");
$standby->start;
wait_for_replay($node, $standby);
my $export = q{SELECT string_agg(kind || item, E'\n') FROM session_export('o7', namespace => 'whole')};
is($standby->safe_psql('postgres', $export), value($export), 'the export on a standby');
is(sqlstate($standby, q{SELECT session_forget('o7', namespace => 'whole')}), '25006', 'a standby does not forget');
$standby->stop;

$node->stop;
done_testing();
