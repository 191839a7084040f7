# id_prefix: a page of session_list() costs the same among ten sessions and among very many, and so
# does a count or clear of few; also by plans that were made while the table was empty. With an owner
# the cost is that of the owner's sessions. And it finds the right ids in databases of any encoding.
#
# SESSION_STORE_SESSIONS=10000000 runs it with another number of sessions.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $many = $ENV{SESSION_STORE_SESSIONS} // 100_000;
my $node = new_store('prefix', init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, conf => <<'EOC');
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
wal_level = minimal
max_wal_senders = 0
full_page_writes = off
maintenance_work_mem = 256MB
max_worker_processes = 20
session_store.purge_interval = 0
EOC
$node->safe_psql('postgres', q{INSERT INTO session_namespaces (name, key_prefix, owner_isolation, cache) VALUES ('iso', 'iso:', true, 'off')});

# The namespace "default": ten sessions "few:", and before and behind them many "aaa:" and "live:",
# half of them of other owners, and thousands of tombstones and expired sessions directly behind
# "few:". The namespace "iso": ten sessions of ann, three shared with her, and many of others between
# them.
sub fill
{
	my ($from, $to) = @_;

	$node->safe_psql('postgres', <<"EOS");
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, check_at, updated_at, expires_at)
	SELECT n, p || i, CASE WHEN n = 'iso' OR i % 2 = 0 THEN 'owner' || i % 1000 END, '{"n": 1}', '30 days',
		t, t + interval '30 days', t, t + interval '30 days'
	FROM (SELECT i, now() - interval '1 hour' + interval '1 ms' * i AS t FROM generate_series($from, $to) i) s,
		(VALUES ('default', 'aaa:'), ('default', 'live:'), ('iso', 'few:')) n(n, p)
	WHERE i % 3 = CASE p WHEN 'aaa:' THEN 0 WHEN 'live:' THEN 1 ELSE 2 END;
EOS
	return;
}
sub some
{
	$node->safe_psql('postgres', <<'EOS');
SELECT session_save('few:' || i, to_jsonb(i), owner => 'ann') FROM generate_series(1000, 1009) i;
SELECT session_save('few:' || i || 'of ann', to_jsonb(i), owner => 'ann', namespace => 'iso') FROM generate_series(1000, 1009) i;
SELECT session_save('few:' || i || 'shared', to_jsonb(i), owner => 'bob', namespace => 'iso'), session_share('few:' || i || 'shared', 'ann', namespace => 'iso') FROM generate_series(1000, 1002) i;
EOS
	return;
}

my $claims = q{SET request.jwt.claims = '{"sub": "ann"}'; SET ROLE web};
$node->safe_psql('postgres', 'CREATE ROLE web; GRANT EXECUTE ON FUNCTION session_list, session_count TO web');
my %calls = (
	'a short page' => [ 10, q{SELECT * FROM session_list(id_prefix => 'few:')} ],
	'a page of one' => [ 1, q{SELECT * FROM session_list(id_prefix => 'few:', page_size => 1)} ],
	'a page with data' => [ 10, q{SELECT * FROM session_list(id_prefix => 'few:', with_data => true)} ],
	'a page deep inside' => [ 4, q{SELECT * FROM session_list(id_prefix => 'few:', after => 'i1.04.few:1005')} ],
	'an empty page' => [ 0, q{SELECT * FROM session_list(id_prefix => 'few:nothing')} ],
	'a page with a pattern' => [ 1, q{SELECT * FROM session_list(id_prefix => 'few:', id_like => '%7')} ],
	"a page of an owner" => [ 10, q{SELECT * FROM session_list(owner => 'ann', id_prefix => 'few:')} ],
	'a page with owner isolation' => [ 13, q{SELECT * FROM session_list(id_prefix => 'few:', namespace => 'iso')}, $claims ],
	'a count' => [ 1, q{SELECT session_count(id_prefix => 'few:')} ],
	'a count of an owner' => [ 1, q{SELECT session_count('ann', id_prefix => 'few:')} ],
	'a count with owner isolation' => [ 1, q{SELECT session_count(id_prefix => 'few:', namespace => 'iso')}, $claims ],
	'a clear' => [ 1, q{SELECT session_clear('default', id_prefix => 'few:')} ],
	'a clear by a pattern as well' => [ 1, q{SELECT session_clear('default', '%7', 'few:')} ],
);

# The cost of each call in a session, rolled back. With $filled, the call must find the expected rows.
sub costs
{
	my ($psql, $filled) = @_;
	my %cost;

	for my $what (sort keys %calls)
	{
		my ($expected, $call, $first) = @{ $calls{$what} };
		my $out = '';

		# twice: the first time reads catalogs
		$out = $psql->query_safe('BEGIN; ' . ($first ? "$first; " : '') . "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) $call; ROLLBACK; RESET ROLE;") for 1 .. 2;
		my ($hit) = $out =~ /"Shared Hit Blocks": (\d+)/;
		my ($read) = $out =~ /"Shared Read Blocks": (\d+)/;
		my ($rows) = $out =~ /"Actual Rows": (\d+)/;

		$cost{$what} = $hit + $read;
		is($rows, $expected, "$what: $rows rows") if $filled;
	}
	return %cost;
}

sub are_bounded
{
	my ($few, $costs, $when) = @_;

	for my $what (sort keys %$few)
	{
		# ending a session adds entries to each index, which has more levels
		my $more = $what eq 'a clear' ? 100 : 14;

		cmp_ok($costs->{$what}, '<=', $few->{$what} + $more, "$what $when: $few->{$what} buffers among few sessions, $costs->{$what} among $many");
	}
	return;
}

# a session whose plans are made while the table is empty, and then kept
my $old = $node->background_psql('postgres');
costs($old);

some();
fill(1, 10);
my $new = $node->background_psql('postgres');
my %few = costs($new, 1);
$new->quit;

fill(11, $many);
$node->safe_psql('postgres', <<'EOS');
INSERT INTO conversation_sessions (namespace, session_id, session_data, dead_until, expires_at)
	SELECT 'default', 'few;' || i, '{}', CASE WHEN i % 2 = 0 THEN now() + interval '1 hour' END, now() - interval '1 minute' FROM generate_series(1, 5000) i;
EOS
is($node->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $many + 23 + 5000, "$many sessions");

are_bounded(\%few, { costs($old, 1) }, 'by an old plan');
$old->quit;
$node->safe_psql('postgres', 'VACUUM ANALYZE conversation_sessions, session_members');
$new = $node->background_psql('postgres');
are_bounded(\%few, { costs($new, 1) }, 'by a plan from statistics');

# A page of the many costs its own rows, wherever it is.
my $middle = $node->safe_psql('postgres', q{SELECT session_id FROM conversation_sessions WHERE session_id LIKE 'live:%' ORDER BY session_id LIMIT 1 OFFSET } . int($many / 6));
$calls{'the first page of many'} = [ 50, q{SELECT * FROM session_list(id_prefix => 'live:')} ];
$calls{'a page of many, deep inside'} = [ 50, qq{SELECT * FROM session_list(id_prefix => 'live:', after => 'i1.05.$middle')} ];
$calls{'all prefixes'} = [ 50, q{SELECT * FROM session_list(id_prefix => '')} ];
delete @calls{ grep { !/many|all prefixes/ } keys %calls };
my %cost = costs($new, 1);

cmp_ok($cost{$_}, '<=', 50 * 2 + 20, "$_: $cost{$_} buffers for 50 rows") for sort keys %cost;
$new->quit;

# ---- encodings: among ids of characters that are first and last in bytewise order, those of a prefix

my %characters = (
	LATIN1 => [qw(7e a0 fe ff)],
	SQL_ASCII => [qw(7e 80 fe ff)],
	EUC_JP => [qw(7e a1a1 8ea1 8ffefe fea1 fefe)],
	EUC_KR => [qw(7e a1a1 fea1 fefe)],
	EUC_TW => [qw(7e a1a1 8ea7fefe fefe ffa1 fffe)],
	MULE_INTERNAL => [qw(7e 81e9 9df5a1a1 9dfeffff ff)],
	UTF8 => [qw(7e c2a0 dfbf e0a080 ed9fbf efbfbf f48fbfbf)],
);

for my $encoding (sort keys %characters)
{
	my $db = lc "in_$encoding";
	my $hex = join ',', @{ $characters{$encoding} };

	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	create_extension($node, $db);
	is($node->safe_psql($db, <<"EOS"), 't|0|0', "$encoding: every prefix finds its ids");
CREATE TEMP TABLE word AS WITH c AS (SELECT convert_from(decode(h, 'hex'), '$encoding') AS c FROM unnest('{$hex}'::text[]) h)
	SELECT c AS word FROM c UNION ALL SELECT a.c || b.c FROM c a, c b;
CREATE TEMP TABLE id AS SELECT word AS id FROM word UNION SELECT a.word || b.word FROM word a, word b
	UNION SELECT repeat(word, 200 / octet_length(word)) FROM word;
DO \$\$ BEGIN PERFORM session_save(id, '{}') FROM id; END \$\$;
WITH p AS (SELECT word AS prefix FROM word UNION SELECT repeat(word, 200 / octet_length(word)) FROM word)
SELECT count(*) > 15, count(*) FILTER (WHERE session_count(id_prefix => prefix) <> (SELECT count(*) FROM id WHERE starts_with(id COLLATE "C", prefix))),
	count(*) FILTER (WHERE (SELECT array_agg(session_id ORDER BY ordinality) FROM session_list(id_prefix => prefix, page_size => 7) WITH ORDINALITY)
		IS DISTINCT FROM (SELECT array_agg(id ORDER BY id COLLATE "C") FROM (SELECT id FROM id WHERE starts_with(id COLLATE "C", prefix) ORDER BY id COLLATE "C" LIMIT 7) i))
FROM p;
EOS
}

leave_nothing($node);
done_testing();
