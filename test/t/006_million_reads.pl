# The benefit of pending touches: as many reads as a busy site makes cause next to no WAL, and no
# session ends while it is in use.
#
# 1,000 sessions are read 1,000,000 times within a minute with SESSION_STORE_LONG
# set, else 100,000 times. The UPDATEs to compare with are measured on the same
# server at a tenth of that count, and reckoned up.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time);

my $gets = $ENV{SESSION_STORE_LONG} ? 1_000_000 : 100_000;
my $updates = $gets / 10;
my $sessions = 1000;
my $clients = 2;

my $node = new_store('million', conf => "autovacuum = off\ncheckpoint_timeout = 1h\nmax_wal_size = 8GB\nshared_buffers = 256MB\n");

sub wal_of
{
	my ($code) = @_;

	$node->safe_psql('postgres', 'CHECKPOINT');
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$code->();
	return $node->safe_psql('postgres', "SELECT pg_current_wal_insert_lsn() - '$lsn'");
}

$node->safe_psql('postgres', "SELECT session_save('s' || i, '{\"user\": 1}', ttl => '30 minutes') FROM generate_series(1, $sessions) i");

my $took;
my $read = wal_of(sub {
	my $start = time;
	my $out = pgbench_run($node, "\\set i random(1, $sessions)\nSELECT session_get('s' || :i);\n",
		'-c', $clients, '-j', $clients, '-M', 'prepared', '-t', $gets / $clients);
	$took = time - $start;
	like($out, qr{transactions actually processed: $gets/$gets}, "$gets gets of $sessions sliding sessions");
	# the WAL of writing the pending touches counts as well
	wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE session_effective_expiry(namespace, session_id, expires_at) > expires_at + ttl / 8},
		'only touches within the slack are left to be written', timeout => 30);
});
in_time($took, 60 * $gets / 1_000_000 * 1.5 + 5, sprintf('a million in a minute (%d)', $gets));

my $update = wal_of(sub {
	pgbench_run($node, "\\set i random(1, $sessions)\nUPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace = 'default' AND session_id = 's' || :i;\n",
		'-c', $clients, '-j', $clients, '-M', 'prepared', '-t', $updates / $clients);
});
my $as_many = $update * $gets / $updates;
cmp_ok($read, '<=', $as_many / 100,
	sprintf('%d gets: %d bytes of WAL; as many UPDATEs: %d (measured %d with %d); 1/%d', $gets, $read, $as_many, $update, $updates, $as_many / ($read || 1)));

# Short lifetimes and long use: every session is read several times within its ttl.
my $seconds = 15;
$node->safe_psql('postgres', "SELECT session_save('t' || i, '{}', ttl => '5 s') FROM generate_series(1, $sessions) i");
my $started = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
my $misses = $node->safe_psql('postgres', q{SELECT substring(session_metrics() FROM 'session_store_misses_total (\d+)')});
my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
# each transaction reads twenty sessions, one after the other, through all of them
my $out = pgbench_run($node, <<"EOS", '-c', $clients, '-j', $clients, '-M', 'prepared', '-T', $seconds, '--rate=500');
\\set i random(0, @{[ $sessions / 20 - 1 ]})
SELECT count(session_get('t' || (:i * 20 + k))) FROM generate_series(1, 20) k;
EOS
is($node->safe_psql('postgres', "SELECT count(session_get('t' || i)) FROM generate_series(1, $sessions) i"), $sessions,
	"none of $sessions sessions of 5 s ended in $seconds s of use");
is($node->safe_psql('postgres', q{SELECT substring(session_metrics() FROM 'session_store_misses_total (\d+)')}), $misses,
	'.. and no read was a miss');
is($node->safe_psql('postgres', "SELECT count(*) FROM conversation_sessions WHERE session_id LIKE 't%' AND created_at < '$started'"), $sessions,
	'they are still the same sessions');
is(health($node, 'touches,dropped'), '0', 'no touch was dropped');

wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE session_id LIKE 't%'},
	'sessions that are not read are purged', timeout => 20);
leave_nothing($node);
done_testing();
