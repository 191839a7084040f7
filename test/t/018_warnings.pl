# Every warning of session_health() has a row in docs/operations.md with a metric that exists,
# and is tested: four consecutive words of it are in a test or its expected output. Warnings that
# no other test produces are produced here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $top = "$FindBin::RealBin/../..";

sub files
{
	return map { glob "$top/$_" } @_;
}

# The texts of the warnings in a source file, with '..' for values that are filled in.
sub warnings_of
{
	my ($source) = @_;
	my @found;

	while ($source =~ /\bss_report_warn\(\s*&?report,\s*((?:"(?:[^"\\]|\\.)*"|INT64_FORMAT|\s)+)/g)
	{
		my $text = $1;

		$text =~ s/INT64_FORMAT/"%d"/g;
		$text = join '', $text =~ /"((?:[^"\\]|\\.)*)"/g;
		$text =~ s/\\"/"/g;
		$text =~ s/"?%[-.\d]*(?:ll)?[a-z]"?/../g;
		push @found, $text;
	}
	return @found;
}

# A pattern that matches the parts between '..' in this order.
sub pattern_of
{
	my ($text) = @_;

	return join '.*', map { quotemeta } grep { /\w/ } map { s/^\s+|\s+$//gr } split /\.\./, $text;
}

# All sequences of four words of a text, or all words of a part that has fewer.
sub sequences
{
	my ($text) = @_;
	my @found;

	foreach my $part (split /\.\./, $text)
	{
		my @words = split ' ', $part =~ s/^\W+|\W+$//gr;
		my $n = @words < 4 ? @words : 4;

		push @found, map { join ' ', @words[ $_ .. $_ + $n - 1 ] } 0 .. @words - $n if $n >= 2;
	}
	return @found;
}

my @calls = map { slurp_file($_) =~ /\bss_report_warn\(\s*&?report,/g } files('src/*/*.c');
my @warnings = grep { /\w/ } map { warnings_of(slurp_file($_)) } files('src/*/*.c');
my @passed_on = grep { !/\w/ } map { warnings_of(slurp_file($_)) } files('src/*/*.c');
my @rows;

cmp_ok(scalar @warnings, '>', 25, 'there are warnings');
is(@warnings + @passed_on, scalar @calls, '.. and none without a text');
foreach my $line (split /\n/, slurp_file("$top/docs/operations.md"))
{
	my @cells = map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $line;

	push @rows, \@cells if $line =~ /^\| (?!warning |-)/;
}
foreach my $row (@rows)
{
	is(scalar @$row, 5, "the row \"$row->[1]\" has a metric, a cause and what to do");
	is(scalar(grep { !/\w/ } @{$row}[ 1 .. 4 ]), 0, '.. and none of them is empty');
}

# Is this about that warning?  Some begin with a value that is filled in, so four consecutive words are
# enough.
sub is_about
{
	my ($row, $warning) = @_;

	return 1 if $warning =~ pattern_of($row->[1]);
	return $warning =~ /^\.\./ && scalar grep { index($row->[1], $_) >= 0 } sequences($warning);
}

foreach my $warning (@warnings)
{
	ok(scalar(grep { is_about($_, $warning) } @rows), "docs/operations.md has a row for: $warning");
}

my $literals = join "\n", map { slurp_file($_) =~ s/"\s+"//gr } files('src/*/*.c');

foreach my $row (@rows)
{
	ok((grep { is_about($row, $_) } @warnings) || (grep { index($literals, $_) >= 0 } sequences($row->[1])), "this warning exists: $row->[1]");
}

# ---- each is expected by a test

# no test creates so many databases
my @not_tried = ('more than .. databases: some have no keeper and no counters');
my $tests = join "\n", map { slurp_file($_) } files('test/t/*.pl', 'test/sql/*.sql', 'expected/*.out', 'test/specs/*.spec');

$tests =~ s/\\(?=[^\w\s])//g;
foreach my $warning (@warnings)
{
	next if grep { $_ eq $warning } @not_tried;
	ok(scalar(grep { index($tests, $_) >= 0 } sequences($warning)), "a test expects the warning: $warning");
}

# ---- the metrics exist

my $redis = new_redis();
my $node = new_cached_store('warnings', $redis, conf => "session_store.sessions_ceiling = 2\nmax_worker_processes = 16\n");
# those of the sample exist once the keeper has taken one
$node->poll_query_until('postgres', q{SELECT count(sampled_at) > 0 FROM session_stats}) or die 'no sample';
my $metrics = $node->safe_psql('postgres', 'SELECT session_metrics()');

foreach my $row (@rows)
{
	foreach my $name ($row->[2] =~ /(session_store_\w+)/g)
	{
		like($metrics, qr/^\Q$name\E\b/m, "the metric $name exists");
	}
}

# ---- warnings that no other test produces

sub value
{
	my ($query, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $query);
}

sub warns
{
	my ($text, $what, %params) = @_;

	return wait_for($node, "SELECT session_health() ->> 'warnings' LIKE '%$text%'", $what, timeout => 15, show => 1, %params);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('whole', 'whole:', false, 'all')});
is(value(q{SELECT session_health() ->> 'warnings'}), '[]', 'a server without problems');
like(value('SELECT session_metrics()'), qr/^session_store_warnings 0$/m, '.. has no warnings in the metrics');
like(value(q{BEGIN; SELECT format('DROP TRIGGER %I ON conversation_sessions', tgname) FROM pg_trigger WHERE tgfoid = 'session_row_guard'::regproc \gexec
	SELECT session_health() ->> 'warnings', session_metrics(); ROLLBACK}), qr/a trigger of conversation_sessions is missing: reinstall the extension.*^session_store_warnings 1$/ms,
	'a trigger of ours was dropped');
like(value(q{BEGIN; DROP TRIGGER zz_session_truncate ON conversation_sessions;
	CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER zz_session_mine AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION mine();
	ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_mine;
	SELECT session_health() ->> 'warnings'; ROLLBACK}), qr/a trigger of conversation_sessions is missing: reinstall the extension/,
	'.. also beside one of the owner with a similar name');
foreach my $trigger (['conversation_history', 'zz_history_change'], ['session_namespaces', 'session_namespaces_check'], ['session_cache_claims', 'session_cache_claims_guard'])
{
	my ($table, $name) = @$trigger;

	like(value("BEGIN; ALTER TABLE $table ENABLE TRIGGER $name; SELECT session_health() ->> 'warnings'; ROLLBACK"),
		qr/trigger $name of $table does not fire always: ALTER TABLE public\.$table ENABLE ALWAYS TRIGGER $name/, "a trigger of $table is not ENABLE ALWAYS");
	like(value("BEGIN; DROP TRIGGER $name ON $table; SELECT session_health() ->> 'warnings'; ROLLBACK"),
		qr/a trigger of $table is missing: reinstall the extension/, '.. or was dropped');
}
unlike(value(q{BEGIN; CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER zz_session_mine AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION mine();
	SELECT session_health() ->> 'warnings'; ROLLBACK}), qr/zz_session_mine/, '.. nor is it expected to fire always');
my $sizes = value(q{BEGIN; DELETE FROM session_samples;
	INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb) VALUES ('whole', now(), false, 3, 0, 0, 0, 0, 3000000, 2000000, 1);
	SELECT session_health() ->> 'warnings'; ROLLBACK});
like($sizes, qr/namespace whole has 3 sessions, more than session_store.sessions_ceiling \(2\)/, 'a namespace has more sessions than it should');
like($sizes, qr/namespace whole has 1 documents over 1 MB: keep large or growing parts elsewhere/, '.. and large ones');

value(q{SELECT session_save('s' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 3) i});
sync_cache($node);
# The warning ends after a pass over all keys that finds nothing, perhaps before it is checked.
soon('another program writes to Redis', 60, sub {
	$redis->cmd('SET', 'whole:s1', '{"n": 2}', 'KEEPTTL');
	value('SELECT session_cache_verify(1000)');
	return value(q{SELECT session_health() ->> 'warnings' LIKE '%copies in Redis differed from the table%'}) eq 't';
});

my $used = (map { /^used_memory:(\d+)/m } $redis->cmd('INFO', 'memory'))[0];
$redis->cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
$redis->cmd('CONFIG', 'SET', 'maxmemory', $used - 1024);
value(q{SELECT session_save('s' || i, '{"n": 3}', namespace => 'whole') FROM generate_series(1, 3) i});
warns('documents for want of memory: raise maxmemory', 'Redis is full');
warns('maxmemory-policy of Redis is noeviction: set volatile-lru or volatile-ttl', '.. and drops nothing to make room');
$redis->cmd('CONFIG', 'SET', 'maxmemory', 0);

my $keeper = keeper_pid($node, 'postgres');
kill 'STOP', $keeper;
value('SELECT pg_terminate_backend(' . pusher_pid($node) . ')');
warns("the cache''s pusher does not run; it should within seconds", 'a pusher ended, and the keeper cannot start another');
kill 'CONT', $keeper;
wait_for_cache($node, $redis, what => '.. until it can');

my $launcher = launcher_pid($node);
kill 'STOP', $launcher;
value("SELECT pg_terminate_backend($keeper)");
warns('the keeper does not run; it should within seconds', 'a keeper ended, and the launcher cannot start another');
kill 'CONT', $launcher;
wait_for_keeper($node, 'postgres');

value(q{CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
value('ALTER DATABASE ascii SET session_store.redis_db = 1');
create_extension($node, 'ascii');
wait_for_cache($node, $redis, db => 'ascii', redis_db => 1);
value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache) VALUES ('whole', 'ascii:', false, 'all'); SELECT session_save('s', jsonb_build_object('n', E'\xff'), namespace => 'whole')}, 'ascii');
warns('sessions cannot be copied to Redis: 1 rows', 'a document that cannot be converted to UTF-8', db => 'ascii');
value('DROP DATABASE ascii');

# a launcher, a keeper, and no slot for the pusher
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 3);
$node->restart;
warns("no worker slot for the cache''s pusher: raise max_worker_processes", 'too few worker slots for a pusher');
# the server's own launcher of logical replication uses the only slot
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 1);
$node->restart;
warns('the launcher is not running: see the server log, and max_worker_processes', 'no worker slot at all');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 16);
$node->restart;
wait_for_keeper($node, 'postgres');

# the keeper cannot start because it cannot connect to the database; a session that was connected
# before can
my $session = $node->background_psql('postgres', on_error_die => 1);
my $version = $node->data_dir . '/base/' . value(q{SELECT oid FROM pg_database WHERE datname = 'postgres'}) . '/PG_VERSION';

rename $version, "$version.away" or die "rename: $!";
$session->query_safe('SELECT pg_terminate_backend(' . $session->query_safe(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'session_store keeper'}) . ')');
$session->query_safe(q{DO $$ BEGIN WHILE session_health() ->> 'warnings' NOT LIKE '%the keeper does not run: %' LOOP PERFORM pg_sleep(0.1); END LOOP; END $$});
rename "$version.away", $version or die "rename: $!";
$session->quit;
wait_for_keeper($node, 'postgres', what => 'a keeper whose start failed is started again', timeout => 60);
wait_for_cache($node, $redis, timeout => 30);

$redis->cmd('CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru');
leave_no_redis($node, $redis);
done_testing();
