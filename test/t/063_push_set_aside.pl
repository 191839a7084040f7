# Rows that the pusher cannot read or never copy hold nothing up: three documents that are a
# gigabyte as text, one with damaged TOAST data, and a tail with a damaged message. The lease is
# renewed, others are copied, session_health() names the namespace, the damaged row has no copy,
# and DROP DATABASE takes seconds. A repaired row gets its copy again.
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
my $node = new_cached_store('aside', $redis, conf => "session_store.lease = 1s\nallow_system_table_mods = on\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, tail_prefix, sliding, cache) VALUES
	('good', 'good:', NULL, false, 'all'), ('bad', 'bad:', 'bad-tail:', false, 'all');
	ALTER TABLE conversation_sessions ALTER COLUMN session_data SET STORAGE EXTERNAL;
	ALTER TABLE conversation_history ALTER COLUMN message SET STORAGE EXTERNAL});
sync_cache($node);
my $pusher = pusher_pid($node);

# Checks that work in another namespace continues, and that the lease is there.
sub others_go_on
{
	my ($what) = @_;
	my ($leased, $slow) = (0, 0);

	for my $i (1 .. 20)
	{
		my $start = time;

		value(qq{SELECT session_save('g$i', '{"n": "$what"}', namespace => 'good')});
		sync_cache($node);
		$slow++ if time - $start > 5;
		$leased++ if defined $redis->strong("good:g$i");
	}
	is($leased, 20, "$what: each save of others reaches strong readers");
	return;
}

# ---- documents that are never copied, since they are a gigabyte as text

value(q{SELECT session_save('bomb' || i, (SELECT jsonb_object_agg('k' || g, '1e131071'::numeric) FROM generate_series(1, 8500) g), namespace => 'bad') FROM generate_series(1, 3) i});
others_go_on('bombs');
is(join(' ', $redis->keys('bad:*')), '', '.. they have no copies');
cmp_ok(cache_health($node, 'too_large'), '>=', 3, '.. and are counted as too large');

# ---- rows that cannot be read

value(q{SELECT session_save('damaged', jsonb_build_object('v', i, 'x', (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 500) g)), namespace => 'bad') FROM generate_series(1, 1) i;
	SELECT session_append('tail', jsonb_build_array(jsonb_build_object('n', 1), jsonb_build_object('x', (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 500) g))), namespace => 'bad')});
sync_cache($node);
ok(defined $redis->get('bad:damaged'), 'a document in several pieces');
ok(defined $redis->get('bad-tail:tail'), '.. and a message');

# remove one piece of each
for my $table (qw(conversation_sessions conversation_history))
{
	my $toast = value("SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '$table'::regclass");

	is(value(qq{UPDATE pg_class SET relkind = 'r' WHERE oid = '$toast'::regclass;
		WITH gone AS (DELETE FROM $toast WHERE chunk_seq = 1 AND chunk_id = (SELECT max(chunk_id) FROM $toast) RETURNING 1) SELECT count(*) FROM gone;
		UPDATE pg_class SET relkind = 't' WHERE oid = '$toast'::regclass}), '1', "$table: a piece is gone");
}
is(sqlstate($node, q{SELECT length(session_data::text) FROM conversation_sessions WHERE session_id = 'damaged'}), 'XX001', 'the row is damaged');

# the rows change without their documents: the copies must be deleted, since they cannot be compared
value(q{SELECT session_touch(x, namespace => 'bad', ttl => '2 hours') FROM unnest(ARRAY['damaged', 'tail']) x});
my $before = cache_health($node, 'reconnects');
value(q{SELECT session_cache_flush()});
value(q{UPDATE conversation_sessions SET owner_id = 'somebody' WHERE namespace = 'bad' AND session_id IN ('damaged', 'tail')});
value(q{SELECT session_append('tail', '{"n": 3}', namespace => 'bad')});
soon('session_health() names the namespace', 60, sub { health($node, 'warnings') =~ /sessions cannot be copied to Redis: .*in namespace bad is (?:missing|unexpected) chunk/ });
others_go_on('damaged rows');
is(join(' ', grep { /damaged|tail:tail/ } $redis->keys('bad*')), '', '.. they have no copies');
like(value('SELECT session_metrics()'), qr/^session_store_rows_set_aside\{work="push"\} [12]$/m, '.. a metric counts them');
cmp_ok(cache_health($node, 'unreadable'), '>=', 1, '.. and so does the cache');

# foreign copies of them cannot be compared, and are removed
$redis->cmd('SET', 'bad:damaged', 'stale', 'PX', 600_000);
soon('a copy of a row that cannot be read is removed', 120, sub { value('SELECT session_cache_verify(100)'); !defined $redis->get('bad:damaged') });
like(value('SELECT session_metrics()'), qr/^session_store_row_failures_total\{work="scrub"\} [1-9]/m, '.. the sample has set it aside');
is(cache_health($node, 'reconnects'), $before, '.. with the same connection to Redis');
is(pusher_pid($node), $pusher, '.. and the same pusher');
cmp_ok(count_log($node, qr/session_store set a row aside/), '<=', 30, '.. the server log is not flooded');

# ---- after a repair

value(q{SELECT session_save('damaged', '{"v": 2}', namespace => 'bad')});
soon('a row that was saved over has its copy again, after its retry time', 120, sub {
	value(q{SELECT session_save('damaged', '{"v": 2}', namespace => 'bad')});
	sync_cache($node);
	return ($redis->get('bad:damaged') // '') eq '{"v": 2}' });

# ---- DROP DATABASE while all of this is processed

$node->safe_psql('postgres', 'CREATE DATABASE going');
$node->safe_psql('postgres', q{ALTER DATABASE going SET session_store.redis_db = 1});
create_extension($node, 'going');
wait_for_cache($node, $redis, db => 'going', redis_db => 1);
$node->safe_psql('going', q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('bad', 'bad:', false, 'all');
	SELECT session_save('bomb' || i, (SELECT jsonb_object_agg('k' || g, '1e131071'::numeric) FROM generate_series(1, 8500) g), namespace => 'bad') FROM generate_series(1, 200) i});
within(5, 'DROP DATABASE', sub { $node->safe_psql('postgres', 'DROP DATABASE going') });

$node->safe_psql('postgres', 'TRUNCATE conversation_history, conversation_sessions CASCADE');
leave_no_redis($node, $redis);
done_testing();
