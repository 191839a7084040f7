# Copies of history tails in Redis: they match the table after every kind of change of a session
# or its messages; the rules, fences and ends of the document's copy apply to them; and their
# size does not depend on the length of the history.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA qw(sha256_hex);
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $redis = new_redis(save => 1);
my $node = new_cached_store('tail', $redis, init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, conf => <<'EOC');
session_store.lease = 1s
session_store.cache_max_bytes = 6000
max_prepared_transactions = 10
EOC
my $json = JSON::PP->new->canonical->allow_nonref->allow_bignum;

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# Runs SQL and waits until Redis has the changes; returns the result of the SQL.
sub run
{
	my $out = value($_[0]);

	sync_cache($node);
	return $out;
}

# Waits until code returns the expected value.
sub same_json
{
	my ($one, $other) = @_;

	return $json->encode($json->decode($one)) eq $json->encode($json->decode($other));
}

# All keys that may be in Redis, documents and tails, with the values that they must have; read from
# the tables, because a call would be a use. A session without messages has no tail, or an empty one if
# it had messages before.
sub truth
{
	my %rows = map { my @row = split /\x01/, $_, -1; $row[0] => { value => $row[1], all => $row[2], messages => $row[3] } } split /\n/, value(<<'EOS');
WITH living AS (
	SELECT s.*, coalesce(n.key_prefix, 'session:') AS key_prefix, n.tail_prefix, coalesce(n.tail_size, 20) AS tail_size,
		CASE WHEN n.hash_keys THEN encode(sha256(convert_to(s.session_id, 'UTF8')), 'hex') ELSE s.session_id END AS id,
		(coalesce(n.cache, 'hot') = 'all' AND NOT n.sliding AND s.expires_at > clock_timestamp()) AS must
	FROM conversation_sessions s LEFT JOIN session_namespaces n ON n.name = s.namespace
	WHERE s.expires_at > clock_timestamp() - interval '100 ms' AND s.dead_until IS NULL AND coalesce(n.cache, 'hot') <> 'off')
SELECT key_prefix || id || E'\x01' || session_data || E'\x01' || must || E'\x01' FROM living
UNION ALL
SELECT tail_prefix || id || E'\x01' || coalesce(t.tail, '[]') || E'\x01' || must || E'\x01' || coalesce(t.n, 0)
FROM living, LATERAL (SELECT jsonb_agg(message ORDER BY seq)::text AS tail, count(*) AS n FROM
	(SELECT seq, message FROM conversation_history h WHERE h.history_id = living.history_id ORDER BY seq DESC LIMIT tail_size) w) t
WHERE tail_prefix IS NOT NULL
EOS
	return \%rows;
}

# Checks that every copy in Redis is right and, with all => 1, that none that must exist is missing.
sub all_right
{
	my ($what, %params) = @_;

	sync_cache($node) unless $params{no_sync};
	my $copies = copies_in($redis);
	my $rows = truth();
	my @wrong;
	for my $key (sort keys %$copies)
	{
		my $row = $rows->{$key};

		push @wrong, "$key: nothing such, but $copies->{$key}" unless $row;
		push @wrong, "$key: $copies->{$key} instead of $row->{value}" if $row && !same_json($row->{value}, $copies->{$key});
	}
	for my $key (sort keys %$rows)
	{
		my $row = $rows->{$key};
		my $of_messages = $row->{messages} ne '';

		next unless $params{all} && $row->{all} eq 'true' && !exists $copies->{$key};
		push @wrong, "$key: missing" unless $of_messages && !$row->{messages};
	}
	my $n = keys %$copies;
	ok(!@wrong, "$what ($n copies are right)");
	diag(@wrong . " are wrong, such as\n" . join "\n", splice @wrong, 0, 8) if @wrong;
	return $n;
}

# The expected tail of a session in "whole", as text.
sub numbers
{
	return '[' . join(', ', map { "{\"n\": $_}" } @_) . ']';
}

sub tail_is
{
	my ($key, $want, $what) = @_;

	return is($redis->get($key), $want, $what);
}

# An SQL expression that appends the messages {"n": from} .. {"n": to} to a session.
sub some
{
	my ($from, $to) = @_;

	return "(SELECT jsonb_agg(jsonb_build_object('n', i) ORDER BY i) FROM generate_series($from, $to) i)";
}

# Reads every living session with messages, and waits until all required copies are in Redis: after a
# flush copies are made when they are used.
sub refill
{
	my ($what) = @_;

	value(q{SELECT count(session_get(session_id, namespace => namespace)), count((SELECT count(*) FROM session_history(session_id, last => 1, namespace => namespace)))
		FROM (SELECT namespace, session_id FROM conversation_sessions WHERE expires_at > clock_timestamp() OFFSET 0) s});
	my $start = time;
	my $missing;
	do
	{
		my $rows = truth();
		my @must = grep { $rows->{$_}{all} eq 'true' && $rows->{$_}{messages} ne '0' } sort keys %$rows;
		my @copies = @must ? $redis->mget(@must) : ();

		$missing = grep { !defined $copies[$_] } 0 .. $#must;
		usleep(20_000) if $missing;
	} while ($missing && time - $start < 5);
	return is($missing, 0, sprintf('%s (%.2f s)', $what, time - $start));
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, cache_ttl, hash_keys, tail_prefix, tail_size, tombstone) VALUES
	('whole', 'whole:', '1 hour', false, 'all', '5 minutes', false, 'wt:', 5, '0'),
	('fixed', 'fixed:', '1 hour', false, 'hot', '1 minute', false, 'ft:', 3, '5 minutes'),
	('slide', 'slide:', '80 s', true, 'all', '5 minutes', false, 'st:', 3, '5 minutes'),
	('hotslide', 'hotslide:', '2 hours', true, 'hot', '5 minutes', false, 'hst:', 3, '5 minutes'),
	('hashed', 'hashed:', '1 hour', false, 'all', '5 minutes', true, 'ht:', 3, '0'),
	('none', 'none:', '1 hour', false, 'off', '5 minutes', false, 'nt:', 3, '0'),
	('later', 'later:', '1 hour', false, 'all', '5 minutes', false, NULL, 3, '0'),
	('twenty', 'twenty:', '1 hour', false, 'all', '5 minutes', false, 'tt:', 20, '0');
EOS

# ---- append

run(q{SELECT session_save('a', '{"doc": 1}', namespace => 'whole')});
is(join(' ', $redis->keys('*:a')), 'whole:a', 'a session without messages has no tail');
run(q{SELECT session_append('a', '{"n": 1}', namespace => 'whole')});
tail_is('wt:a', numbers(1), 'the first message');
is($redis->get('whole:a'), '{"doc": 1}', '.. beside the document');
run("SELECT session_append('a', @{[ some(2, 4) ]}, namespace => 'whole')");
tail_is('wt:a', numbers(1 .. 4), 'an array');
run("SELECT session_append('a', @{[ some(5, 7) ]}, namespace => 'whole')");
tail_is('wt:a', numbers(3 .. 7), 'the last tail_size, oldest first');
run(q{SELECT session_append('new', '{"n": 1}', namespace => 'whole')});
is(join(' ', $redis->mget('whole:new', 'wt:new')), '{} [{"n": 1}]', 'an append that begins the session');
my $message = q({"b": [1, 2.50, {"c": null}], "a": "\u00e4 \" \\\\ /\u6f22", "empty": {}});
run("SELECT session_append('odd', '[$message, {}]', namespace => 'whole')");
is(value(q{SELECT $redis$} . $redis->get('wt:odd') . q{$redis$::jsonb = (SELECT jsonb_agg(message ORDER BY seq) FROM session_history('odd', last => 5, namespace => 'whole'))}),
	't', 'any JSON, as session_history returns it');
like($redis->get('wt:odd'), qr/\xc3\xa4 \\"/, '.. in UTF-8');
run(q{SELECT session_append('a', '{"n": 8}', 'op', namespace => 'whole'); SELECT session_append('a', '{"n": 8}', 'op', namespace => 'whole')});
tail_is('wt:a', numbers(4 .. 8), 'an operation said twice');
all_right('after appends', all => 1);

my @lags;
for my $n (1 .. 20)
{
	value("SELECT session_append('lag', '{\"n\": $n}', namespace => 'whole')");
	my $start = time;
	usleep(500) until ($redis->get('wt:lag') // '') =~ /"n": $n\}\]/ || time - $start > 2;
	push @lags, time - $start;
}
@lags = sort { $a <=> $b } @lags;
cmp_ok($lags[-1], '<', 1, sprintf('nobody has to ask for it (%.1f ms after the client at most)', 1000 * $lags[-1]));

# ---- the other calls

is(run(q{SELECT session_pop('a', 2, namespace => 'whole')}), numbers(7, 8), 'pop');
tail_is('wt:a', numbers(2 .. 6), '.. moves the window back');
run(q{SELECT session_pop('a', 4, namespace => 'whole')});
tail_is('wt:a', numbers(1, 2), '.. to the beginning');
run(q{SELECT session_pop('a', 4, namespace => 'whole')});
tail_is('wt:a', '[]', '.. and to an empty array');
run("SELECT session_append('a', @{[ some(9, 12) ]}, namespace => 'whole')");
tail_is('wt:a', numbers(9 .. 12), 'append goes on');
run(q{SELECT session_trim('a', 2, namespace => 'whole')});
tail_is('wt:a', numbers(11, 12), 'trim');
run(q{SELECT session_trim('a', 0, namespace => 'whole')});
tail_is('wt:a', '[]', '.. to nothing');
run("SELECT session_append('a', @{[ some(13, 15) ]}, keep => 2, namespace => 'whole')");
tail_is('wt:a', numbers(14, 15), 'an append that keeps the newest');
run(q{SELECT session_append('a', '{"n": 16}', patch => '{"p": 1}', keep => 2, namespace => 'whole')});
tail_is('wt:a', numbers(15, 16), '.. also of those that were there');
is($redis->get('whole:a'), '{"p": 1, "doc": 1}', '.. with a patch for the document');
run(q{SELECT session_replace_tail('a', 1, '[{"n": 17}, {"n": 18}]', '[{"n": 16}]', namespace => 'whole')});
tail_is('wt:a', numbers(15, 17, 18), 'replace_tail');
run(q{SELECT session_replace_tail('a', 5, '[]', namespace => 'whole')});
tail_is('wt:a', '[]', '.. by nothing');
run("SELECT session_append('a', @{[ some(1, 6) ]}, namespace => 'whole')");

run(q{SELECT session_fork('a', 'fork', namespace => 'whole'); SELECT session_fork('a', 'fork3', up_to => (SELECT min(seq) + 2 FROM session_history('a', namespace => 'whole')), namespace => 'whole')});
tail_is('wt:fork', numbers(2 .. 6), 'fork');
tail_is('wt:fork3', numbers(1 .. 3), '.. up to a seq');
run(q{SELECT session_append('fork', '{"n": 70}', namespace => 'whole')});
tail_is('wt:a', numbers(2 .. 6), '.. and what is appended there is there only');
tail_is('wt:fork', numbers(3 .. 6, 70), '.. so');

run(q{SELECT session_append('b', '{"n": 100}', namespace => 'whole')});
value(q{SELECT session_absorb('b', 'fork3', namespace => 'whole')});
is_deeply([ $redis->mget('whole:fork3', 'wt:fork3') ], [ undef, undef ], 'absorb: no copy of the source when it returns');
sync_cache($node);
tail_is('wt:b', numbers(100, 1 .. 3), '.. and its messages follow those of the target');
refill('(other sessions have their copies)');

my $id = value(q{SELECT session_regenerate('b', namespace => 'whole')});
is_deeply([ $redis->mget('whole:b', 'wt:b') ], [ undef, undef ], 'regenerate: nothing under the old id when it returns');
sync_cache($node);
tail_is("wt:$id", numbers(100, 1 .. 3), '.. and the tail under the new one');

run(q{SELECT session_save('a', '{"doc": 2}', namespace => 'whole'); SELECT session_merge('a', '{"doc": 3}', namespace => 'whole'); SELECT session_incr('a', '{doc}', namespace => 'whole')});
tail_is('wt:a', numbers(2 .. 6), 'save, merge and incr leave the tail');
run(q{SELECT session_touch('a', '2 hours', namespace => 'whole')});
cmp_ok($redis->pttl('wt:a'), '>', 7_100_000, 'touch moves its end');
run(q{SELECT session_touch('a', '1 hour', namespace => 'whole')});
my $left = $redis->pttl('wt:a');
ok($left > 3_500_000 && $left <= 3_600_000, '.. and back');

# several changes in one transaction
run(q{BEGIN; SELECT session_append('t', '{"n": 1}', namespace => 'whole'); SELECT session_pop('t', namespace => 'whole'); SELECT session_append('t', '{"n": 2}', namespace => 'whole'); SELECT session_delete('t', namespace => 'whole');
SELECT session_append('t', '{"n": 3}', namespace => 'whole'); COMMIT});
tail_is('wt:t', numbers(3), 'the last of several changes');
all_right('after calls', all => 1);

# These calls do not concern other sessions: their copies stay, and so does the lease.
value(q{SELECT session_append('call', '[{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]', owner, 'whole') FROM (VALUES ('op1')) v (owner)});
for my $call (q{session_append('call', '{"n": 5}', namespace => 'whole')}, q{session_pop('call', namespace => 'whole')}, q{session_trim('call', 3, namespace => 'whole')},
	q{session_fork('call', 'call2', namespace => 'whole')}, q{session_absorb('call', 'call2', namespace => 'whole')}, q{session_share('call', 'm', namespace => 'whole')},
	q{session_unshare('call', 'm', namespace => 'whole')}, q{session_regenerate('call', namespace => 'whole')}, q{session_delete('a', namespace => 'whole')})
{
	sync_cache($node);
	value(q{SELECT session_append('bystander', '{"n": 1}', namespace => 'whole')});
	wait_for_cache($node, $redis);
	my @told = watched($redis, sub { run("SELECT $call") });
	is(scalar(grep { /lua\] "DEL" "session_store:lease"/ } @told) - scalar(grep { /lua\] "SET" "session_store:lease"/ } @told), 0, "$call: the lease comes back");
	ok(defined $redis->get('wt:bystander'), '.. and the copies of others stay');
}
refill('flushed copies are made again when sessions are read');
all_right('after these', all => 1);

# ---- ends are fenced

my %ends = (
	'session_delete' => q{SELECT session_delete('%s', namespace => 'whole')},
	'session_delete_all' => q{SELECT session_delete_all('%s', namespace => 'whole')},
	'session_regenerate' => q{SELECT session_regenerate('%s', namespace => 'whole')},
	'session_absorb' => q{SELECT session_absorb('keep', '%s', namespace => 'whole')},
	'session_clear' => q{SELECT session_clear('whole', '%s')},
	'DELETE' => q{DELETE FROM conversation_sessions WHERE namespace = 'whole' AND session_id = '%s'},
	'UPDATE of the id' => q{UPDATE conversation_sessions SET session_id = 'moved ' || session_id WHERE namespace = 'whole' AND session_id = '%s'},
	'an append and a delete' => q{BEGIN; SELECT session_append('%1$s', '{"last": 1}', namespace => 'whole'); SELECT session_delete('%1$s', namespace => 'whole'); COMMIT},
);
value(q{SELECT session_append('keep', '{}', namespace => 'whole')});
for my $end (sort keys %ends)
{
	my @lines = in_children(2, sub {
		my ($i, $say) = @_;
		my $client = $redis->client;
		my $psql = $node->background_psql('postgres');

		for my $n (1 .. 20)
		{
			my $id = "s$end$i-$n";
			my $start = time;

			$psql->query_safe("SELECT session_save('$id', '{}', owner => '$id', namespace => 'whole'); SELECT session_append('$id', '{\"n\": $n}', namespace => 'whole')");
			usleep(200) until defined $client->get("wt:$id") || time - $start > 5;
			$say->("never there: $id") unless defined $client->get("wt:$id");
			$psql->query_safe(sprintf $ends{$end}, $id);
			my ($lease, $strong) = $client->mget('session_store:lease', "wt:$id");
			$say->("$id seen by a strong reader: $strong") if defined $lease && defined $strong;
			$say->("$id seen by a plain reader: $strong") if !defined $lease && defined $strong;
			$say->('round');
		}
		$psql->quit;
	});
	my @wrong = grep { !/^round/ } @lines;
	is(scalar(@wrong), 0, "$end: no reader sees the tail afterwards") or diag(join "\n", splice @wrong, 0, 4);
	is(scalar(grep { /^round/ } @lines), 40, '.. in 20 rounds of 2 clients');
}
run(q{SELECT session_clear('whole', 's%')});
refill('other copies are there');
all_right('after ends', all => 1);

# The same while the pusher hangs: a COMMIT that returns has waited until no lease can exist.
my %fenced = (
	'session_delete' => q{SELECT session_delete('hang', namespace => 'whole')},
	'session_regenerate' => q{SELECT session_regenerate('hang', namespace => 'whole')},
	'session_absorb' => q{SELECT session_absorb('keep', 'hang', namespace => 'whole')},
	'DELETE of the session' => q{DELETE FROM conversation_sessions WHERE namespace = 'whole' AND session_id = 'hang'},
	'DELETE of its messages' => q{DELETE FROM conversation_history WHERE history_id = (SELECT history_id FROM conversation_sessions WHERE namespace = 'whole' AND session_id = 'hang')},
);
for my $end (sort keys %fenced)
{
	run(q{SELECT session_append('hang', '{"n": "secret"}', namespace => 'whole')});
	wait_for_cache($node, $redis);
	ok(defined $redis->strong('wt:hang'), '(a tail that strong readers see)');
	my $hung = pusher_pid($node);
	kill 'STOP', $hung;
	my $start = time;
	value($fenced{$end});
	my $took = time - $start;
	my $strong = $redis->strong('wt:hang');
	ok(($strong // '') !~ /secret/, sprintf('the pusher hangs: %s, and no strong reader sees the message (%.2f s)', $end, $took));
	in_time($took, 1.8, '.. after one lease at most');
	kill 'CONT', $hung;
	wait_for_cache($node, $redis);
	run(q{SELECT session_delete('hang', namespace => 'whole')});
}
run(q{SELECT session_clear('whole', '____________________%')});
refill('other copies are there');

# fence = all: no strong reader sees the tail from before an append
my @lines = in_children(2, sub {
	my ($i, $say) = @_;
	my $client = $redis->client;
	my $psql = $node->background_psql('postgres');

	$psql->query_safe("SET session_store.fence = 'all'");
	for my $n (1 .. 60)
	{
		$psql->query_safe("SELECT session_append('f$i', '{\"n\": $n}', namespace => 'whole')");
		my ($lease, $strong) = $client->mget('session_store:lease', "wt:f$i");
		$say->("a strong reader sees $strong after $n") if defined $lease && defined $strong && $strong !~ /"n": $n\}\]/;
		usleep(1000 * ($n % 5));
	}
	$psql->quit;
});
is("@lines", '', 'fence = all: no reader sees the tail from before an append');

# ---- lifetimes of tails

for my $case (
	[ 'whole', 'wt:', 'NULL', 3_600_000, 'all: the whole life' ],
	[ 'fixed', 'ft:', 'NULL', 60_000, 'hot: at most cache_ttl' ],
	[ 'fixed', 'ft:', q{'20 s'}, 20_000, 'hot: at most the end' ],
	[ 'slide', 'st:', 'NULL', 10_000, 'sliding: an eighth of the ttl' ],
	[ 'slide', 'st:', q{'8 s'}, 1_000, q{sliding: an eighth of the session's own} ],
	[ 'hotslide', 'hst:', 'NULL', 300_000, 'hot and sliding: at most 5 minutes' ],
	[ 'hashed', 'ht:', 'NULL', 3_600_000, 'hashed' ])
{
	my ($namespace, $prefix, $ttl, $most, $what) = @$case;
	my $name = $namespace eq 'hashed' ? sha256_hex("end$most") : "end$most";

	run("SELECT session_save('end$most', '{}', ttl => $ttl, namespace => '$namespace'); SELECT session_append('end$most', '{\"n\": 1}', namespace => '$namespace')");
	my ($tail, $document) = map { $redis->pttl($_) } "$prefix$name", "$namespace:$name";
	ok($tail <= $most && $tail > $most - 2000 - $most / 100, "$what ($tail of $most ms)");
	cmp_ok(abs($tail - $document), '<', 200, ".. like the document ($document ms)");
}
is($redis->get('ht:end3600000'), undef, 'hashed: nothing under the plain id');
tail_is('ht:' . sha256_hex('end3600000'), numbers(1), '.. but under its hash');
value(q{SELECT session_delete('end3600000', namespace => 'hashed')});
is($redis->get('ht:' . sha256_hex('end3600000')), undef, '.. and removed with the session');

run(q{SELECT session_save('short', '{}', ttl => '700 ms', namespace => 'whole'); SELECT session_append('short', '{"n": 1}', namespace => 'whole')});
ok(defined $redis->get('wt:short'), 'the tail of a session with a short ttl is there');
soon('.. and ends by itself', 2, sub { !defined $redis->get('wt:short') });

# after an expiry a new session has nothing of the old tail
for my $n (1, 2)
{
	run("SELECT session_append('ex$n', @{[ some(1, 3) ]}, namespace => 'whole'); UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE session_id = 'ex$n'");
	is($redis->get("wt:ex$n"), undef, 'UPDATE of the end into the past');
}
run(q{SELECT session_save('ex1', '{"again": 1}', namespace => 'whole')});
is($redis->get('wt:ex1') // '[]', '[]', 'a save over an expired session: its tail is not there again');
run(q{SELECT session_append('ex2', '{"n": 50}', namespace => 'whole')});
tail_is('wt:ex2', numbers(50), 'append over an expired session');
run(q{SELECT session_append('ex1', '{"n": 60}', namespace => 'whole')});
tail_is('wt:ex1', numbers(60), '.. and after a save over one');
run(q{SELECT session_append('dead', '{"n": 1}', namespace => 'fixed'); SELECT session_delete('dead', namespace => 'fixed'); SELECT session_save('dead', '{}', if_version => 0, namespace => 'fixed')});
is($redis->get('ft:dead') // '[]', '[]', 'a new start over a tombstone');
all_right('after expiries', all => 1);

# ---- plain SQL of the owner

my $history = q{(SELECT history_id FROM conversation_sessions WHERE namespace = 'whole' AND session_id = '%s')};
my ($of_p, $of_q) = map { sprintf $history, $_ } 'p', 'q';
run("SELECT session_append('p', @{[ some(1, 6) ]}, namespace => 'whole'); SELECT session_append('q', @{[ some(11, 12) ]}, namespace => 'whole')");
run("UPDATE conversation_history SET message = '{\"n\": \"edited\"}' WHERE history_id = $of_p AND seq = 4");
tail_is('wt:p', '[{"n": 2}, {"n": 3}, {"n": "edited"}, {"n": 5}, {"n": 6}]', 'UPDATE of a message');
run("DELETE FROM conversation_history WHERE history_id = $of_p AND seq = 4");
tail_is('wt:p', numbers(1, 2, 3, 5, 6), 'DELETE of one');
run("INSERT INTO conversation_history (history_id, seq, created_at, message) VALUES ($of_p, 4, now(), '{\"n\": 44}')");
tail_is('wt:p', numbers(2, 3, 44, 5, 6), 'INSERT of one');
my $key = value("SELECT $of_p");
run("COPY conversation_history (history_id, seq, created_at, message) FROM STDIN;\n$key\t101\tnow\t{\"n\": 101}\n$key\t102\tnow\t{\"n\": 102}\n\\.\n");
tail_is('wt:p', numbers(44, 5, 6, 101, 102), 'COPY');
run("UPDATE conversation_history SET history_id = $of_q, seq = 200 WHERE history_id = $of_p AND seq = 102");
tail_is('wt:p', numbers(3, 44, 5, 6, 101), 'a message moved to another session: gone here');
tail_is('wt:q', numbers(11, 12, 102), '.. and there');
run("UPDATE conversation_history SET seq = seq + 1000 WHERE history_id = $of_p AND seq = 1");
tail_is('wt:p', numbers(44, 5, 6, 101, 1), 'UPDATE of a seq');
run("INSERT INTO conversation_history (history_id, seq, created_at, message) VALUES ($of_q, 200, now(), '{\"n\": 200}') ON CONFLICT (history_id, seq) DO UPDATE SET message = EXCLUDED.message");
tail_is('wt:q', numbers(11, 12, 200), 'INSERT .. ON CONFLICT DO UPDATE');
run("MERGE INTO conversation_history h USING (VALUES ($of_q)) v (id) ON h.history_id = v.id AND h.seq = 200 WHEN MATCHED THEN DELETE");
tail_is('wt:q', numbers(11, 12), 'MERGE');
run("SET session_replication_role = replica; UPDATE conversation_history SET message = '{\"n\": \"replica\"}' WHERE history_id = $of_q AND seq = 2");
tail_is('wt:q', '[{"n": 11}, {"n": "replica"}]', 'session_replication_role = replica');
run(q{UPDATE conversation_sessions SET session_id = 'moved' WHERE namespace = 'whole' AND session_id = 'q'});
is($redis->get('wt:q'), undef, 'UPDATE of a session_id: nothing under the old one');
tail_is('wt:moved', '[{"n": 11}, {"n": "replica"}]', '.. and the tail under the new one');
run(q{BEGIN; UPDATE conversation_sessions SET history_id = NULL WHERE namespace = 'whole' AND session_id = 'moved'; COMMIT});
is($redis->get('wt:moved') // '[]', '[]', 'UPDATE of a history_id');
all_right('after plain SQL', all => 1);

run(q{SELECT session_append('tr', '{"n": 1}', namespace => 'whole')});
value('BEGIN; TRUNCATE conversation_history; ROLLBACK');
all_right('TRUNCATE that is rolled back');
run(q{SELECT session_append('tr', '{"n": 2}', namespace => 'whole')});
tail_is('wt:tr', numbers(1, 2), '.. and an append');
value('TRUNCATE conversation_history');
is_deeply([ grep { ($redis->get($_) // '[]') ne '[]' } map { $redis->keys($_) } 'wt:*', 'ht:*', 'ft:*' ], [], 'TRUNCATE: no messages are in Redis when it returns');
all_right('.. nor later');
run(q{SELECT session_append('tr', '{"n": 3}', namespace => 'whole')});
tail_is('wt:tr', numbers(3), '.. and on it goes');
value('TRUNCATE conversation_sessions');
is_deeply(copies_in($redis), {}, 'TRUNCATE of the sessions');

# ---- rollbacks

run(q{SELECT session_append('r', '{"n": 1}', namespace => 'whole')});
my @told = watched($redis, sub {
	run(q{BEGIN; SELECT session_append('r', '{"never": 1}', namespace => 'whole'); SELECT session_append('r2', '{"never": 1}', namespace => 'whole'); ROLLBACK});
	tail_is('wt:r', numbers(1), 'an append that is rolled back');
	is($redis->get('wt:r2'), undef, '.. and one that created a session');
	run(q{BEGIN; SELECT session_delete('r', namespace => 'whole'); ROLLBACK});
	run(q{BEGIN; SELECT session_pop('r', namespace => 'whole'); ROLLBACK});
	tail_is('wt:r', numbers(1), 'a delete and a pop that are rolled back');
	run(q{BEGIN; SAVEPOINT s; SELECT session_append('r', '{"never": 2}', namespace => 'whole'); ROLLBACK TO s; SELECT session_append('r3', '{"n": 1}', namespace => 'whole'); COMMIT});
	is_deeply([ $redis->mget('wt:r', 'wt:r3') ], [ numbers(1), numbers(1) ], 'a savepoint');
	run(q{BEGIN; SAVEPOINT s; SELECT session_append('r', '{"n": 2}', namespace => 'whole'); RELEASE s; SAVEPOINT s; SELECT session_append('r', '{"never": 3}', namespace => 'whole'); ROLLBACK TO s; COMMIT});
	tail_is('wt:r', numbers(1, 2), 'a savepoint after another');
	$node->psql('postgres', q{BEGIN; SELECT session_append('r', '{"never": 5}', namespace => 'whole'); SELECT 1/0; COMMIT});
	$node->psql('postgres', q{SELECT session_append('r', '[{"never": 6}, 7]', namespace => 'whole')});
	$node->psql('postgres', q{BEGIN; UPDATE conversation_history SET message = '{"never": 7}'; ROLLBACK});
	$node->psql('postgres', q{CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1)});
	$node->psql('postgres', q{BEGIN; INSERT INTO late VALUES (1); SELECT session_append('r', '{"never": 8}', namespace => 'whole'); COMMIT});
	sync_cache($node);
	tail_is('wt:r', numbers(1, 2), 'statements that fail, and a COMMIT that does');
});
is(scalar(grep { /never/ } @told), 0, 'nothing of that was ever sent to Redis');
is(sqlstate($node, q{BEGIN; SELECT session_append('r', '{"never": 9}', namespace => 'whole'); PREPARE TRANSACTION 'p'}), '0A000', 'a transaction with an append cannot be prepared');
is(sqlstate($node, q{BEGIN; UPDATE conversation_history SET message = '{"never": 10}'; PREPARE TRANSACTION 'p'}), '0A000', '.. nor one that changed messages by hand');
is(value('SELECT count(*) FROM pg_prepared_xacts'), '0', '.. at all');
all_right('after the rollbacks', all => 1);

# ---- size

my $fits = '{"x": "' . 'y' x (2000 - 9) . '"}';
run("SELECT session_append('size', '[$fits, $fits]', namespace => 'fixed')");
is(length($redis->get('ft:size') // ''), 4004, 'a tail of less than cache_max_bytes');
run("SELECT session_append('size', '$fits', namespace => 'fixed')");
is($redis->get('ft:size'), undef, 'one more message, and the tail is larger and is deleted');
is($redis->get('fixed:size'), '{}', '.. the document stays');
run(q{SELECT session_append('size', '{"small": 1}', namespace => 'fixed')});
is(length($redis->get('ft:size') // ''), 4018, 'and smaller again');
run("SELECT session_append('size', (SELECT jsonb_agg(jsonb_build_object('x', repeat('z', 100000))) FROM generate_series(1, 3)), namespace => 'fixed')");
is($redis->get('ft:size'), undef, 'messages that are much too large');
run(q{SELECT session_pop('size', 3, namespace => 'fixed')});
is(length($redis->get('ft:size') // ''), 4018, 'and popped again');
run("SELECT session_save('size', jsonb_build_object('x', repeat('z', 7000)), namespace => 'fixed')");
is($redis->get('fixed:size'), undef, 'a document that is too large');
is(length($redis->get('ft:size') // ''), 4018, '.. does not remove the tail');

# ---- the cost of an append for Redis

sub heard
{
	my ($code) = @_;
	my $before = ($redis->cmd('INFO', 'stats') =~ /^total_net_input_bytes:(\d+)/m)[0];

	$code->();
	return ($redis->cmd('INFO', 'stats') =~ /^total_net_input_bytes:(\d+)/m)[0] - $before;
}

my $text = q{jsonb_build_object('n', i, 'text', (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 6) j))};
run("SELECT session_save('long', jsonb_build_object('doc', repeat('d', 5000)), namespace => 'twenty'); SELECT session_append('long', (SELECT jsonb_agg($text) FROM generate_series(1, 100) i), namespace => 'twenty')");
my %per;
for my $length (100, 10_000)
{
	my $n = $length;

	run("SELECT session_append('long', (SELECT jsonb_agg($text) FROM generate_series(101, 10000) i), namespace => 'twenty')") if $length > 100;
	is(value(q{SELECT last_seq >= 100 FROM conversation_sessions WHERE session_id = 'long'}), 't', "$length messages");
	sync_cache($node);
	my $psql = $node->background_psql('postgres');
	$psql->query_safe('SELECT session_cache_sync()');
	$per{$length} = heard(sub {
		$psql->query_safe("SELECT session_append('long', $text, namespace => 'twenty') FROM (VALUES (@{[ $n++ ]})) v (i); SELECT session_cache_sync()") for 1 .. 25;
	}) / 25;
	$psql->quit;
	my $size = length $redis->get('tt:long');
	ok($size > 4000 && $size < 6000, "(a tail of $size bytes)");
	cmp_ok($per{$length}, '<', 2 * $size, sprintf('an append at message %d sends Redis %d bytes', $length, $per{$length}));
	ok(defined $redis->get('twenty:long'), '(the document has a copy, too)');
}
cmp_ok($per{10_000}, '<', 1.3 * $per{100}, 'the same, however long the history is');
my @sent = grep { /lua\]/ && /d{100}/ } watched($redis, sub { run("SELECT session_append('long', $text, namespace => 'twenty') FROM (VALUES (1)) v (i)") });
is(scalar @sent, 0, 'the document is not sent with it');

# ---- reads make copies again

run("SELECT session_append('used', @{[ some(1, 4) ]}, namespace => 'fixed')");
tail_is('ft:used', numbers(2 .. 4), 'a hot session');
for my $read (q{session_history('used', last => 2, namespace => 'fixed')}, q{session_get('used', namespace => 'fixed')})
{
	$redis->cmd('DEL', 'ft:used');
	value("SELECT count(*) FROM $read");
	soon("a tail that was deleted by hand is back after $read", 1.5, sub { ($redis->get('ft:used') // '') eq numbers(2 .. 4) });
}
run(q{SELECT session_append('glide', '{"n": 1}', namespace => 'slide'); SELECT session_touch('glide', '8 s', namespace => 'slide')});
soon('the tail of a sliding session ends after the slack', 3, sub { !defined $redis->get('st:glide') });
value(q{SELECT * FROM session_history('glide', namespace => 'slide')});
soon('.. and the miss makes it again', 1.5, sub { defined $redis->get('st:glide') });

# ---- namespaces with and without tails

run(q{SELECT session_append('n', '{"n": 1}', namespace => 'none'); SELECT session_history('n', namespace => 'none') FROM generate_series(1, 3)});
is(join(' ', $redis->keys('nt:*'), $redis->keys('none:*')), '', 'cache off: no tail');
run(q{SELECT session_append('l', '{"n": 1}', namespace => 'later')});
is(join(' ', $redis->keys('l*')), 'later:l', 'without a tail_prefix there is no tail');
value(q{UPDATE session_namespaces SET tail_prefix = 'lt:' WHERE name = 'later'});
value(q{SELECT session_history('l', namespace => 'later')});
soon('switched on: a read makes the tail', 5, sub { value(q{SELECT session_history('l', namespace => 'later')}); ($redis->get('lt:l') // '') eq numbers(1) });
run("SELECT session_append('l', @{[ some(2, 6) ]}, namespace => 'later')");
tail_is('lt:l', numbers(4 .. 6), '.. and an append');
value(q{UPDATE session_namespaces SET tail_size = 2 WHERE name = 'later'});
sync_cache($node);
soon('a smaller tail_size: there is no tail of the old size', 5, sub { ($redis->get('lt:l') // '') ne numbers(4 .. 6) });
run(q{SELECT session_append('l', '{"n": 7}', namespace => 'later')});
tail_is('lt:l', numbers(6, 7), '.. but of the new one');
value(q{UPDATE session_namespaces SET tail_size = 4 WHERE name = 'later'});
soon('a larger one', 5, sub { value(q{SELECT session_history('l', namespace => 'later')}); ($redis->get('lt:l') // '') eq numbers(4 .. 7) });
value(q{UPDATE session_namespaces SET tail_prefix = 'moved:' WHERE name = 'later'});
soon('another prefix: tails under the old one are deleted', 5, sub { !$redis->keys('lt:*') });
run(q{SELECT session_append('l', '{"n": 8}', namespace => 'later')});
soon('.. and made under the new one', 5, sub { ($redis->get('moved:l') // '') eq numbers(5 .. 8) });
value(q{UPDATE session_namespaces SET hash_keys = true WHERE name = 'later'});
soon('keys are hashed from now on: the plain key is deleted', 5, sub { !defined $redis->get('moved:l') });
run(q{SELECT session_append('l', '{"n": 9}', namespace => 'later')});
soon('.. and the other made', 5, sub { ($redis->get('moved:' . sha256_hex('l')) // '') eq numbers(6 .. 9) });
value(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'later'});
soon('switched off: the tail is deleted', 5, sub { !$redis->keys('moved:*') && !$redis->keys('later:*') });
# a transaction that began while it was off
my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT session_append('l', '{"n": 10}', namespace => 'later')});
value(q{UPDATE session_namespaces SET cache = 'all', hash_keys = false WHERE name = 'later'});
sync_cache($node);
value(q{SELECT session_history('l', namespace => 'later')});
$open->query_safe('COMMIT');
$open->quit;
sync_cache($node);
like($redis->get('moved:l') // '10}]', qr/10\}\]$/, 'an append from the time before is not missed');
value(q{UPDATE session_namespaces SET tail_prefix = NULL WHERE name = 'later'});
soon('there are no tails any more', 5, sub { !$redis->keys('moved:*') });
run(q{SELECT session_append('l', '{"n": 11}', namespace => 'later')});
is(scalar $redis->keys('moved:*'), 0, '.. for good');
is($redis->get('later:l'), '{}', '.. and documents are there as before');
for my $prefix ('whole:', 'wt:x', 'w', 'twenty:y', 'session_store:')
{
	isnt(sqlstate($node, "INSERT INTO session_namespaces (name, key_prefix, tail_prefix) VALUES ('clash', 'clash:', '$prefix')"), '00000', "a tail_prefix that overlaps another: $prefix");
}
isnt(sqlstate($node, q{INSERT INTO session_namespaces (name, key_prefix, tail_prefix) VALUES ('clash', 'clash:', 'clash:')}), '00000', '.. its own key_prefix');
isnt(sqlstate($node, q{INSERT INTO session_namespaces (name, key_prefix) VALUES ('clash', 'wt:1')}), '00000', 'a key_prefix that overlaps a tail_prefix');
all_right('after changes of namespaces');

# ---- verify, flush

run(qq{SELECT session_append('v' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 3) i});
like(value('SELECT * FROM session_cache_verify()'), qr/^\d+\|0\|\d+\|0$/, 'verify finds nothing wrong');
my $caught = 0;
for my $round (1 .. 3)
{
	my $counted = value(q{SELECT session_health() #>> '{cache,divergence}'});

	$redis->cmd('SET', 'wt:v1', '[{"n": "forged"}]', 'PX', 3_600_000);
	$redis->cmd('SET', 'wt:nobody', '[{"n": "forged"}]', 'PX', 3_600_000);
	my ($checked, $stale, $missing, $orphaned) = one_row($node, 'SELECT * FROM session_cache_verify()');
	# the scrubber may have been first
	soon("a forged tail is corrected (of $checked: $stale stale, $missing missing, $orphaned orphaned)", 5, sub { ($redis->get('wt:v1') // numbers(1)) eq numbers(1) });
	soon('.. and one without a session is deleted', 5, sub { !defined $redis->get('wt:nobody') });
	cmp_ok(value(q{SELECT session_health() #>> '{cache,divergence}'}), '>', $counted, '.. health counts it');
	$caught++ if $stale >= 1 && $orphaned >= 1;
}
cmp_ok($caught, '>=', 1, "verify counts both ($caught of 3 times)");
# a session without messages has no tail, whatever was written to Redis
run(q{SELECT session_save('bare', '{}', namespace => 'whole')});
$redis->cmd('SET', 'wt:bare', '[{"n": "forged"}]', 'PX', 3_600_000);
value('SELECT * FROM session_cache_verify()');
soon('a forged tail of a session without messages', 5, sub { ($redis->get('wt:bare') // '[]') eq '[]' });

# found by the pusher itself
$redis->cmd('SET', 'wt:v2', '[{"n": "forged"}]', 'PX', 3_600_000);
soon('without verify the pusher finds it as well', 20, sub { ($redis->get('wt:v2') // numbers(1)) eq numbers(1) });

run(q{SELECT session_append('w', '{"n": 1}', namespace => 'whole'); SELECT session_append('w', '{"n": 1}', namespace => 'twenty')});
value(q{SELECT session_cache_flush('whole')});
is(join(' ', $redis->keys('whole:*'), $redis->keys('wt:*')), '', 'flush of a namespace deletes its tails');
ok(defined $redis->get('tt:w'), '.. and no others');
value('SELECT session_cache_flush()');
is_deeply(copies_in($redis), {}, 'flush of everything');
run(q{SELECT session_append('w', '{"n": 2}', namespace => 'whole')});
tail_is('wt:w', numbers(1, 2), 'and on it goes');

# ---- faults

# Appends that are fenced: a reader that trusts Redis afterwards must see them.
my $round = 0;
sub append_all
{
	$round++;
	value(qq{SET session_store.fence = 'all'; SELECT session_append('s' || i, '{"n": $round}', namespace => 'whole') FROM generate_series(1, 10) i; SELECT session_append('h' || i, '{"n": $round}', namespace => 'fixed') FROM generate_series(1, 5) i});
	return;
}

my @keys = ((map { "wt:s$_" } 1 .. 10), map { "ft:h$_" } 1 .. 5);

# With the lease a tail is that of the last round, or missing.
sub look_strongly
{
	my ($seconds, $what) = @_;
	my ($start, $trusted, %wrong) = (time, 0);

	while (time - $start < $seconds)
	{
		my ($lease, @values) = eval { $redis->mget('session_store:lease', @keys) };

		usleep(3_000);
		next unless defined $lease;
		$trusted++;
		for my $i (0 .. $#keys)
		{
			$wrong{"$keys[$i] $values[$i]"} = 1 if defined $values[$i] && $values[$i] !~ /"n": $round\}\]/;
		}
	}
	return is(join(' ', sort keys %wrong), '', "$what: strong readers see no old value");
}

append_all();
all_right('before faults');
for (1 .. 5)
{
	append_all();
	$redis->flushall;
}
look_strongly(0.5, 'FLUSHALL');
wait_for_cache($node, $redis, what => '.. it recovers');
refill('.. tails that are read are there again');
all_right('.. and right');

append_all();
sync_cache($node);
$redis->cmd('SAVE');
$redis->kill9;
append_all();
value(q{SELECT session_delete('s10', namespace => 'whole')});
# as the production checklist says
my $away = time;
usleep(50_000) while time - $away < 1.1;
$redis->start;
cmp_ok(scalar $redis->keys('wt:*'), '>', 0, 'appends while Redis is away, which comes back with an old RDB');
look_strongly(1, 'an old RDB');
wait_for_cache($node, $redis, what => '.. it recovers');
refill('.. tails that are read are there again');
all_right('.. and no wrong copy is left');
$redis->{params}{save} = 0;

append_all();
$redis->pause;
append_all();
$redis->resume;
look_strongly(0.5, 'a Redis that hung');
wait_for_cache($node, $redis, what => '.. it recovers');
all_right('.. and the tails are right');

append_all();
sync_cache($node);
my $stopped = pusher_pid($node);
kill 'STOP', $stopped;
append_all();
crash($node, stopped => [$stopped]);
look_strongly(1.5, 'the postmaster is killed after appends');
wait_for_cache($node, $redis, what => '.. the cache is back', timeout => 30);
refill('.. tails that are read are there again');
all_right('.. and right', all => 1);
is(value(q{SELECT count(*) FROM session_history('s1', namespace => 'whole')}), $round, '.. with every message');

# ---- a disabled trigger

is(value(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'conversation_history'::regclass AND tgname = 'zz_history_change' AND tgenabled = 'A'}), '1', 'the trigger of messages');
for my $off ('DISABLE TRIGGER zz_history_change', 'DISABLE TRIGGER ALL', 'ENABLE REPLICA TRIGGER zz_history_change')
{
	append_all();
	value("ALTER TABLE conversation_history $off");
	soon("$off: nothing is cached any more", 5, sub { !(grep { defined $redis->get($_) } @keys) && !defined $redis->get('session_store:lease') });
	wait_for($node, q{SELECT session_health() #>> '{cache,trouble}' LIKE '%ALTER TABLE %conversation_history% ENABLE ALWAYS TRIGGER %' AND session_health() ->> 'warnings' LIKE '%ENABLE ALWAYS%'},
		'.. and health gives the ALTER TABLE to run', timeout => 5, show => 1);
	value(q{UPDATE conversation_history SET message = '{"n": "unseen"}' WHERE message = '{"n": 1}'; SELECT session_append('s1', '{"n": 0}', namespace => 'whole'); SELECT session_pop('s1', namespace => 'whole')});
	is(scalar $redis->keys('wt:*'), 0, '.. nor changes that are made meanwhile');
	# the text of the warning, as often as it is there
	my $tried = time;
	until (defined $redis->get('session_store:lease') || time - $tried > 10)
	{
		my ($alter) = cache_health($node, 'trouble') =~ /(ALTER TABLE .*TRIGGER \w+)/;

		value("SET search_path = ''; $alter") if defined $alter;
		usleep(100_000);
	}
	wait_for_cache($node, $redis, what => 'run, it works again');
	append_all();
	all_right('.. with no wrong copy');
	is(value(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'conversation_history'::regclass AND tgenabled <> 'A' AND NOT tgisinternal}), '0', '.. and all triggers are as before');
}
append_all();
value(q{BEGIN; ALTER TABLE conversation_history DISABLE TRIGGER zz_history_change; UPDATE conversation_history SET message = '{"n": "unheard"}'; ALTER TABLE conversation_history ENABLE ALWAYS TRIGGER zz_history_change; COMMIT});
soon('disabled and enabled in one transaction: the pusher notices that at its next check', 3, sub { !(grep { ($redis->get($_) // 'unheard') !~ /unheard/ } @keys) });
wait_for_cache($node, $redis, what => '.. and continues');
all_right('.. with no wrong copy');
append_all();
for my $rewrite ('VACUUM FULL conversation_history', q{ALTER TABLE conversation_history ALTER COLUMN message TYPE jsonb USING '{"n": "rewritten"}'})
{
	my ($rc, $out, $err) = $node->psql('postgres', $rewrite);

	if ($rc)
	{
		note("$rewrite: $err");
		next;
	}
	soon("$rewrite", 3, sub { sync_cache($node); my $rows = truth(); !(grep { my $copy = $redis->get($_); defined $copy && !same_json($copy, $rows->{$_}{value}) } grep { $rows->{$_} } @keys) });
	wait_for_cache($node, $redis, what => '.. the cache continues');
	all_right('.. with no wrong copy');
}
append_all();
all_right('at the end', all => 0);
cmp_ok(scalar $redis->keys('wt:*'), '>=', 10, '(tails are there)');
# the warning about the forged copies ends with a pass that finds none
value('SELECT * FROM session_cache_verify(1000000)');
wait_for($node, q{SELECT session_health() ->> 'warnings' = '[]'}, '.. and there is no warning', timeout => 120);

leave_no_redis($node, $redis);
done_testing();
