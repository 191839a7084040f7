# A server in binary-upgrade mode, as started by pg_upgrade, runs no workers, so that nothing
# assigns a transaction id or writes a row.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

# the server logs which workers are registered, before it accepts connections
my $node = new_store('upgraded', conf => "log_min_messages = debug1\n");
my $registered = qr/registering background worker "session_store/;

cmp_ok(count_log($node, $registered), '>', 0, 'a normal start registers the launcher');
$node->safe_psql('postgres', q{SELECT session_save('expired', '{}', ttl => '1 ms')});
$node->stop('fast');

my $offset = -s $node->logfile;
my @pg_ctl = ($node->installed_command('pg_ctl'), '-w', '-s', '-D', $node->data_dir, '-l', $node->logfile);
PostgreSQL::Test::Utils::system_or_bail(@pg_ctl, '-o', '-b', 'start');
$node->_update_pid(1);
is(count_log($node, $registered, $offset), 0, 'in a binary upgrade no worker is registered');
is($node->safe_psql('postgres', q{SELECT session_health() #>> '{launcher,running}', session_health() #>> '{keeper,running}'}),
	'false|false', 'none runs');
is($node->safe_psql('postgres', q{SELECT session_get('expired') IS NULL}), 't', 'calls answer');
$node->stop('fast');

$node->start;
wait_for_keeper($node, 'postgres', what => 'started normally again, it has its keeper');
leave_nothing($node);
done_testing();
