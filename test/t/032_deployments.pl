# The deployments in examples/: each is set up by psql and run unchanged in Node.js or Python
# against one PostgreSQL and one Redis, with the expected output.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $python = '/usr/bin/python3';	# the interpreter for which the distribution has modules
my $here = PostgreSQL::Test::Utils::tempdir();
my $examples = "$here/examples";
my %clients = (
	'report-agent' => 'client.js',
	'chat-application' => 'client.js',
	'travel-assistant' => 'client.js',
	'norm-chat' => 'client.py',
	'flow-orchestrator' => 'client.py');

# Runs a command; returns its output on both channels, and whether it succeeded.
sub run_in
{
	my ($dir, @command) = @_;
	my ($out, $err) = ('', '');
	my $fine = eval {
		IPC::Run::run(\@command, '<', \'', '>', \$out, '2>', \$err, init => sub { chdir $dir },
			IPC::Run::timeout(300));
	};

	return ($fine, $out, $err . $@);
}

# Why examples of a kind cannot be run here, or undef.
my %missing;

$missing{py} = 'no Python with psycopg2 and redis'
  if !-x $python || !(run_in($here, $python, '-c', 'import psycopg2, redis'))[0];
$missing{js} = 'no Node, of version 18 or later, with npm'
  if !(run_in($here, 'node', '-e', 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'))[0]
  || !(run_in($here, 'npm', '--version'))[0];
plan skip_all => join ', ', sort values %missing if keys %missing == 2;

# Files that are built or installed for the examples are in a copy of them.
PostgreSQL::Test::RecursiveCopy::copypath("$FindBin::RealBin/../../examples", $examples,
	filterfn => sub { $_[0] !~ m{(^|/)node_modules$} });

# A registry, or a cache of one: an example whose modules cannot be installed is an error.
if (!$missing{js})
{
	# the user may have no home folder, or not its own
	local $ENV{HOME} = $here;
	local $ENV{npm_config_cache} = -w ($ENV{npm_config_cache} // '') ? $ENV{npm_config_cache} : "$here/npm";

	my ($fine, $out, $err) = run_in($examples, qw(npm install --no-audit --no-fund --no-package-lock
		--no-update-notifier --prefer-offline --fetch-timeout=30000
		--fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000));
	# without a registry, as on an isolated machine, the clients in Node cannot be run
	diag("npm cannot install pg and redis; is its registry within reach?\n$out$err") unless $fine;
	$missing{js} = 'npm could not install pg and redis' unless $fine;
}

# Clients and pusher take the password and the database number from their URL.
my %where = (password => 'open sesame', db => 1);
my $redis = new_redis(tcp => 1, password => $where{password});
my $node = new_store('deployments', conf => redis_conf($redis, %where));

wait_for_cache($node, $redis, redis_db => 1);
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{REDIS_URL} = $redis->url(%where);

is_deeply([ sort map { m{/([^/]+)/setup\.sql$} } glob("$examples/*/setup.sql") ], [ sort keys %clients ],
	'each example is run');
foreach my $name (sort keys %clients)
{
	my $dir = "$examples/$name";
	my ($kind) = $clients{$name} =~ /\.(\w+)$/;
	my $lines = () = slurp_file("$dir/$clients{$name}") =~ /\n/g;

	cmp_ok($lines, '<', 80, "$name: its client has less than 80 lines");
	# what an earlier run has left does not matter
	for my $time (qw(once again))
	{
		my ($fine, $out, $err) = run_in($dir, $node->installed_command('psql'), '-XAtq', '-f', 'setup.sql');

		ok($fine, "$name: is set up, $time") or diag($out . $err);
	}
  SKIP:
	{
		skip "$name: $missing{$kind}", 2 if $missing{$kind};
		my ($fine, $out, $err) = run_in($dir, $kind eq 'js' ? 'node' : $python, $clients{$name});

		ok($fine, "$name: its client runs") or diag($err);
		is($out, slurp_file("$dir/expected.txt"), "$name: .. and prints what it should");
	}
}

leave_no_redis($node, $redis, redis_db => 1);
done_testing();
