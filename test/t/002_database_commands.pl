# Commands that need a database for themselves (DROP, RENAME, TEMPLATE and others), and shutdown,
# succeed within 5 s while the keepers work on a backlog. Each is tried several times, at moments
# chosen by a seed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{SESSION_STORE_LONG} ? 10 : 3;
my $backlog = 300_000;

note_seed();

# slow enough for the backlog to last for the whole test
my $node = new_store('in_the_way', extension => 0,
	conf => "session_store.purge_rate = 2000\nsession_store.purge_batch = 100\nmax_wal_size = 4GB\n");

# A database with a backlog of rows that ended an hour ago.
$node->safe_psql('postgres', 'CREATE DATABASE busy');
$node->safe_psql('busy', <<"EOS");
CREATE EXTENSION session_store;
INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, created_at, check_at, updated_at, expires_at)
	SELECT 'default', 'dead' || i, '{}', '1 hour', now() - interval '2 hours', now() - interval '1 hour',
		now() - interval '2 hours', now() - interval '1 hour'
	FROM generate_series(1, $backlog) i;
EOS
my $left = $node->safe_psql('busy', 'SELECT count(*) FROM conversation_sessions WHERE expires_at < now()');
cmp_ok($left, '>', $backlog * 0.9, "a backlog of $left rows");

sub is_busy
{
	my ($dbname) = @_;
	my $before = $node->safe_psql($dbname, 'SELECT count(*) FROM conversation_sessions');

	wait_for($node, "SELECT count(*) < $before AND count(*) > 0 FROM conversation_sessions",
		"the keeper of $dbname is at work", db => $dbname, timeout => 20, quiet => 1);
	usleep(int(rand(400_000)));	# a random moment of its cycle
}

for my $round (1 .. $rounds)
{
	is_busy('busy');
	within(5, "$round: CREATE DATABASE .. TEMPLATE of a busy database",
		sub { $node->safe_psql('postgres', 'CREATE DATABASE busy2 TEMPLATE busy') });
	is_busy('busy2');
	within(5, "$round: ALTER DATABASE .. RENAME",
		sub { $node->safe_psql('postgres', 'ALTER DATABASE busy2 RENAME TO busy3') });
	is_busy('busy3');
	within(5, "$round: DROP EXTENSION",
		sub { $node->safe_psql('busy3', 'DROP EXTENSION session_store CASCADE') });
	within(5, "$round: CREATE EXTENSION again",
		sub { $node->safe_psql('busy3', 'CREATE EXTENSION session_store') });
	is_busy('busy');
	within(5, "$round: DROP DATABASE",
		sub { $node->safe_psql('postgres', 'DROP DATABASE busy3') });
	$node->safe_psql('postgres', 'CREATE DATABASE bystander');
	is_busy('busy');
	within(5, "$round: DROP DATABASE of another one",
		sub { $node->safe_psql('postgres', 'DROP DATABASE bystander') });

	# of the database with the backlog
	$node->safe_psql('postgres', 'CREATE DATABASE busy2 TEMPLATE busy');
	is_busy('busy2');
	within(5, "$round: DROP DATABASE of a busy database",
		sub { $node->safe_psql('postgres', 'DROP DATABASE busy2') });

	is_busy('busy');
	within(5, "$round: TRUNCATE", sub { $node->safe_psql('busy', 'BEGIN; TRUNCATE conversation_sessions; ROLLBACK') });
	is_busy('busy');
	within(5, "$round: ALTER TABLE", sub { $node->safe_psql('busy', "SET lock_timeout = '4s'; ALTER TABLE conversation_sessions ADD COLUMN x int; ALTER TABLE conversation_sessions DROP COLUMN x") });

	is_busy('busy');
	my @pids = split /\n/,
	  $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'session_store%'});
	within(5, "$round: pg_ctl stop -m fast", sub { $node->stop('fast') });
	is(scalar(grep { kill 0, $_ } @pids), 0, "$round: no worker is left");
	$node->start;
}

# DROP DATABASE that fails because of a client names that client, not a worker.
my $psql = $node->background_psql('busy');
my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE busy');
like($err, qr/being accessed by other users.*\n.*1 other session/s, 'only the client prevents it');
$psql->quit;
is_busy('busy');

# a worker may connect to a database that is dropped at that moment
is(count_log($node, qr/FATAL: /), count_log($node, qr/FATAL: +(?:terminating|database "?\w+"? does not exist)/),
	'no worker died for another reason');
leave_nothing($node);
done_testing();
