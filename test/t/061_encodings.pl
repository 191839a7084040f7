# Databases of any encoding: Redis gets documents, tails, keys and hashes of keys in UTF-8.
# Strong readers find a session by its UTF-8 name, a logout is fenced, samples are compared
# correctly, and what cannot be converted has no copy and holds nothing up.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA qw(sha256_hex);
use Encode ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $redis = new_redis();
my $node = new_store('encodings', init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, extension => 0, conf => <<'EOC');
session_store.lease = 1s
max_worker_processes = 20
EOC

# A database, the words that are stored in it, and the length in bytes of the first one there.
my %databases = (
	latin1 => { encoding => 'LATIN1', db => 1, words => [ 'é', 'ßäÿ', 'Ünïcode' ], bytes => 1 },
	eucjp => { encoding => 'EUC_JP', db => 2, words => [ '漢', 'かな', 'カタカナ' ], bytes => 2 },
	sqlascii => { encoding => 'SQL_ASCII', db => 3, words => [ 'é', '漢字', '😀' ], bytes => 2 },
	utf8 => { encoding => 'UTF8', db => 4, words => [ 'é', '漢字', '😀' ], bytes => 2 },
	win1251 => { encoding => 'WIN1251', db => 5, words => [ 'ж', 'Привет', '№' ], bytes => 1 },
	mule => { encoding => 'MULE_INTERNAL', db => 6, words => [ 'a', 'bc', 'ASCII only' ], bytes => 1 },
);

sub utf8
{
	return Encode::encode('UTF-8', $_[0]);
}

sub sql
{
	my ($name, $sql) = @_;

	# text that is not UTF-8 is sent as it is if the server does not convert it
	return $node->safe_psql($name, ($databases{$name}{encoding} =~ /SQL_ASCII|MULE/ ? '' : "SET client_encoding = 'UTF8';\n") . utf8($sql));
}

for my $name (sort keys %databases)
{
	my $d = $databases{$name};

	$node->safe_psql('postgres', "CREATE DATABASE $name ENCODING '$d->{encoding}' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql('postgres', "ALTER DATABASE $name SET session_store.redis_db = $d->{db}");
}
set_conf($node, redis_url => $redis->url);

for my $name (sort keys %databases)
{
	my $d = $databases{$name};
	my $client = $redis->client(db => $d->{db});
	my @words = @{ $d->{words} };
	my $prefix = $name eq 'mule' ? 'pre:' : "$words[0]:";

	create_extension($node, $name);
	sql($name, "INSERT INTO session_namespaces (name, key_prefix, tail_prefix, sliding, cache, hash_keys) VALUES
		('whole', '${prefix}whole:', '${prefix}tail:', false, 'all', false), ('hashed', '${prefix}hash:', NULL, false, 'all', true)");
	wait_for_cache($node, $redis, db => $name, redis_db => $d->{db}, what => "$name: the cache is up");
	is(sql($name, "SELECT octet_length('$words[0]')"), $d->{bytes}, "$name: text is stored in $d->{encoding}") unless $name eq 'mule';

	my $strong = sub {
		my ($lease, $copy) = $client->mget('session_store:lease', utf8($_[0]));
		return defined $lease ? $copy : undef;
	};
	for my $word (@words)
	{
		my $long = $word x 60;
		my $json = "{\"$word\": \"$long\\n\"}";

		sql($name, "SELECT session_save('$word', '$json', namespace => 'whole'), session_save('$word', '$json', namespace => 'hashed');
			SELECT session_append('$word', '$json', namespace => 'whole')");
		sync_cache($node, db => $name);
		is($client->get(utf8("${prefix}whole:$word")), utf8($json), "$name: a document under its key");
		is($client->get(utf8("${prefix}tail:$word")), utf8("[$json]"), "$name: a tail");
		is($client->get(utf8("${prefix}hash:") . sha256_hex(utf8($word))), utf8($json), "$name: the hash is over UTF-8");
		soon("$name: a strong reader finds it", 10, sub { ($strong->("${prefix}whole:$word") // '') eq utf8($json) });
	}
	# JSON that jsonb refuses, as a value and in names; a surrogate pair is a character, if the
	# encoding has it
	for my $word (@words)
	{
		my $json = "{\"$word\\u0000\": [\"\\ud800$word\\udc00\\u0010\"]}";

		is(sql($name, "SELECT session_json_decode(session_json_encode('$json')) = '$json'"), 't', "$name: encoded and decoded");
	}
	for my $json ('"\\ud83d\\ude00"', '"\\u00e9"', '"\\u20ac"')
	{
		is(sqlstate($node, "SELECT session_json_encode('$json') = '$json'::jsonb", db => $name), sqlstate($node, "SELECT '$json'::jsonb", db => $name), "$name: $json is as for jsonb");
	}
	# a document that is converted in several pieces
	my $large = join '', map { $words[ $_ % 3 ] . 'x' x ($_ % 7) } 1 .. 9000;
	sql($name, "SELECT session_save('large', '\"$large\"', namespace => 'whole')");
	sync_cache($node, db => $name);
	is($client->get(utf8("${prefix}whole:large")), utf8("\"$large\""), "$name: a large document");

	# fences: when the logout returns, no reader sees the session
	for my $word (@words)
	{
		is(sql($name, "SELECT session_delete('$word', namespace => 'whole')"), 't', "$name: a logout");
		is($client->get(utf8("${prefix}whole:$word")), undef, "$name: .. when it returns, there is no copy");
		is($client->get(utf8("${prefix}tail:$word")), undef, "$name: .. nor a tail");
		is(sql($name, "SELECT session_delete('$word', namespace => 'hashed')"), 't', "$name: .. hashed");
		is($client->get(utf8("${prefix}hash:") . sha256_hex(utf8($word))), undef, "$name: .. no copy");
	}

	# the sample finds the session of each key
	sql($name, "SELECT session_save('$_', '\"$_\"', namespace => 'whole')") for map { "$_ again" } @words;
	sync_cache($node, db => $name);
	my ($checked, $stale, $missing, $orphaned) = one_row($node, 'SELECT * FROM session_cache_verify()', $name);
	cmp_ok($checked, '>', 0, "$name: a verification");
	is("$stale $missing $orphaned", '0 0 0', "$name: .. finds nothing wrong");
	$client->cmd('SET', utf8("${prefix}whole:$words[1] again"), 'forged');
	$client->cmd('SET', utf8("${prefix}whole:$words[2] nobody"), 'forged');
	sql($name, 'SELECT * FROM session_cache_verify()');
	sync_cache($node, db => $name);
	is($client->get(utf8("${prefix}whole:$words[1] again")), utf8("\"$words[1] again\""), "$name: .. a forged copy is corrected");
	is($client->get(utf8("${prefix}whole:$words[2] nobody")), undef, "$name: .. an orphan is removed");
	# keys that are not valid in the encoding of this database are not judged
	$client->cmd('SET', "pre:\xff\xfe", 'x');
	$client->cmd('SET', utf8("${prefix}whole:") . "\xff", 'x');
	$client->cmd('SET', utf8("${prefix}whole:\x{1f4a9}"), 'x') if $name =~ /latin1|eucjp|win1251/;
	sql($name, 'SELECT * FROM session_cache_verify()');
	sync_cache($node, db => $name);
	is($client->get(utf8("${prefix}whole:") . "\xff"), 'x', "$name: .. and leaves keys alone that are not text");
	is($node->safe_psql($name, q{SELECT session_health() #>> '{cache,connected}'}), 'true', "$name: .. keys that its encoding does not have do no harm");
}

# ---- text that cannot be converted

my $ascii = $redis->client(db => 3);
$node->safe_psql('sqlascii', q{SELECT session_save(E'bad \xff id', '{"n": 1}', namespace => 'whole'), session_save(E'bad \xff id', '{"n": 1}', namespace => 'hashed'),
	session_save('bad document', jsonb_build_object('n', E'bad \xe9'), namespace => 'whole'), session_save('bad name', jsonb_build_object(E'\xc3', 1), namespace => 'whole'),
	session_save('good', '{"n": 2}', namespace => 'whole')});
$node->safe_psql('sqlascii', q{SELECT session_append('bad tail', jsonb_build_object('n', E'\xff'), namespace => 'whole')});
sync_cache($node, db => 'sqlascii');
my $pre = utf8('é');
is($ascii->get("$pre:whole:good"), '{"n": 2}', 'SQL_ASCII: valid text has its copy');
is(join(' ', grep { /bad/ } @{ $ascii->cmd('KEYS', '*') }), "$pre:whole:bad tail", 'SQL_ASCII: what is not UTF-8 has none, and stops nothing');
is(scalar(@{ $ascii->cmd('KEYS', "$pre:hash:*") }), 0, '.. nor a hash');
is($ascii->get("$pre:whole:bad tail"), '{}', '.. a tail that cannot be converted is not there, and its document is');
wait_for($node, q{SELECT (session_health() #>> '{cache,unreadable}')::bigint >= 4}, '.. they are counted', db => 'sqlascii', timeout => 10);
within(10, '.. a logout of such an id', sub { $node->safe_psql('sqlascii', q{SELECT session_delete(E'bad \xff id', namespace => 'whole')}) });
# a document that can no longer be converted loses its copy
$node->safe_psql('sqlascii', q{SELECT session_save('good', jsonb_build_object('n', E'\xff'), namespace => 'whole')});
sync_cache($node, db => 'sqlascii');
is($ascii->get("$pre:whole:good"), undef, '.. its earlier copy is removed');

# EUC_JP has two codes for some characters: only the one that the conversion back returns has a name in
# Redis
my $japanese = $redis->client(db => 2);
my $name = utf8("漢:whole:\x{2252}");
$node->safe_psql('eucjp', q{SELECT session_save(convert_from('\xa2e2', 'EUC_JP'), '{"n": 1}', namespace => 'whole')});
sync_cache($node, db => 'eucjp');
is($japanese->get($name), '{"n": 1}', 'EUC_JP: a character with two codes');
$node->safe_psql('eucjp', q{SELECT session_save(convert_from('\xadf0', 'EUC_JP'), '{"n": 2}', namespace => 'whole')});
sync_cache($node, db => 'eucjp');
is($japanese->get($name), '{"n": 1}', '.. two sessions do not share a copy');

my $mule = $redis->client(db => 6);
$node->safe_psql('mule', q{SELECT session_save('good', '{"n": 2}', namespace => 'whole'), session_save('bad', jsonb_build_object('n', E'\x81\xe9'), namespace => 'whole'),
	session_save(E'bad \x81\xe9', '{}', namespace => 'whole')});
sync_cache($node, db => 'mule');
is($mule->get('pre:whole:good'), '{"n": 2}', 'MULE_INTERNAL: ASCII has its copy');
is(join(' ', grep { /bad/ } @{ $mule->cmd('KEYS', '*') }), '', '.. text without a conversion has none, and stops nothing');
is($node->safe_psql('mule', q{SELECT session_health() #>> '{cache,running}'}), 'true', '.. the cache runs');

leave_no_key($node, $redis, db => $_, redis_db => $databases{$_}{db}, name => $_, other => [ "pre:\xff\xfe" ]) for sort keys %databases;
leave_nothing($node);
$redis->stop;
done_testing();
