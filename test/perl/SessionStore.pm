# What the TAP tests share: servers with the extension, waiting by predicate, and
# the checks at the end.
#
# Words
#	store	a server of the test, usually with the library preloaded
#	within	what must be done before a time has passed; the time that it took is printed
#	soon	what must become true before a time has passed
#
# Limits of time are those of an otherwise idle machine.  Before one counts as exceeded,
# the share of the processor that this process gets is measured, and the limit is extended
# accordingly (see limit_of): a test that passes alone must pass on a busy machine.
#
# Every test ends with leave_nothing(): it stops the server fast and looks for
# workers that are still running, core files, and crashes in its log.
package SessionStore;

use strict;
use warnings;

use Exporter 'import';
use File::Find ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_store store_conf create_extension
  wait_for within soon in_time health keeper_pid launcher_pid wait_for_keeper
  sqlstate one_row buffers pgbench_run run_ok count_log note_seed
  leave_nothing sleeps_during while_it_sleeps durability durability_is
  wait_for_replay
);

my $workers = q{backend_type LIKE 'session_store%'};

# Runs a command that must succeed, as a test of this name. Returns what it wrote to stderr.
sub run_ok
{
	my ($name, @command) = @_;
	my ($out, $err) = ('', '');
	my $done = IPC::Run::run([@command], '<', \'', '>', \$out, '2>', \$err);

	ok($done, $name) or diag($err);
	return $err;
}

# The settings of every server here. Statements are not logged, because tests read the log, and some of
# them run a million statements.
sub store_conf
{
	my ($node, %params) = @_;

	$node->append_conf('postgresql.conf', <<"EOC");
log_statement = none
log_connections = off
log_disconnections = off
log_replication_commands = off
max_connections = @{[ $params{max_connections} // 60 ]}
autovacuum_naptime = 1h
jit = off
EOC
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'session_store'\n")
	  unless $params{bare};
	$node->append_conf('postgresql.conf', $params{conf}) if defined $params{conf};
	return;
}

# new_store(name, init => {..}, conf => text, bare => 1, extension => 0): starts a server, with the
# extension in the database postgres unless told otherwise.
sub new_store
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $params{init} // {} });
	store_conf($node, %params);
	$node->start;
	create_extension($node, 'postgres', %params) unless defined $params{extension} && !$params{extension};
	return $node;
}

# Creates the extension and, if the library is preloaded, waits for its keeper.
sub create_extension
{
	my ($node, $dbname, %params) = @_;

	$node->safe_psql($dbname, 'CREATE EXTENSION session_store');
	wait_for_keeper($node, $dbname) unless $params{bare};
	return;
}

# How much longer everything takes here than on an idle machine: the time that a short computation
# takes by the clock, divided by the processor time that it used.  The greatest measured value counts,
# because load varies; on a busy machine the estimate is doubled, because tests wait for several
# processes.
my $slowness = 1;

sub slowness
{
	my $start = time;
	my $used = sum_times();
	my $n = 0;

	while (sum_times() - $used < 0.05)
	{
		$n += $_ for 1 .. 1000;
	}
	my $measured = (time - $start) / (sum_times() - $used);
	$measured = $measured < 1.3 ? 1 : 2 * $measured;
	$slowness = $measured if $measured > $slowness;
	return $slowness;
}

sub sum_times
{
	my ($user, $system) = times;

	return $user + $system;
}

# A limit in seconds, for this machine.
sub limit_of
{
	my ($seconds, $took) = @_;

	return $took <= $seconds ? $seconds : $seconds * slowness();
}

# Tests that something took no longer than a limit.
sub in_time
{
	my ($took, $seconds, $what) = @_;
	my $limit = limit_of($seconds, $took);

	return ok($took <= $limit, sprintf('%s (%.3f s of %.1f)', $what, $took, $limit));
}

# How often a process has gone to sleep.
sub sleeps
{
	my ($pid) = @_;
	my ($n) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m;

	return $n;
}

# How often a process goes to sleep in at least so many seconds, and how many seconds that were by the
# clock, which are more on a slow machine.
sub sleeps_during
{
	my ($pid, $seconds) = @_;
	my $start = time;
	my $before = sleeps($pid);

	usleep($seconds * 1_000_000);
	my $sleeps = sleeps($pid) - $before;
	return ($sleeps, time - $start);
}

# The number of transactions of a database while a process goes to sleep so many times; read in another
# database.
sub while_it_sleeps
{
	my ($node, $dbname, $pid, $times) = @_;
	my $query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '$dbname'";
	my $until = sleeps($pid) + $times;
	my $before = $node->safe_psql('postgres', $query);

	usleep(100_000) until sleeps($pid) >= $until;
	return $node->safe_psql('postgres', $query) - $before;
}

# Waits until a standby or a subscription has what was committed, by the keeper as well: its commits do
# not wait for the disk, and wait_for_catchup waits only for what was written. The commit of a message
# writes all WAL before it.
sub wait_for_replay
{
	my ($node, $name) = @_;

	$node->safe_psql('postgres', q{SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'session_store', '')});
	$node->wait_for_catchup($name, 'replay');
	return;
}

# Waits until a query returns t. That is a test of its own unless quiet => 1; with must => 1 the test
# file ends if it fails.
sub wait_for
{
	my ($node, $query, $what, %params) = @_;
	my $timeout = $params{timeout} // 120;
	my $dbname = $params{db} // 'postgres';
	my $start = time;
	my ($rc, $out, $err);

	do
	{
		# a psql that cannot connect may end before the query was written to it
		eval { ($rc, $out, $err) = $node->psql($dbname, $query); 1 } or ($rc, $out, $err) = (2, '', $@);
		if ($rc == 0 && ($out // '') eq 't')
		{
			my $took = sprintf '%.1f s', time - $start;
			ok(1, "$what ($took)") unless $params{quiet};
			return time - $start;
		}
		usleep(50_000);
	} while (time - $start < limit_of($timeout, time - $start));

	$timeout = limit_of($timeout, time - $start);
	$what .= ": not within $timeout s; last answer '" . ($out // '') . "' " . ($err // '');
	BAIL_OUT($what) if $params{bail};
	die $what if $params{must} || $params{quiet};
	ok(0, $what);
	diag(scalar $node->psql($dbname, 'SELECT jsonb_pretty(session_health())')) if $params{show};
	return;
}

# Runs code, which must not die, and must return within a number of seconds.
sub within
{
	my ($seconds, $what, $code) = @_;
	my $start = time;
	my $done = eval { $code->(); 1 };
	my $error = $@;
	my $took = time - $start;

	my $limit = limit_of($seconds, $took);

	diag($error) unless $done;
	return ok($done && $took <= $limit, sprintf('%s (%.1f s of %d)', $what, $took, $limit));
}

# Waits until code returns true: a test of its own.
sub soon
{
	my ($what, $seconds, $code) = @_;
	my $start = time;
	my $good;

	usleep(10_000)
	  until ($good = $code->()) || time - $start > limit_of($seconds, time - $start);
	return ok($good, sprintf('%s (%.2f s)', $what, time - $start));
}

# health($node, 'keeper,running'): one value of session_health().
sub health
{
	my ($node, $path, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres',
		"SELECT coalesce(session_health() #>> '{$path}', '')");
}

sub keeper_pid
{
	my ($node, $dbname) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = '$dbname'");
}

sub launcher_pid
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'session_store launcher'");
}

sub wait_for_keeper
{
	my ($node, $dbname, %params) = @_;

	return wait_for($node,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = '$dbname'",
		$params{what} // "a keeper of database $dbname",
		quiet => !defined $params{what}, %params);
}

# The SQLSTATE that a script ends with, or 00000.
sub sqlstate
{
	my ($node, $sql, %params) = @_;
	my ($rc, $out, $err) = $node->psql($params{db} // 'postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ], on_error_stop => 1);

	return '00000' if $rc == 0;
	return $err =~ /(?:ERROR|FATAL): +(\w{5})\b/ ? $1 : $err;
}

# The columns of the one row that a query returns.
sub one_row
{
	my ($node, $sql, $dbname) = @_;

	return split /\|/, $node->safe_psql($dbname // 'postgres', $sql), -1;
}

# EXPLAIN (ANALYZE, BUFFERS) of a query: shared hit, shared read, and the number of rows. The buffers
# of planning do not count.
sub buffers
{
	my ($node, $sql, %params) = @_;
	my $plan = $node->safe_psql($params{db} // 'postgres',
		($params{before} // '') . "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) $sql");
	my ($hit) = $plan =~ /"Shared Hit Blocks": (\d+)/;
	my ($read) = $plan =~ /"Shared Read Blocks": (\d+)/;
	my ($rows) = $plan =~ /"Actual Rows": (\d+)/;

	return ($hit, $read, $rows);
}

# Runs pgbench with a script; returns its output. Fails the test if pgbench fails.
my $scripts = 0;

sub pgbench_run
{
	my ($node, $script, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script' . ++$scripts . '.sql';
	my ($out, $err);

	PostgreSQL::Test::Utils::append_to_file($file, $script);
	my $done = IPC::Run::run(
		[ $node->installed_command('pgbench'), '-n', '-h', $node->host, '-p', $node->port,
			'-f', $file, @options, 'postgres' ],
		'<', \'', '>', \$out, '2>', \$err);
	if (!$done || $out !~ /number of failed transactions: 0/)
	{
		diag("pgbench @options: $out $err");
		fail('pgbench runs without errors') unless $done;
	}
	return $out . $err;
}

# durability($node, $statements): 'relaxed' if the last statement returned before its commit was on the
# disk, else 'strict'.
sub durability
{
	my ($node, $statements) = @_;

	# everything before is on the disk; has anything been flushed since?
	my $answer = $node->safe_psql('postgres', "\\o /dev/null\nCHECKPOINT;\nSELECT pg_current_wal_insert_lsn() AS start \\gset\n$statements;\n\\o\nSELECT pg_current_wal_flush_lsn() <= :'start'");
	return $answer eq 't' ? 'relaxed' : 'strict';
}

# durability_is($node, $expected, $what, $statements): tests that durability() is as expected.
sub durability_is
{
	my ($node, $expected, $what, $statements) = @_;
	my $found = durability($node, $statements);

	# a flush by another process may have come in between
	$found = durability($node, $statements) if $expected eq 'relaxed' && $found ne $expected;
	is($found, $expected, "$what: $expected");
	return;
}

# How often a pattern occurs in the log, from an offset on.
sub count_log
{
	my ($node, $pattern, $offset) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset // 0);
	my $count = () = $log =~ /$pattern/g;

	return $count;
}

# A seed; a failed run can be repeated with it.
sub note_seed
{
	my $seed = $ENV{SESSION_STORE_SEED} // int(rand(2**31));

	diag("seed: $seed (repeat with SESSION_STORE_SEED=$seed)");
	srand($seed);
	return $seed;
}

# The end of each test: a fast stop within 5 s, no worker that is still running, no core file, no crash
# in the log except those that the test caused (crashes => n).
sub leave_nothing
{
	my ($node, %params) = @_;
	my $name = $node->name;
	my @pids = split /\n/,
	  $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $workers");

	within(5, "$name: fast stop", sub { $node->stop('fast') });
	is(scalar(grep { kill 0, $_ } @pids), 0, "$name: no worker outlives its server");

	my @cores;
	File::Find::find(sub { push @cores, $_ if /^core(\.\d+)?$/ && -f }, $node->data_dir);
	is("@cores", '', "$name: no core file");
	is(count_log($node, qr/PANIC: |TRAP: |was terminated by signal/), $params{crashes} // 0,
		"$name: no crash in the log");
	return;
}

1;
