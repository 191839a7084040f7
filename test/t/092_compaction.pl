# Tails in Redis of sessions with and without a summary: a hit and a miss say the same, byte for byte,
# after any sequence of calls; no strong reader sees the old tail once the COMMIT of a compaction has
# returned; and summaries survive restarts, dumps and a standby.
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
my $node = new_cached_store('compaction', $redis, init => { allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ] },
	conf => "session_store.lease = 3s\nsession_store.cache_max_bytes = $limit\n");
my $seed = note_seed();

sub value
{
	return $node->safe_psql($_[1] // 'postgres', $_[0]);
}

# After a sync Redis has this tail, or none; a copy that is missing is asked for.
sub tail_becomes
{
	my ($id, $want, $what) = @_;
	my $copy;

	soon("$what: there is a copy", 30, sub {
		sync_cache($node);
		$copy = $redis->get("tail:$id");
		value("SELECT session_tail('$id')") unless defined $copy;
		return defined $copy;
	});
	return is($copy, $want, $what);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, sliding, tail_prefix, tail_size, tombstone) VALUES ('n', 'all', false, 'tail:', 4, '0'), ('plain', 'all', false, NULL, 20, '0');
ALTER DATABASE postgres SET session_store.namespace = 'n';

-- What a tail is, by a definition of its own.
CREATE FUNCTION defined_tail(id text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(e.e ORDER BY e.seq), '[]') FROM conversation_sessions s, LATERAL (SELECT 0::bigint AS seq, jsonb_build_object('summary', s.summary) AS e WHERE s.summary_up_to IS NOT NULL
		UNION ALL (SELECT h.seq, h.message FROM conversation_history h WHERE h.history_id = s.history_id AND h.seq > coalesce(s.summary_up_to, 0) ORDER BY h.seq DESC LIMIT 4)) e
	WHERE s.namespace = 'n' AND s.session_id = id
$$;
CREATE FUNCTION pick(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT a[1 + floor(random() * cardinality(a))::int]';
CREATE FUNCTION json(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RETURN CASE floor(random() * CASE WHEN depth > 0 THEN 6 ELSE 4 END)::int
		WHEN 0 THEN to_jsonb(round(random()::numeric, floor(random() * 5)::int))
		WHEN 1 THEN to_jsonb(pick('', 'plain', U&'\00e4\20ac\6f22\+01f600', E'\\ " \n\t\x01', repeat('long ', 700)))
		WHEN 2 THEN pick('null', 'true', '[]', '{}', '0')::jsonb
		WHEN 3 THEN to_jsonb(pick('summary', '{"summary": 1}'))
		WHEN 4 THEN jsonb_build_array(json(depth - 1), json(depth - 1))
		ELSE jsonb_build_object(pick('summary', 'role', 'a"b', ''), json(depth - 1), pick('x', 'y'), json(depth - 1)) END;
END
$$;
-- One call about a session that is alive, chosen at random.
CREATE FUNCTION act(id text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	top bigint;
BEGIN
	PERFORM set_config('session_store.direct_rows', pick('on', 'off'), true);
	-- a fork may have got no message
	IF random() < 0.5 OR (SELECT history_id IS NULL FROM conversation_sessions WHERE namespace = 'n' AND session_id = id) THEN
		PERFORM session_append(id, jsonb_build_object('m', json(2)));
	END IF;
	SELECT last_seq INTO top FROM conversation_sessions WHERE namespace = 'n' AND session_id = id;
	CASE floor(random() * 15)::int
		WHEN 0, 1, 2, 3 THEN PERFORM session_compact(id, greatest(1, top - floor(random() * 8)::int), json(2));
		WHEN 4 THEN PERFORM session_pop(id, floor(random() * 3)::int);
		WHEN 5 THEN PERFORM session_pop(id, floor(random() * 3)::int, from_start => true);
		WHEN 6 THEN PERFORM session_amend(id, greatest(1, top - floor(random() * 10)::int), jsonb_build_object('amended', json(1)));
		WHEN 7 THEN PERFORM session_trim(id, floor(random() * 8)::int);
		WHEN 8 THEN PERFORM session_replace_tail(id, floor(random() * 4)::int, jsonb_build_array(jsonb_build_object('r', json(1))));
		WHEN 9 THEN PERFORM session_append(id, jsonb_build_array(jsonb_build_object('k', 1), jsonb_build_object('k', 2)), keep => floor(random() * 6)::int);
		WHEN 10 THEN
			PERFORM session_fork(id, id || 'f', greatest(1, top - floor(random() * 6)::int)) WHERE NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = id || 'f');
		WHEN 11 THEN PERFORM session_regenerate(id, new_session_id => rpad(id || 'r', 16, '.')) WHERE NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = rpad(id || 'r', 16, '.'));
		WHEN 12 THEN
			BEGIN
				PERFORM session_compact(id, top, json(1)), session_pop(id);
				RAISE EXCEPTION USING ERRCODE = 'UNDO1';
			EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
				NULL;
			END;
		WHEN 13 THEN UPDATE conversation_sessions SET summary = json(1), summary_up_to = greatest(1, top - floor(random() * 6)::int) WHERE namespace = 'n' AND session_id = id;
		ELSE UPDATE conversation_sessions SET summary = NULL, summary_up_to = NULL WHERE namespace = 'n' AND session_id = id;
	END CASE;
END
$$;
EOS
# a random number for each round: each runs in a session of its own
sub act_on_all
{
	value('SELECT setseed(' . rand() . q{); SELECT act(session_id) FROM (SELECT session_id FROM conversation_sessions WHERE namespace = 'n' AND dead_until IS NULL ORDER BY md5(session_id) LIMIT 20) x});
	return;
}

# Every tail: what session_tail() says, and what Redis has.
sub compare_tails
{
	my ($what, %params) = @_;
	my ($copies, $summaries, @wrong) = (0, 0);

	sync_cache($node);
	my %copy = map { /^tail:(.*)/s ? ($1 => $redis->get($_)) : () } $redis->keys('tail:*');
	for my $line (split /\n/, value(q{SELECT session_id || '|' || (t = defined_tail(session_id)) || '|' || (summary_up_to IS NOT NULL) || '|' || encode(convert_to(t::text, 'UTF8'), 'hex') FROM conversation_sessions, session_tail(session_id, 'n') t
		WHERE namespace = 'n' AND dead_until IS NULL AND history_id IS NOT NULL}))
	{
		my ($id, $as_defined, $summary, $hex) = split /\|/, $line;
		my $text = pack 'H*', $hex;

		push @wrong, "$id: $text is not the tail" if $as_defined ne 'true';
		push @wrong, "$id: $copy{$id} instead of $text" if defined $copy{$id} && $copy{$id} ne $text;
		push @wrong, "$id: no copy of $text" if !defined $copy{$id} && length $text <= $limit && !$params{misses};
		push @wrong, "$id: $copy{$id} is over the limit" if defined $copy{$id} && length $text > $limit;
		$copies++ if defined $copy{$id};
		$summaries++ if $summary eq 'true';
	}
	is(scalar @wrong, 0, "$what ($copies copies, $summaries summaries)");
	diag(join "\n", map { substr $_, 0, 400 } splice @wrong, 0, 5) if @wrong;
	return ($copies, $summaries);
}

# ---- hits and misses say the same

value(q{SELECT session_append('s' || i, '{"first": 1}') FROM generate_series(1, 12) i});
tail_becomes('s12', '[{"first": 1}]', 'a tail');
my ($copies, $summaries) = (0, 0);
for my $round (1 .. 12)
{
	act_on_all();
	my ($c, $s) = compare_tails("round $round");
	$copies += $c;
	$summaries += $s;
}
cmp_ok($copies, '>', 100, 'there were copies');
cmp_ok($summaries, '>', 30, '.. and summaries');
value('SELECT session_cache_flush()');
compare_tails('after a flush, misses', misses => 1);
soon('what was missing is copied', 30, sub {
	sync_cache($node);
	scalar(() = $redis->keys('tail:*')) == value(q{SELECT count(*) FROM conversation_sessions, session_tail(session_id, 'n') t WHERE namespace = 'n' AND dead_until IS NULL AND octet_length(t::text) <= } . $limit);
});
compare_tails('.. and hits');

# ---- the calls one by one

sub numbers
{
	my ($first, $last, $summary) = @_;

	return '[' . join(', ', defined $summary ? "{\"summary\": $summary}" : (), map { "{\"n\": $_}" } $first .. $last) . ']';
}
value(q{SELECT session_append('a', (SELECT jsonb_agg(jsonb_build_object('n', n)) FROM generate_series(1, 10) n))});
tail_becomes('a', numbers(7, 10), 'the tail');
value(q{SELECT session_compact('a', 3, '{"text": "1 to 3"}')});
tail_becomes('a', numbers(7, 10, '{"text": "1 to 3"}'), 'a summary of messages before the tail');
value(q{SELECT session_compact('a', 8, '"1 to 8"')});
tail_becomes('a', numbers(9, 10, '"1 to 8"'), '.. and of some of the tail');
value(q{BEGIN; SELECT session_compact('a', 10, '"all"'); ROLLBACK});
tail_becomes('a', numbers(9, 10, '"1 to 8"'), 'a compaction that was rolled back');
value(q{BEGIN; SELECT session_compact('a', 9, '"1 to 9"'); SAVEPOINT s; SELECT session_compact('a', 1, '0'), session_pop('a', 5); ROLLBACK TO s; SELECT session_append('a', '{"n": 11}'); COMMIT});
tail_becomes('a', numbers(10, 11, '"1 to 9"'), '.. to a savepoint');
value(q{SELECT session_pop('a', 3)});
tail_becomes('a', numbers(5, 8), 'a pop that reaches it');
value(q{SELECT session_compact('a', 11, '"all"')});
tail_becomes('a', '[{"summary": "all"}]', 'a summary alone');
value(q{SELECT session_trim('a', 0), session_fork('a', 'fork')});
tail_becomes('a', '[{"summary": "all"}]', '.. whose messages are trimmed');
tail_becomes('fork', '[{"summary": "all"}]', '.. and its fork');
value(q{UPDATE conversation_sessions SET summary = '"by hand"' WHERE namespace = 'n' AND session_id = 'a'});
tail_becomes('a', '[{"summary": "by hand"}]', 'a summary that was changed by hand');
value(q{SELECT session_regenerate('a', new_session_id => 'a, now renamed..')});
tail_becomes('a, now renamed..', '[{"summary": "by hand"}]', 'a new id');
is($redis->get('tail:a'), undef, '.. the old one has no tail');
value(q{SELECT session_append('p', '{"n": 1}', namespace => 'plain'), session_compact('p', 1, '1', 'plain')});
is(value(q{SELECT session_tail('p', 'plain')}), '[{"summary": 1}]', 'a namespace without tails in Redis');
value(q{SELECT session_create('{}'), session_save('e', '{}')});
sync_cache($node);
is(value(q{SELECT session_tail('e')}) . ($redis->get('tail:e') // ', no copy'), '[], no copy', 'a session that never had a message');

# ---- strong readers

my %changes = (change => sub { qq{SELECT session_compact('strong', 1, '$_[0]')} }, tail => sub { numbers(2, 2, $_[0]) }, becomes => \&tail_becomes);

value(q{SELECT session_append('strong', '[{"n": 1}, {"n": 2}]')});
tail_becomes('strong', numbers(1, 2), 'a tail to be compacted');
wait_for_cache($node, $redis);
my ($trusted, $old) = tails_after_commits($node, $redis, 'compaction', numbers => [ 1 .. 12 ], %changes);
cmp_ok($trusted, '>', 0, 'there is a lease when the COMMIT of a compaction has returned');
is($old, '', '.. and no old tail');

# A pusher that is stopped deletes nothing: the COMMIT returns when the lease has ended.
(undef, $old) = tails_after_commits($node, $redis, 'compaction', numbers => [ 101 .. 103 ], stopped => 1, %changes);
is($old, '', '.. and no strong reader sees the old tail');

# ---- a summary that is too large, or cannot be read

my $aside = cache_health($node, 'too_large');
value(q{SELECT session_append('large', '{"n": 1}'), session_compact('large', 1, to_jsonb(repeat('x', 30000)))});
value(q{SELECT session_append('other', '{"n": 1}')});
tail_becomes('other', numbers(1, 1), 'another session, beside one whose summary is too large');
is($redis->get('tail:large'), undef, '.. which has no copy of its tail');
soon('.. and is counted', 30, sub { cache_health($node, 'too_large') > $aside });
is(value(q{SELECT length(session_tail('large')::text)}), 30000 + length('[{"summary": ""}]'), '.. readers get it by SQL');
value(q{SELECT session_compact('large', 1, '"short"')});
tail_becomes('large', '[{"summary": "short"}]', 'a shorter one is copied');
is(value(q{SELECT stale + orphaned FROM session_cache_verify(1000)}), '0', 'a verification finds nothing wrong');

# ---- restart, dump, standby

my $tails = q{SELECT string_agg(session_id || ' ' || session_tail(session_id, 'n'), E'\n' ORDER BY session_id) FROM conversation_sessions WHERE namespace = 'n' AND dead_until IS NULL};
my $before = value($tails);
$node->restart;
wait_for_cache($node, $redis, what => 'after a restart', timeout => 60);
is(value($tails), $before, 'summaries survive a restart');
compare_tails('.. and Redis has them', misses => 1);

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
run_ok('a dump', $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-Fc', '-f', $dump);
value('CREATE DATABASE restored TEMPLATE template0');
run_ok('.. is restored', $node->installed_command('pg_restore'), '-h', $node->host, '-p', $node->port, '-d', 'restored', $dump);
is(value($tails, 'restored'), $before, '.. with all tails');
value('DROP DATABASE restored (FORCE)');

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('compaction_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "session_store.redis_url = ''");
$standby->start;
wait_for_replay($node, $standby);
is($standby->safe_psql('postgres', $tails), $before, 'tails on a standby');
is(sqlstate($standby, q{SELECT session_compact('strong', 1, '1')}), '25006', '.. which compacts nothing');
$standby->stop;

$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET session_store.namespace');
leave_no_redis($node, $redis);
done_testing();
