# More databases than worker slots: the keepers take turns, every database is purged, and
# session_health() names the setting.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

# three slots: the launcher of logical replication, ours, and one keeper
my $node = new_store('few_slots', extension => 0,
	conf => "max_worker_processes = 3\nmax_parallel_workers = 0\n");
my @databases = map { "tenant$_" } 1 .. 4;

for my $dbname (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, 'CREATE EXTENSION session_store');
}
is($node->safe_psql('tenant1', "SELECT session_save('a', '{}')"), '1', 'calls work');

for my $round (1 .. 2)
{
	$node->safe_psql($_, "SELECT session_save('short', '{}', ttl => '300 ms')") for @databases;
	wait_for($node, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'short')},
		"round $round: $_ is purged in its turn", db => $_, timeout => 45)
	  for @databases;
}

wait_for($node, q{SELECT session_health() ->> 'warnings' LIKE '%fewer worker slots than databases, so keepers take turns: raise max_worker_processes%'},
	'health names the setting', db => 'tenant2', timeout => 15);
wait_for($node, q{SELECT (session_health() #>> '{launcher,databases_waiting}')::int > 0},
	'.. and counts the databases that wait', db => 'tenant2', timeout => 15);

# a line in the server log for each change of turns would be too much
my $offset = -s $node->logfile;
$node->safe_psql('tenant3', "SELECT session_save('short', '{}', ttl => '300 ms')");
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'short')},
	'another turn', db => 'tenant3', timeout => 45);
cmp_ok(count_log($node, qr/\n/, $offset), '<=', 5, 'taking turns is not logged');

within(5, 'DROP DATABASE of one that waits',
	sub { $node->safe_psql('postgres', 'DROP DATABASE tenant4') });

$node->adjust_conf('postgresql.conf', 'max_worker_processes', 16);
$node->restart;
wait_for_keeper($node, $_, what => "with enough slots $_ has its keeper", timeout => 5)
  for @databases[ 0 .. 2 ];
wait_for($node, q{SELECT session_health() ->> 'warnings' = '[]'}, '.. and session_health() has no warning',
	db => 'tenant2', timeout => 5);
is($node->safe_psql('tenant1', "SELECT session_get('a')"), '{}', 'living sessions are kept');

leave_nothing($node);
done_testing();
