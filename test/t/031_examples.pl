# The Python examples of docs/redis.md, unchanged, against real servers: their results normally,
# on a miss, without the lease, and after a session has ended.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $python = '/usr/bin/python3';	# the interpreter for which the distribution has modules

plan skip_all => 'no Python with psycopg2 and redis'
  if !-x $python || system("$python -c 'import psycopg2, redis' 2>/dev/null") != 0;

my $docs = slurp_file("$FindBin::RealBin/../../docs/redis.md");
my @blocks = $docs =~ /^```python\n(.*?)^```/msg;

is(scalar @blocks, 2, 'two examples: plain and strong');

my $redis = new_redis();
my $node = new_cached_store('examples', $redis);
my $script = PostgreSQL::Test::Utils::tempdir() . '/examples.py';

append_to_file($script, join "\n", 'import json, os, sys', 'import psycopg2, redis as client', @blocks, <<'PYTHON');
redis = client.Redis(unix_socket_path=sys.argv[1], decode_responses=True)
database = psycopg2.connect(sys.argv[2])
database.autocommit = True
cursor = database.cursor()

def sql(text, *values):
    cursor.execute(text, values)
    return cursor.fetchone()[0]

def show(what):
    print(what, json.dumps(read_plain(redis, cursor, "a")), json.dumps(read_strong(redis, cursor, "a")))

show("absent")
sql("SELECT session_save('a', %s)", '{"n": 1}')
assert sql("SELECT session_cache_sync()")
assert redis.get("session:a") == '{"n": 1}'
show("cached")
redis.set("session:a", '{"n": "from Redis"}', keepttl=True)
show("read from Redis")
redis.delete("session:a")
show("missing")
elsewhere = client.Redis(unix_socket_path=sys.argv[1], decode_responses=True, db=1)
elsewhere.set("session:a", '{"n": "not to be trusted"}')
print("no lease", json.dumps(read_strong(elsewhere, cursor, "a")))
elsewhere.delete("session:a")
sql("SELECT session_save('a', %s)", 'null')
sql("SELECT session_cache_sync()")
show("a JSON null")
sql("SELECT session_delete('a')")
show("ended")
PYTHON

my ($out, $err) = ('', '');
my $fine = IPC::Run::run([ $python, $script, $redis->{socket}, $node->connstr('postgres') ],
	'<', \'', '>', \$out, '2>', \$err);

ok($fine, 'the examples run') or diag($err);
is($out, <<'EOS', '.. and return what they should');
absent null null
cached {"n": 1} {"n": 1}
read from Redis {"n": "from Redis"} {"n": "from Redis"}
missing {"n": 1} {"n": 1}
no lease {"n": 1}
a JSON null null null
ended null null
EOS

leave_no_key($node, $redis);
leave_nothing($node);
done_testing();
