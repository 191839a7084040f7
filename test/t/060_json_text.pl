# The JSON text for Redis: byte for byte what jsonb's output function returns, over generated
# documents and tails; up to cache_max_bytes exactly; and the memory of the pusher stays within
# the figure in docs/redis.md.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $limit = 20_000;
my $redis = new_redis();
my $node = new_cached_store('text', $redis, init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, conf => <<"EOC");
session_store.lease = 1s
session_store.cache_max_bytes = $limit
shared_buffers = 4MB
EOC
my $seed = note_seed();

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# The maximum resident size of the pusher so far, in kB, without shared memory and files.
sub resident
{
	my ($pid) = @_;
	my $status = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status");
	my %kb = $status =~ /^(\w+):\s+(\d+) kB$/mg;

	return $kb{VmHWM} - $kb{RssShmem} - $kb{RssFile};
}

# Checks that each copy is the text of its row, and that a row has none if and only if its text is
# longer than the limit.
sub all_right
{
	my ($what, $prefix) = @_;
	my ($wrong, $fit, $large) = (0, 0, 0);

	sync_cache($node);
	for my $line (split /\n/, value(qq{SELECT session_id || '|' || octet_length(t) || '|' || md5(t) FROM
		(SELECT session_id, CASE '$prefix' WHEN 'whole:' THEN session_data::text ELSE
			((SELECT jsonb_agg(e ORDER BY seq) FROM (SELECT 0 AS seq, jsonb_build_object('summary', summary) AS e WHERE summary_up_to IS NOT NULL
				UNION ALL SELECT seq, message FROM conversation_history h WHERE h.history_id = s.history_id AND seq > coalesce(summary_up_to, 0)) e))::text END AS t
		FROM conversation_sessions s WHERE namespace = 'whole' AND session_id NOT LIKE 'bomb%') x WHERE t IS NOT NULL}))
	{
		my ($id, $length, $md5) = split /\|/, $line;
		my $copy = $redis->get("$prefix$id");
		my $right = $length > $limit ? !defined $copy
		  : defined $copy && value_md5($copy) eq $md5;

		$length > $limit ? $large++ : $fit++;
		$wrong++ unless $right;
		diag("$prefix$id ($length bytes): " . (defined $copy ? substr($copy, 0, 300) : 'no copy')) if !$right && $wrong < 5;
	}
	is($wrong, 0, "$what ($fit copies, $large too large)");
	return ($fit, $large);
}

sub value_md5
{
	require Digest::MD5;
	return Digest::MD5::md5_hex($_[0]);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tail_prefix, tail_size) VALUES ('whole', 'whole:', false, 'all', 'tail:', 1000);
CREATE FUNCTION pick(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT a[1 + floor(random() * cardinality(a))::int]';
CREATE FUNCTION word() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(string_agg(pick('a', 'Z', '0', ' ', '"', '\', '/', E'\b', E'\f', E'\n', E'\r', E'\t', E'\x01', E'\x1f', E'\x7f',
		U&'\00e4', U&'\20ac', U&'\6f22', U&'\+01f600', U&'\2028', U&'\0301'), ''), '') FROM generate_series(1, floor(random() * random() * 30)::int) $$;
CREATE FUNCTION number() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT to_jsonb(CASE floor(random() * 6)::int
		WHEN 0 THEN floor(random() * 100)::numeric
		WHEN 1 THEN -floor(random() * 1000000000000)::numeric
		WHEN 2 THEN round(random()::numeric, floor(random() * 20)::int)
		WHEN 3 THEN ('0e-' || floor(random() * 100)::int)::numeric
		WHEN 4 THEN (pick('', '-') || floor(random() * 100000) || 'e' || pick('', '-') || floor(random() * 80)::int)::numeric
		ELSE (pick('', '-') || floor(random() * 100000) || '.' || floor(random() * 100000) || 'e' || pick('', '-') || floor(random() * random() * random() * 9000)::int)::numeric END) $$;
CREATE FUNCTION document(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE n int := floor(random() * random() * 12);
BEGIN
	RETURN CASE floor(random() * CASE WHEN depth > 0 THEN 9 ELSE 5 END)::int
		WHEN 0 THEN number()
		WHEN 1 THEN to_jsonb(word())
		WHEN 2 THEN pick('true', 'false', 'null', '[]', '{}', '""', '0')::jsonb
		WHEN 3 THEN to_jsonb(repeat(word(), floor(random() * 20)::int))
		WHEN 4 THEN number()
		WHEN 5 THEN coalesce((SELECT jsonb_agg(document(depth - 1)) FROM generate_series(1, n)), '[]')
		WHEN 6 THEN coalesce((SELECT jsonb_agg(document(depth - 1)) FROM generate_series(1, n)), '[]')
		ELSE coalesce((SELECT jsonb_object_agg(word(), document(depth - 1)) FROM generate_series(1, n)), '{}') END;
END $$;
EOS
my $pusher = pusher_pid($node);

value("SELECT setseed(($seed % 1000000) / 1000000.0); DO \$\$ BEGIN
	FOR i IN 1 .. 1500 LOOP PERFORM session_save('g' || i, document(5), namespace => 'whole'); END LOOP;
	FOR i IN 1 .. 300 LOOP
		PERFORM session_append('g' || i, (SELECT jsonb_agg(jsonb_build_object(word(), document(3))) FROM generate_series(1, 1 + i % 7)), namespace => 'whole');
		IF i % 3 = 0 THEN PERFORM session_compact('g' || i, 1 + (i / 3) % (1 + i % 7), document(3), 'whole'); END IF; END LOOP;
END \$\$");
my ($fit) = all_right('generated documents', 'whole:');
cmp_ok($fit, '>', 500, '.. most of them fit');
($fit) = all_right('generated tails', 'tail:');
cmp_ok($fit, '>', 100, '.. most of them fit');

# numbers whose length is computed before they are printed: as long as the limit, and one byte longer
value(qq{DO \$\$
DECLARE x numeric; i int := 0; base jsonb;
BEGIN
	FOREACH x IN ARRAY ARRAY[0, 0.0, 0.000, 1, 9, 10, 99, 100, 999, 1000, 9999, 10000, 10001, 99999999, 100000000, -1, -9999, -10000, -0.1, 0.0001, 0.00001,
		0.1234567, 1.5, 1234.5678, -12345.6789, 1e63, 1e252, 1e255, 1e256, 1e300, 1e3000, -1e3001, 1e-63, 1e-64, 1e-300, -1e-3000, 12345e-3, 1e16000, -9.5e-1000]::numeric[] || 1.0e1::numeric(100, 90)
	LOOP
		base := jsonb_build_object('n', x, 'p', '');
		FOR over IN 0 .. 1 LOOP
			i := i + 1;
			PERFORM session_save('edge' || i, jsonb_set(base, '{p}', to_jsonb(repeat('x', $limit - octet_length(base::text) + over))), namespace => 'whole');
			base := jsonb_build_object('p', '', 'z', x);
			PERFORM session_save('end' || i, jsonb_set(base, '{p}', to_jsonb(repeat('x', $limit - octet_length(base::text) + over))), namespace => 'whole');
		END LOOP;
	END LOOP;
	-- other tokens at the end, and scalars
	FOR over IN 0 .. 1 LOOP
		PERFORM session_save('number' || over, to_jsonb(('1e' || $limit - 1 + over)::numeric), namespace => 'whole');
		PERFORM session_save('string' || over, to_jsonb(repeat('y', $limit - 2 + over)), namespace => 'whole');
		PERFORM session_save('escape' || over, to_jsonb(repeat('y', $limit - 8 + over) || E'\\x01'), namespace => 'whole');
		PERFORM session_save('list' || over, jsonb_build_array(repeat('y', $limit - 8 + over), '{}'::jsonb), namespace => 'whole');
		PERFORM session_append('tail' || over, jsonb_build_array(jsonb_build_object('n', 1), jsonb_build_object('m', repeat('y', $limit - octet_length('[{"n": 1}, {"m": ""}]') + over))), namespace => 'whole');
	END LOOP;
END \$\$});
all_right('documents at the limit', 'whole:');
all_right('tails at the limit', 'tail:');

# ---- memory

my $megabyte = 1024 * 1024;
set_conf($node, cache_max_bytes => $megabyte);
$limit = $megabyte;
value(q{DELETE FROM conversation_sessions WHERE namespace = 'whole'});
# 45 kB in the table, a gigabyte as text; the same as a tail, and as many small ones each
value(q{
	SELECT session_save('bomb' || i, (SELECT jsonb_object_agg('k' || g, '1e131071'::numeric) FROM generate_series(1, 8500) g), namespace => 'whole')
	FROM generate_series(1, 3) i;
	SELECT session_append('bomb4', (SELECT jsonb_agg(jsonb_build_object('n', '1e131071'::numeric)) FROM generate_series(1, 1000)), namespace => 'whole');
	UPDATE session_namespaces SET max_bytes = 268435455 WHERE name = 'whole';
	SELECT session_append('bomb' || i, '{"m": 1}', namespace => 'whole'), session_compact('bomb' || i, 1, CASE i WHEN 5 THEN (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 8500)) WHEN 6 THEN to_jsonb(repeat('z', 80000000)) ELSE to_jsonb(repeat(E'\x01', 4000000)) END, 'whole') FROM generate_series(5, 7) i;
	SELECT session_save('huge', to_jsonb(repeat('z', 80000000)), namespace => 'whole');
	SELECT session_save('escapes' || i, to_jsonb(repeat(E'\x01', 4000000)), namespace => 'whole') FROM generate_series(1, 3) i;
	SELECT session_save('zeros', (SELECT jsonb_agg(0) FROM generate_series(1, 500000)), namespace => 'whole');
	SELECT session_save('deep', (repeat('[', 4000) || repeat(']', 4000))::jsonb, namespace => 'whole');
	SELECT session_save('many' || i, to_jsonb(repeat('z', 900000)), namespace => 'whole') FROM generate_series(1, 40) i;
	SELECT session_append('long', (SELECT jsonb_agg(jsonb_build_object('m', repeat('m', 1000))) FROM generate_series(1, 1000)), namespace => 'whole');
	SELECT session_save('small' || i, jsonb_build_object('n', i), namespace => 'whole') FROM generate_series(1, 200) i;
});
my ($n) = all_right('hostile documents', 'whole:');
cmp_ok($n, '>=', 240, '.. all others have their copies');
all_right('hostile tails', 'tail:');
is(join(' ', grep { /bomb[123]$|tail:bomb/ } $redis->keys('*:bomb*')), '', '.. documents that are too large as text have none');
is(cache_health($node, 'unreadable'), '0', 'no row counts as unreadable');
is(pusher_pid($node), $pusher, 'the pusher is the same process');

# so that the sample includes all of them
my @before = one_row($node, q{SELECT checked, stale + orphaned FROM session_cache_verify(400)});
cmp_ok($before[0], '>=', 100, 'a verification');
is($before[1], '0', '.. finds nothing wrong');

# values of another application under our prefixes, larger than any copy
$redis->cmd('SET', "whole:foreign$_", 'f' x (8 * $megabyte)) for 1 .. 4;
$redis->cmd('SET', 'whole:small1', 'f' x (8 * $megabyte));
soon('foreign values are found and removed, however large they are', 60,
	sub { value('SELECT session_cache_verify(1000)'); sync_cache($node); !grep { defined $redis->get("whole:foreign$_") } 1 .. 4 });
soon('.. and a copy that was overwritten is corrected', 60, sub { ($redis->get('whole:small1') // '') eq '{"n": 1}' });

# 32 MB and twelve times cache_max_bytes
my $kb = resident($pusher);
cmp_ok($kb, '<', (32 + 12) * 1024, "the pusher's memory is bounded ($kb kB)");
is(pusher_pid($node), $pusher, 'the pusher lives on');

leave_no_redis($node, $redis);
done_testing();
