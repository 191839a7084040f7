# Redis holds what the table holds, after every kind of change and for every kind of document, id
# and namespace; and never what was rolled back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA qw(sha256_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $redis = new_redis();
my $node = new_cached_store('cache', $redis, init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, conf => "session_store.cache_max_bytes = 2000\n");

# Runs SQL and waits until Redis has the changes; returns the result of the SQL.
sub run
{
	my $out = $node->safe_psql('postgres', $_[0]);

	sync_cache($node);
	return $out;
}

sub text_of
{
	my ($id, $namespace) = @_;

	$namespace //= 'default';
	return $node->safe_psql('postgres',
		"SELECT session_data::text FROM conversation_sessions WHERE session_id = '$id' AND namespace = '$namespace'");
}

# Waits until the value of a key passes a check.
$node->safe_psql('postgres', <<'EOS');
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache) VALUES
	('whole', 'whole:', '1 hour', false, 'all'),
	('slide', 'slide:', '80 s', true, 'all'),
	('fixed', 'fixed:', '1 hour', false, 'hot'),
	('none', 'none:', '1 hour', false, 'off');
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, cache_ttl, hot_uses) VALUES ('third', 'third:', false, 'hot', '1 minute', 3);
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, cache_ttl) VALUES ('brief', 'brief:', false, 'hot', '7 s');
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, max_lifetime) VALUES ('mortal', 'mortal:', false, 'all', '20 s');
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, hash_keys) VALUES ('hashed', 'hashed:', false, 'all', true);
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, max_sessions_per_owner, tombstone) VALUES ('quota', 'quota:', false, 'all', 2, '0');
EOS

# ---- a save is there, as text, at once

my $document = q({"b": [1, 2.50, {"c": null}], "a": "\u00e4 \" \\\\ /", "empty": {}});
is(run("SELECT session_save('s1', '$document')"), '1', 'a save');
is($redis->get('session:s1'), text_of('s1'), 'GET returns the text of the document');
like($redis->get('session:s1'), qr/^\{"a": "\xc3\xa4 \\"/, '.. which is plain JSON');
run(q{SELECT session_save('s1', '{"n": 2}')});
is($redis->get('session:s1'), '{"n": 2}', 'a second save');

my @lags;
for my $n (1 .. 20)
{
	$node->safe_psql('postgres', "SELECT session_save('lag', '{\"n\": $n}')");
	my $start = time;
	usleep(500) until ($redis->get('session:lag') // '') eq "{\"n\": $n}" || time - $start > 2;
	push @lags, time - $start;
}
@lags = sort { $a <=> $b } @lags;
cmp_ok($lags[-1], '<', 1, sprintf('nobody has to ask for it (%.1f ms after the client at most)', 1000 * $lags[-1]));

# values that look like a miss
for my $value ('{}', 'null', '[]', '0', '""', 'false', '"text"', '-1.5e3')
{
	run("SELECT session_save('value', '$value')");
	is($redis->get('session:value'), text_of('value'), "the value $value");
}

# ---- lifetimes of copies

# [namespace, ttl or NULL, maximum in ms, what]
for my $case (
	[ 'default', 'NULL', 300_000, 'sliding: the slack is at most 5 minutes' ],
	[ 'slide', 'NULL', 10_000, 'sliding: an eighth of the ttl' ],
	[ 'slide', q{'8 s'}, 1_000, q{sliding: an eighth of the session's own ttl} ],
	[ 'fixed', 'NULL', 300_000, 'hot: at most cache_ttl' ],
	[ 'fixed', q{'100 s'}, 100_000, 'hot: at most the end' ],
	[ 'brief', 'NULL', 7_000, 'hot: a cache_ttl of its own' ],
	[ 'whole', 'NULL', 3_600_000, 'all: the whole life' ],
	[ 'whole', q{'30 days'}, 30 * 86_400_000, 'all: a long life' ],
	[ 'mortal', 'NULL', 20_000, 'at most max_lifetime' ])
{
	my ($namespace, $ttl, $most, $what) = @$case;
	my $prefix = $namespace eq 'default' ? 'session' : $namespace;

	run("SELECT session_save('end$most', '{}', ttl => $ttl, namespace => '$namespace')");
	my $left = $redis->pttl("$prefix:end$most");
	ok($left <= $most && $left > $most - 2000 - $most / 100, "$what ($left of $most ms)");
}
# [namespace, expires_at, maximum in ms, what]
for my $case (
	[ 'slide', q{clock_timestamp() + interval '2 hours'}, 7_200_000, 'a fixed expiry does not slide' ],
	[ 'fixed', q{clock_timestamp() + interval '2 hours'}, 300_000, 'hot: at most cache_ttl' ],
	[ 'fixed', q{clock_timestamp() + interval '90 s'}, 90_000, 'hot: at most the fixed expiry' ],
	[ 'whole', q{clock_timestamp() + interval '2 hours'}, 7_200_000, 'all: until the fixed expiry' ],
	[ 'whole', q{'infinity'}, 300_000, 'all: at most cache_ttl if the session is kept until it is deleted' ])
{
	my ($namespace, $expires_at, $most, $what) = @$case;

	run("SELECT session_save('fix$most', '{}', expires_at => $expires_at, namespace => '$namespace')");
	my $left = $redis->pttl("$namespace:fix$most");
	ok($left <= $most && $left > $most - 2000 - $most / 100, "$what ($left of $most ms)");
}
run(q{SELECT session_touch('fix7200000', expires_at => clock_timestamp() + interval '1 hour', namespace => 'whole')});
my $shorter = $redis->pttl('whole:fix7200000');
ok($shorter <= 3_600_000 && $shorter > 3_500_000, "an earlier expiry shortens the copy ($shorter ms)");
run(q{SELECT session_save('fix7200000', '{}', expires_at => '2000-01-01', namespace => 'whole')});
is($redis->get('whole:fix7200000'), undef, '.. and one in the past removes it');

run(q{SELECT session_save('exact', '{}', ttl => '1 minute', namespace => 'whole')});
my $late = $redis->cmd('PEXPIRETIME', 'whole:exact')
  - $node->safe_psql('postgres', q{SELECT (1000 * extract(epoch FROM expires_at))::bigint FROM conversation_sessions WHERE session_id = 'exact'});
ok($late <= 2 && $late > -100, "a copy ends with its session ($late ms)");

# ---- the calls

run(q{SELECT session_save('c', '{"a": {"x": 1}}', namespace => 'whole'); SELECT session_merge('c', '{"a": {"y": 2}, "b": 1}', namespace => 'whole')});
is($redis->get('whole:c'), '{"a": {"x": 1, "y": 2}, "b": 1}', 'merge');
run(q{SELECT session_incr('c', '{b}', namespace => 'whole')});
is($redis->get('whole:c'), '{"a": {"x": 1, "y": 2}, "b": 2}', 'incr');
run(q{SELECT session_incr('c', '{b}', max => 2, namespace => 'whole')});
is($redis->get('whole:c'), '{"a": {"x": 1, "y": 2}, "b": 2}', 'incr that would exceed max');

my @told = watched($redis, sub { run(q{SELECT session_touch('c', '2 hours', namespace => 'whole')}) });
my @lua = grep { /lua\].*whole:c/ } @told;
cmp_ok($redis->pttl('whole:c'), '>', 7_100_000, 'touch moves the end');
is($redis->get('whole:c'), text_of('c', 'whole'), '.. and leaves the document');
ok(@lua && !(grep { /"SET"/i } @lua) && (grep { /"PEXPIREAT"/i } @lua), '.. and it is not sent again');
run(q{SELECT session_touch('c', '20 s', namespace => 'whole')});
my $left = $redis->pttl('whole:c');
ok($left <= 20_000 && $left > 15_000, "a shorter ttl shortens the copy ($left ms)");
run(q{SELECT session_touch('c', '1 hour', namespace => 'whole')});

my $new = run(q{SELECT session_regenerate('c', namespace => 'whole')});
is($redis->get('whole:c'), undef, 'regenerate: the old key is gone');
is($redis->get("whole:$new"), text_of($new, 'whole'), '.. and the new one there');
run("SELECT session_delete('$new', namespace => 'whole')");
is($redis->get("whole:$new"), undef, 'delete');

my $id = run(q{SELECT session_create('{"new": 1}', namespace => 'whole')});
is($redis->get("whole:$id"), '{"new": 1}', 'create');

run(q{SELECT session_save('o' || i, '{}', owner => 'u', namespace => 'whole') FROM generate_series(1, 5) i});
is(scalar $redis->keys('whole:o[1-5]'), 5, 'five sessions of an owner');
run(q{SELECT session_delete_all('u', except_session_id => 'o3', namespace => 'whole')});
is(join(' ', $redis->keys('whole:o[1-5]')), 'whole:o3', 'delete_all');
run(q{SELECT session_save('p' || i, '{}', namespace => 'whole') FROM generate_series(1, 5) i; SELECT session_clear('whole', 'p%')});
is(scalar $redis->keys('whole:p*'), 0, 'clear by a pattern');
run(q{SELECT session_clear('whole')});
is(scalar $redis->keys('whole:*'), 0, 'clear of a namespace');

run(q{SELECT session_save('q' || i, '{}', owner => 'w', namespace => 'quota') FROM generate_series(1, 2) i});
is(join(' ', $redis->keys('quota:*')), 'quota:q1 quota:q2', 'a quota, filled');
run(q{SELECT session_save('q3', '{}', owner => 'w', namespace => 'quota')});
my @quota = $redis->keys('quota:*');
ok(@quota == 2 && $quota[1] eq 'quota:q3', "the evicted session has no copy (@quota)");
compare_all($node, $redis, 'after the calls', all => 1);

# ---- plain SQL

run(q{INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('whole', 'i1', '{"i": 1}'), ('whole', 'i2', '{"i": 2}'), ('whole', 'i3', '{"i": 3}')});
is(join(' ', $redis->mget(map { "whole:i$_" } 1 .. 3)), '{"i": 1} {"i": 2} {"i": 3}', 'INSERT');
run(q{UPDATE conversation_sessions SET session_data = '{"i": 22}' WHERE session_id = 'i2'});
is($redis->get('whole:i2'), '{"i": 22}', 'UPDATE of the document');
run(q{UPDATE conversation_sessions SET session_id = 'j2' WHERE session_id = 'i2'});
is_deeply([ $redis->mget('whole:i2', 'whole:j2') ], [ undef, '{"i": 22}' ], 'UPDATE of the id');
run(q{UPDATE conversation_sessions SET namespace = 'fixed' WHERE session_id = 'j2'});
is_deeply([ $redis->mget('whole:j2', 'fixed:j2') ], [ undef, '{"i": 22}' ], 'UPDATE of the namespace');
run(q{UPDATE conversation_sessions SET namespace = 'none' WHERE session_id = 'j2'});
is_deeply([ $redis->mget('fixed:j2', 'none:j2') ], [ undef, undef ], '.. to one without a cache');
run(q{UPDATE conversation_sessions SET session_id = CASE session_id WHEN 'i1' THEN 'k1' ELSE 'k3' END WHERE session_id IN ('i1', 'i3')});
is(join(' ', $redis->keys('whole:*')), 'whole:k1 whole:k3', 'UPDATE of several ids');
run(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 s' WHERE session_id = 'k1'});
$left = $redis->pttl('whole:k1');
ok($left <= 30_000 && $left > 25_000, "UPDATE of the end ($left ms)");
run(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE session_id = 'k1'});
is($redis->get('whole:k1'), undef, '.. into the past');
run(q{DELETE FROM conversation_sessions WHERE session_id = 'k3'});
is($redis->get('whole:k3'), undef, 'DELETE');
run(qq{COPY conversation_sessions (namespace, session_id, session_data) FROM STDIN;\nwhole\tcopied1\t{"c": 1}\nwhole\tcopied2\t{"c": 2}\n\\.\n});
is(join(' ', $redis->mget('whole:copied1', 'whole:copied2')), '{"c": 1} {"c": 2}', 'COPY');
run(q{INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('whole', 'copied1', '{"c": 3}') ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data});
is($redis->get('whole:copied1'), '{"c": 3}', 'INSERT .. ON CONFLICT DO UPDATE');
run(q{MERGE INTO conversation_sessions s USING (VALUES ('copied2')) v (id) ON s.session_id = v.id WHEN MATCHED THEN UPDATE SET session_data = '{"c": 4}'});
is($redis->get('whole:copied2'), '{"c": 4}', 'MERGE');
compare_all($node, $redis, 'after plain SQL', all => 1);
run('TRUNCATE conversation_sessions');
is_deeply(copies_in($redis), {}, 'TRUNCATE');

# several changes of one session in one transaction
run(q{BEGIN; SELECT session_save('t', '{"n": 1}', namespace => 'whole'); SELECT session_save('t', '{"n": 2}', namespace => 'whole');
SELECT session_delete('t', namespace => 'whole'); SELECT session_save('t', '{"n": 3}', if_version => 0, namespace => 'whole'); COMMIT});
is($redis->get('whole:t'), '{"n": 3}', 'the last of several changes');

# ---- rollbacks

run(q{SELECT session_save('r', '{"n": 1}', namespace => 'whole')});
@told = watched($redis, sub {
	run(q{BEGIN; SELECT session_save('r', '{"never": 1}', namespace => 'whole'); SELECT session_save('r2', '{"never": 1}', namespace => 'whole'); ROLLBACK});
	is($redis->get('whole:r'), '{"n": 1}', 'a save that is rolled back');
	is($redis->get('whole:r2'), undef, '.. and one of a new session');
	run(q{BEGIN; SELECT session_delete('r', namespace => 'whole'); ROLLBACK});
	is($redis->get('whole:r'), '{"n": 1}', 'a delete that is rolled back');
	run(q{BEGIN; SAVEPOINT s; SELECT session_save('r', '{"never": 2}', namespace => 'whole'); ROLLBACK TO s; SELECT session_save('r3', '{"n": 1}', namespace => 'whole'); COMMIT});
	is_deeply([ $redis->mget('whole:r', 'whole:r3') ], [ '{"n": 1}', '{"n": 1}' ], 'a savepoint');
	run(q{BEGIN; SAVEPOINT s; SELECT session_save('r', '{"n": 2}', namespace => 'whole'); RELEASE s; SAVEPOINT s; SELECT session_save('r', '{"never": 3}', namespace => 'whole'); ROLLBACK TO s; COMMIT});
	is($redis->get('whole:r'), '{"n": 2}', 'a savepoint that follows another');
	$node->psql('postgres', q{SELECT session_save('r', '{"never": 4}', namespace => 'whole'), 1 / (session_version - session_version) FROM (SELECT 1 AS session_version) x});
	$node->psql('postgres', q{BEGIN; SELECT session_save('r', '{"never": 5}', namespace => 'whole'); SELECT 1/0; COMMIT});
	$node->psql('postgres', q{UPDATE conversation_sessions SET session_data = '{"never": 6}', expires_at = NULL WHERE session_id = 'r'});
	$node->psql('postgres', q{SELECT session_save('r', '{"never": 7}', if_version => 99, namespace => 'whole')});
	# it fails at COMMIT, after the keys were entered
	$node->psql('postgres', q{CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1)});
	$node->psql('postgres', q{BEGIN; INSERT INTO late VALUES (1); SELECT session_save('r', '{"never": 8}', namespace => 'whole'); COMMIT});
	sync_cache($node);
	is($redis->get('whole:r'), '{"n": 2}', 'statements that fail, and a COMMIT that does');
});
is(scalar(grep { /never/ } @told), 0, 'nothing of that was ever sent to Redis');
compare_all($node, $redis, 'after the rollbacks', all => 1);

# ---- too large

my $fits = '{"x": "' . 'y' x (2000 - 9) . '"}';
my $over = '{"x": "' . 'y' x (2001 - 9) . '"}';
run("SELECT session_save('size', '$fits', namespace => 'whole')");
is($redis->get('whole:size'), $fits, 'a document of cache_max_bytes');
run("SELECT session_save('size', '$over', namespace => 'whole')");
is($redis->get('whole:size'), undef, 'one byte more, and the copy is deleted');
my $huge = q{(SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 20000) i)};
run("SELECT session_save('huge', $huge, namespace => 'whole')");
is($redis->get('whole:huge'), undef, 'a document that is much too large');
run(q{SELECT session_save('size', '{"small": 1}', namespace => 'whole')});
is($redis->get('whole:size'), '{"small": 1}', 'and smaller again');
set_conf($node, cache_max_bytes => '1MB');
soon('the setting by reload', 10, sub {
	run("SELECT session_save('huge', $huge, namespace => 'whole')");
	($redis->get('whole:huge') // '') eq text_of('huge', 'whole');
});

# ---- ids

my $two = "\xc3\xa9";
for my $name ('a b', q{it's}, 'say "x"', 'back\\slash', '*', '?[a-z]', '%s%n', '{curly}', "$two-\xe6\xbc\xa2\xe5\xad\x97-\xf0\x9f\x98\x80",
	'x' x 200, $two x 100, 'a:b:c', '$6', '+OK', '-ERR', "'; DROP", "\$1|\x7c")
{
	my $quoted = $name =~ s/'/''/gr;

	run("SELECT session_save('$quoted', '{\"is\": 1}', namespace => 'whole'); SELECT session_save('$quoted', '{\"is\": 2}', namespace => 'hashed')");
	is($redis->get("whole:$name"), '{"is": 1}', 'an id: ' . (length $name > 40 ? length($name) . ' bytes' : $name));
	is($redis->get('hashed:' . sha256_hex($name)), '{"is": 2}', '.. hashed');
	is($redis->get("hashed:$name"), undef, '.. and not plain');
}
run(q{SELECT session_delete('a b', namespace => 'hashed')});
is($redis->get('hashed:' . sha256_hex('a b')), undef, 'delete under a hashed key');
compare_all($node, $redis, 'with all these ids', all => 1);

# ---- namespaces with and without a cache

run(q{SELECT session_save('n', '{}', namespace => 'none'); SELECT session_get('n', namespace => 'none') FROM generate_series(1, 5)});
is(scalar $redis->keys('none:*'), 0, 'cache off: no copy');

run(q{SELECT session_save('n', '{}', namespace => 'third')});
is($redis->get('third:n'), undef, 'hot_uses 3: no copy at the first use');
$node->safe_psql('postgres', q{SELECT session_get('n', namespace => 'third')});
usleep(300_000);
is($redis->get('third:n'), undef, '.. nor at the second');
$node->safe_psql('postgres', q{SELECT session_get('n', namespace => 'third')});
soon('but at the third', 2, sub { defined $redis->get('third:n') });
run(q{SELECT session_save('many', '{}', namespace => 'third')});
$node->safe_psql('postgres', q{SELECT session_get_many('{many,none,many}', 'third')});
soon('each element that session_get_many reads is a use', 2, sub { defined $redis->get('third:many') });
run(q{SELECT session_save('m', '{"n": 1}', namespace => 'third'); SELECT session_save('m', '{"n": 2}', namespace => 'third')});
is($redis->get('third:m'), undef, 'two changes are two uses');
run(q{SELECT session_save('m', '{"n": 3}', namespace => 'third')});
is($redis->get('third:m'), '{"n": 3}', 'three are three');

run(q{SELECT session_save('f', '{"n": 1}', namespace => 'fixed')});
my @before = $redis->keys('whole:*');
cmp_ok(scalar @before, '>', 10, 'a namespace with copies');
$node->safe_psql('postgres', q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'whole'});
soon('switched off, its copies are deleted', 5, sub { !$redis->keys('whole:*') });
run(q{SELECT session_save('size', '{"off": 1}', namespace => 'whole')});
is($redis->get('whole:size'), undef, '.. and none is made');
$node->safe_psql('postgres', q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'whole'});
run(q{SELECT session_save('again', '{"on": 1}', namespace => 'whole')});
soon('switched on, it works again', 5, sub { ($redis->get('whole:again') // '') eq '{"on": 1}' });
$node->safe_psql('postgres', q{SELECT session_get('size', namespace => 'whole')});
soon('.. for sessions from before', 5, sub { ($redis->get('whole:size') // '') eq '{"off": 1}' });

# a transaction that began while it was off
$node->safe_psql('postgres', q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'whole'});
soon('off once more', 5, sub { !$redis->keys('whole:*') });
my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT session_save('again', '{"on": 2}', namespace => 'whole')});
$node->safe_psql('postgres', q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'whole'});
sync_cache($node);
$node->safe_psql('postgres', q{SELECT session_get('again', namespace => 'whole')});
usleep(300_000);
$open->query_safe('COMMIT');
$open->quit;
sync_cache($node);
my $copy = $redis->get('whole:again');
ok(!defined $copy || $copy eq '{"on": 2}', 'a change from before is not missed');

$node->safe_psql('postgres', q{UPDATE session_namespaces SET key_prefix = 'moved:' WHERE name = 'whole'});
soon('another prefix: copies under the old one are deleted', 5, sub { !$redis->keys('whole:*') });
run(q{SELECT session_save('again', '{"on": 3}', namespace => 'whole')});
soon('.. and made under the new one', 5, sub { ($redis->get('moved:again') // '') eq '{"on": 3}' });
is(scalar $redis->keys('whole:*'), 0, '.. only');

run(q{SELECT session_save('h', '{"n": 1}', namespace => 'fixed')});
$node->safe_psql('postgres', q{UPDATE session_namespaces SET hash_keys = true WHERE name = 'fixed'});
soon('keys are hashed from now on: the plain ones are deleted', 5, sub { !defined $redis->get('fixed:h') });
run(q{SELECT session_save('h', '{"n": 2}', namespace => 'fixed')});
soon('.. and the others made', 5, sub { ($redis->get('fixed:' . sha256_hex('h')) // '') eq '{"n": 2}' });
is($redis->get('fixed:h'), undef, '.. only');

$node->safe_psql('postgres', <<'EOS');
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, owner_isolation) VALUES ('mine', 'mine:', false, 'all', true);
INSERT INTO session_namespaces (name, key_prefix, sliding, cache, owner_isolation, hash_keys) VALUES ('ours', 'ours:', false, 'all', true, true);
EOS
run(q{SELECT session_save('x', '{}', owner => 'u', namespace => ns) FROM unnest('{mine,ours}'::text[]) ns});
is(scalar $redis->keys('mine:*'), 0, 'owner_isolation without hash_keys is not cached');
soon('with hash_keys it is', 5, sub { defined $redis->get('ours:' . sha256_hex('x')) });

run(q{DELETE FROM conversation_sessions WHERE namespace = 'quota'});
$node->safe_psql('postgres', q{DELETE FROM session_namespaces WHERE name = 'quota'});
soon('a deleted namespace leaves no copy', 5, sub { !$redis->keys('quota:*') });

# ---- without calls

run(q{SELECT session_save('short', '{}', ttl => '700 ms', namespace => 'whole')});
ok(defined $redis->get('moved:short'), 'a session with a short ttl has a copy');
soon('.. which ends by itself', 2, sub { !defined $redis->get('moved:short') });

run(q{SELECT session_save('used', '{"n": 1}')});
is($redis->get('session:used'), '{"n": 1}', 'a hot session');
usleep(1_000_000);
$redis->cmd('DEL', 'session:used');
$node->safe_psql('postgres', q{SELECT session_get('used')});
soon('a copy that was deleted by hand is made again after a read', 1.5, sub { ($redis->get('session:used') // '') eq '{"n": 1}' });
$redis->cmd('DEL', 'session:used');
$node->safe_psql('postgres', q{SELECT session_get('used')});
soon('.. and once more, at once', 1.5, sub { ($redis->get('session:used') // '') eq '{"n": 1}' });
run(q{SELECT session_save('used2', '{"n": 1}', namespace => 'whole')});
$redis->cmd('DEL', 'moved:used2');
$node->safe_psql('postgres', q{SELECT session_fetch('used2', namespace => 'whole')});
soon('.. by fetch, in a namespace that is cached as a whole', 1.5, sub { ($redis->get('moved:used2') // '') eq '{"n": 1}' });

# a session that is not used any more loses its copy
run(q{SELECT session_save('cold', '{}', ttl => '1 hour', namespace => 'brief')});
ok(defined $redis->get('brief:cold'), 'a session is hot for 7 s');
soon('.. and is not, later', 8, sub { !defined $redis->get('brief:cold') });
is($node->safe_psql('postgres', q{SELECT session_exists('cold', namespace => 'brief')}), 't', '.. and is still in Postgres');

# the copy of a sliding session ends, and is made again after a read that slides
run(q{SELECT session_save('glide', '{}', ttl => '8 s', namespace => 'slide')});
soon('the copy of a sliding session ends after the slack', 3, sub { !defined $redis->get('slide:glide') });
$node->safe_psql('postgres', q{SELECT session_get('glide', namespace => 'slide')});
soon('.. and the miss makes it again', 1.5, sub { defined $redis->get('slide:glide') });

# ---- verify, flush

sync_cache($node);
like($node->safe_psql('postgres', 'SELECT * FROM session_cache_verify()'), qr/^\d+\|0\|\d+\|0$/, 'verify finds nothing wrong');
run(q{SELECT session_save('wrong' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 3) i});
$redis->cmd('SET', 'moved:wrong1', '{"n": 0}', 'PX', 3_600_000);
$redis->cmd('SET', 'moved:nobody', '{"n": 0}', 'PX', 3_600_000);
my ($checked, $stale, $missing, $orphaned) = one_row($node, 'SELECT * FROM session_cache_verify()');
cmp_ok($checked, '>', 3, "verify compares copies ($checked)");
# the scrubber may have been first
soon('.. wrong copies are corrected', 5, sub { ($redis->get('moved:wrong1') // '{"n": 1}') eq '{"n": 1}' });
soon('.. and copies without a session deleted', 5, sub { !defined $redis->get('moved:nobody') });
ok($stale + $orphaned >= 1, "(stale $stale, missing $missing, orphaned $orphaned)");

# documents that are too large to be read at once are compared all the same
run(q{SELECT session_save('heavy' || i, jsonb_build_object('n', i, 'x', repeat('y', 200000)), namespace => 'whole') FROM generate_series(1, 4) i});
my $light = 'y' x 200_000;
# the scrubber may find them first
my $found = cache_health($node, 'divergence');
$redis->cmd('SET', "moved:heavy$_", qq({"n": 0, "x": "$light"}), 'PX', 3_600_000) for 1 .. 4;
one_row($node, 'SELECT * FROM session_cache_verify()');
soon('large copies are corrected', 15, sub { !grep { ($redis->get("moved:heavy$_") // '') =~ /"n": 0/ } 1 .. 4 });
cmp_ok(cache_health($node, 'divergence') - $found, '>=', 4, '.. all that were wrong');
run(q{SELECT session_delete('heavy' || i, namespace => 'whole') FROM generate_series(1, 4) i});

# a sample that is larger than the number of sessions ends with the last one, and delays no other work
run(q{SELECT session_save('many' || i, jsonb_build_object('n', i), namespace => 'whole') FROM generate_series(1, 200) i});
my $verify = $node->background_psql('postgres', on_error_stop => 0);
my $began = time;
$verify->query_until(qr/began/, "\\echo began\nSELECT checked > 0 FROM session_cache_verify(100000);\n\\echo :LAST_ERROR_SQLSTATE\n");
$node->safe_psql('postgres', q{SELECT session_save('meanwhile', '{}', namespace => 'whole')});
soon('a save is pushed while a large sample is verified', 1, sub { defined $redis->get('moved:meanwhile') });
my $verified = $verify->query('SELECT 1');
$verify->quit;
like($verified, qr/^t\n00000\n1$/, 'verify with a sample larger than the number of sessions');
in_time(time - $began, 5, '.. ends');
wait_for_cache($node, $redis, what => '.. and strong readers may trust Redis');

run(q{SELECT session_save('w', '{}', namespace => 'whole'); SELECT session_save('w', '{}')});
cmp_ok($node->safe_psql('postgres', q{SELECT session_cache_flush('whole')}), '>', 3, 'flush of a namespace');
is(scalar $redis->keys('moved:*'), 0, '.. deletes its copies');
ok(defined $redis->get('session:w'), '.. and no others');
cmp_ok($node->safe_psql('postgres', 'SELECT session_cache_flush()'), '>=', 1, 'flush of everything');
is_deeply(copies_in($redis), {}, '.. deletes all');
run(q{SELECT session_save('w', '{"n": 1}')});
is($redis->get('session:w'), '{"n": 1}', '.. and the cache continues');
compare_all($node, $redis, 'at the end');
wait_for_cache($node, $redis, what => 'strong readers may trust Redis');

# ---- keys of others

$redis->cmd('SET', 'foreign', 'value');
$redis->cmd('SET', 'sess', 'value');
$node->safe_psql('postgres', 'SELECT session_cache_flush()');
is_deeply([ $redis->mget('foreign', 'sess') ], [ 'value', 'value' ], 'keys of others are kept');
sync_cache($node);
is($node->safe_psql('postgres', q{SELECT session_health() #>> '{cache,divergence}'}) ne '', 1, 'health counts divergence');

leave_no_redis($node, $redis, other => [ 'foreign', 'sess' ]);
done_testing();
