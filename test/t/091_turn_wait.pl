# session_turn_begin() with wait: it holds nothing while it waits (no snapshot, no lock, no transaction
# id), is woken by the commit that ends the turn, and can be interrupted at any time. Statements that
# cannot release their snapshot are refused, whether the turn is free or not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = note_seed();
my $node = new_store('turn_wait', max_connections => 90, conf => "max_prepared_transactions = 5\nautovacuum = off\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

my @open;

sub open_psql
{
	my $psql = $node->background_psql('postgres');

	push @open, $psql;
	return $psql;
}

# The session of a psql sends a statement and does not wait for its end; finish() returns its result.
sub send_to
{
	my ($psql, $statement) = @_;

	$psql->query_until(qr/sent/, "\\echo sent\n$statement\n\\echo finished\n");
	return;
}

sub finish
{
	my ($psql) = @_;

	return $psql->query_until(qr/finished\n/, '') =~ s/finished\n//r =~ s/\n$//r;
}

# The one process that waits in session_turn_begin().
my $waiting = q{pg_stat_activity WHERE query ~ '^SELECT .*session_turn_begin' AND state = 'active' AND pid <> pg_backend_pid()};

# Until it sleeps: between two attempts it has no snapshot.
sub wait_until_asleep
{
	my ($what) = @_;

	return wait_for($node, "SELECT count(*) = 1 AND bool_and(backend_xmin IS NULL AND wait_event_type = 'Extension') FROM $waiting",
		$what // 'the call sleeps', quiet => !defined $what, timeout => 30);
}

sub metric
{
	my ($name) = @_;

	return value('SELECT session_metrics()') =~ /^session_store_${name}_total (\d+)$/m ? $1 : undef;
}

value(<<'EOS');
SELECT session_save(id, '{}') FROM unnest('{x, free, x1, gone, plain, truncated}'::text[]) id;
CREATE TABLE filler AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 1000) g;
CREATE TABLE tokens (turn bigint, client int, begun float8, ended float8);
EOS
my $holder = open_psql();
my $waiter = open_psql();

# ---- nothing is held while it waits

my $turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
$waiter->query_safe(q{BEGIN; SELECT count(*) FROM filler});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep('a call that waits has no snapshot');
is(value("SELECT backend_xid IS NULL AND state = 'active' FROM $waiting"), 't', '.. and no transaction id');
wait_for($node, "SELECT string_agg(DISTINCT coalesce(relation::regclass::text, locktype), ',') = 'filler,virtualxid' FROM pg_locks WHERE pid = (SELECT pid FROM $waiting)",
	'.. and no lock but those that its transaction had before', timeout => 30);
value('DELETE FROM filler');
my ($rc, $out, $err) = $node->psql('postgres', 'VACUUM (VERBOSE) filler');
like($err, qr/tuples: 1000 removed, 0 remain/, 'VACUUM removes what was deleted meanwhile');
is($holder->query_safe("SELECT session_turn_end('x', $turn)"), 't', 'the turn is ended');
my $next = finish($waiter);
cmp_ok($next, '>', $turn, '.. and the next token is greater');
is($waiter->query_safe(q{SELECT count(*) FROM filler}), '0', 'the transaction goes on');
is($waiter->query_safe('ROLLBACK; SELECT 1'), '1', '.. and can be rolled back');
is(value(q{SELECT count(*) FROM session_turn('x')}), '0', '.. with its turn');

# ---- a cursor of the transaction keeps its own snapshot

value(q{INSERT INTO filler SELECT g, repeat('x', 500) FROM generate_series(1, 1000) g});
$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
$waiter->query_safe(q{BEGIN; DECLARE c CURSOR FOR SELECT g FROM filler; FETCH 1 FROM c});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_for($node, "SELECT count(*) = 1 FROM $waiting AND backend_xmin IS NOT NULL AND wait_event_type = 'Extension'", 'an open cursor keeps its snapshot');
value('DELETE FROM filler');
value('VACUUM filler');
value("SELECT session_turn_end('x', $turn)");
like(finish($waiter), qr/^\d+$/, '.. while the transaction waits');
is(scalar(split /\n/, $waiter->query_safe('FETCH ALL FROM c')), 999, '.. and returns all its rows after that');
$waiter->query_safe('COMMIT');
value(q{SELECT session_turn_end('x', turn) FROM conversation_sessions WHERE session_id = 'x'});

# ---- woken by the commit

my $wakes = metric('turn_wakes');
my @took;
for (1 .. 15)
{
	$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
	send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day'), extract(epoch FROM clock_timestamp());});
	wait_until_asleep();
	$holder->query_safe("BEGIN; SELECT session_turn_end('x', $turn)");
	my $ended = $holder->query_safe('COMMIT; SELECT extract(epoch FROM clock_timestamp())');
	my ($token, $begun) = split /\|/, finish($waiter);
	push @took, $begun - $ended;
	value("SELECT session_turn_end('x', $token)");
}
@took = sort { $a <=> $b } @took;
in_time($took[7] < 0 ? 0 : $took[7], 0.05, 'a call begins its turn when the one before has ended');
cmp_ok(metric('turn_wakes') - $wakes, '>=', 8, '.. because the commit wakes it');
cmp_ok(metric('turn_waits'), '>=', 15, '.. and calls that waited are counted');

# ---- the end of a turn by itself, and the end of the wait

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1500 ms')});
my $until = value(q{SELECT extract(epoch FROM until) FROM session_turn('x')});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day'), extract(epoch FROM clock_timestamp());});
my ($token, $begun) = split /\|/, finish($waiter);
cmp_ok($token, '>', $turn, 'a holder that vanishes: the next turn begins');
cmp_ok($begun, '>=', $until, '.. not before the turn ends by itself');
in_time($begun - $until, 0.2, '.. and soon after that');

my $start = time;
is($holder->query_safe(q{SELECT session_turn_begin('x', wait => '300 ms')}), '', 'after the time of the call the result is NULL');
cmp_ok(time - $start, '>=', 0.3, '.. and not before');
is(value(q{SELECT count(*) FROM session_turn('x')}), '1', '.. and the other keeps its turn');
value("SELECT session_turn_end('x', $token)");

# ---- ends of turns that wake nobody are found as well

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep();
$holder->query_safe("BEGIN; SELECT session_turn_end('x', $turn); PREPARE TRANSACTION 'p'");
wait_until_asleep('a turn that a prepared transaction ends is not free');
$holder->query_safe(q{COMMIT PREPARED 'p'});
cmp_ok($token = finish($waiter), '>', $turn, '.. until that is committed');
value("SELECT session_turn_end('x', $token)");

# ---- what can happen to the session meanwhile

for (
	[ 'a logout', 'gone', q{SELECT session_delete('gone')}, qr/SST10/ ],
	[ 'a DELETE', 'plain', q{DELETE FROM conversation_sessions WHERE session_id = 'plain'}, qr/^$/ ],
	[ 'a new id', 'renamed', q{SELECT session_regenerate('renamed')}, qr/SST10/ ],
	[ 'a lost right', 'x1', q{UPDATE session_namespaces SET allowed_roles = '{pg_monitor}'}, qr/42501/ ],
	[ 'a TRUNCATE', 'truncated', q{SET client_min_messages = warning; TRUNCATE conversation_sessions CASCADE}, qr/^$/ ])
{
	my ($what, $id, $statement, $expected) = @$_;

	value("SELECT session_save('$id', '{}') WHERE NOT session_exists('$id')");
	value("SELECT session_turn_begin('$id', '1 hour')");
	if ($what eq 'a lost right')
	{
		value(q{INSERT INTO session_namespaces (name) VALUES ('default'); CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA public TO writer; GRANT EXECUTE ON FUNCTION session_turn_begin TO writer});
		$waiter->query_safe('SET ROLE writer');
	}
	$waiter->{stderr} = '';
	$waiter->query_until(qr/sent/, "\\set VERBOSITY sqlstate\n\\set ON_ERROR_STOP 0\n\\echo sent\nSELECT session_turn_begin('$id', wait => '1 day');\n\\echo finished\n");
	wait_until_asleep();
	value($statement);
	my $result = finish($waiter) . ($waiter->{stderr} // '');
	like($result, $expected, "$what during the wait");
	$waiter->{stderr} = '';
	$waiter->query_safe('RESET ROLE');
}
value(q{DELETE FROM session_namespaces; SELECT session_save(id, '{}') FROM unnest('{x, free, x1}'::text[]) id});

# ---- interrupted

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
for (
	[ 'cancelled', '', "SELECT pg_cancel_backend(pid) FROM $waiting", '57014' ],
	[ 'cancelled in a transaction', 'BEGIN;', "SELECT pg_cancel_backend(pid) FROM $waiting", '57014' ],
	[ 'cancelled in a savepoint', 'BEGIN; SAVEPOINT s;', "SELECT pg_cancel_backend(pid) FROM $waiting", '57014' ],
	[ 'timed out in a savepoint', q{SET statement_timeout = '100ms'; BEGIN; SAVEPOINT s;}, undef, '57014' ])
{
	my ($what, $before, $interrupt, $code) = @$_;

	$waiter->query_safe($before) if $before ne '';
	$waiter->{stderr} = '';
	$waiter->query_until(qr/sent/, "\\echo sent\nSELECT session_turn_begin('x', wait => '1 day');\n\\echo finished\n");
	if ($interrupt)
	{
		wait_until_asleep();
		value($interrupt);
	}
	finish($waiter);
	like($waiter->{stderr}, qr/$code/, "a call is $what");
	$waiter->{stderr} = '';
	$waiter->query_safe('ROLLBACK TO s') if $before =~ /SAVEPOINT/;
	is($waiter->query_safe(q{SELECT session_turn_begin('x', wait => '10 ms')}), '', '.. and another can wait in the same transaction') if $before =~ /SAVEPOINT/;
	$waiter->query_safe($before =~ /BEGIN/ ? 'ROLLBACK; RESET statement_timeout' : 'SELECT 1');
	like($waiter->query_safe(q{SELECT session_turn_begin('free', '1 s', wait => '1 day')}), qr/^\d+$/, '.. and its session goes on working');
}
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep();
value("SELECT pg_terminate_backend(pid) FROM $waiting");
wait_for($node, "SELECT count(*) = 0 FROM $waiting", 'a call is terminated');
eval { $waiter->quit };
@open = grep { $_ != $waiter } @open;
$waiter = open_psql();

# ---- a client that has gone gets no turn

my $gone = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', q{SELECT session_turn_begin('x', '1 hour', wait => '1 day')}, 'postgres' ],
	'<', \'', '>', '/dev/null', '2>', '/dev/null');
wait_until_asleep();
$gone->signal('KILL');
wait_for($node, "SELECT count(*) = 0 FROM $waiting", 'a call ends when its client has gone', timeout => 30);
eval { $gone->finish };
is(value("SELECT session_turn_end('x', $turn)"), 't', '.. and the turn is ended');
is(value(q{SELECT count(*) FROM session_turn('x')}), '0', '.. and nobody holds the next one');
$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});

# ---- which statements can wait: the same ones whether the turn is free or busy

value(<<'EOS');
CREATE FUNCTION inlined(id text) RETURNS bigint LANGUAGE sql AS $$ SELECT session_turn_begin(id, '1 s', wait => '10 ms') $$;
CREATE FUNCTION in_plpgsql(id text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN session_turn_begin(id, '1 s', wait => '10 ms'); END $$;
CREATE FUNCTION user_defined() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'a'; END $$;
CREATE PROCEDURE in_procedure(id text) LANGUAGE plpgsql AS $$ BEGIN COMMIT; PERFORM session_turn_begin(id, '1 s', wait => '10 ms'); END $$;
CREATE FUNCTION in_planner(id text) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT session_turn_begin(id, '1 s', wait => '10 ms') $$;
CREATE VIEW in_view AS SELECT session_turn_begin('x', '1 s', wait => '10 ms');
CREATE FUNCTION explained() RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF) EXECUTE p' INTO t; RETURN t; END $$;
EOS
for my $id ('free', 'x')
{
	my $call = "session_turn_begin('$id', '1 ms', wait => '10 ms')";
	my $state = $id eq 'x' ? 'busy' : 'free';

	is(sqlstate($node, $_), '00000', "$state: $_")
	  for ("SELECT $call", "SELECT $call AS turn, now()", "SELECT ${call}::text", "SELECT coalesce($call, 0) > 1", "SELECT * FROM $call",
		"SELECT t + 1 FROM $call AS t", "SELECT inlined('$id')", "SELECT * FROM inlined('$id')",
		"SELECT session_turn_begin(session_id => upper('$id'), ttl => '1 s', holder => current_user, wait => '10 ms')",
		"BEGIN; SELECT count(*) FROM filler; SAVEPOINT s; SELECT 1; SELECT $call; COMMIT", "BEGIN; LOCK TABLE filler; SELECT $call; COMMIT");
	is(sqlstate($node, $_), '0A000', "$state: $_")
	  for ("SELECT $call FROM conversation_sessions", "SELECT $call WHERE now() IS NOT NULL", "SELECT $call LIMIT 1", "SELECT (SELECT $call)",
		"WITH t AS MATERIALIZED (SELECT $call) SELECT * FROM t", "EXPLAIN ANALYZE SELECT $call", "COPY (SELECT $call) TO STDOUT",
		"SELECT in_plpgsql('$id')", "CALL in_procedure('$id')", "SELECT in_planner('$id')", "TABLE in_view", "DO \$\$ BEGIN PERFORM $call; END \$\$",
		"PREPARE p AS SELECT $call; EXECUTE p", "PREPARE p AS SELECT $call; SELECT explained()", "BEGIN; DECLARE c CURSOR FOR SELECT $call; FETCH c",
		"BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT $call; FETCH c", "DECLARE c CURSOR WITH HOLD FOR SELECT $call",
		"SELECT $call UNION ALL SELECT 1", "VALUES ($call)", "SELECT $call, user_defined()", "SELECT $call, $call AS twice", "SELECT generate_series(1, $call)",
		"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT $call", "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT $call");
	is(sqlstate($node, $_), '25001', "$state: $_")
	  for ("BEGIN; SELECT pg_current_xact_id() IS NULL; SELECT $call", "CREATE TABLE t AS SELECT $call", "BEGIN; SAVEPOINT s; INSERT INTO tokens DEFAULT VALUES; ROLLBACK TO s; SELECT $call",
		"INSERT INTO tokens VALUES (1); BEGIN; SELECT session_turn_begin('free', '1 ms', wait => '10 ms'); DELETE FROM tokens; SELECT $call",
		"SELECT session_save('written', '{}'); BEGIN; SELECT session_save('written', '{}'); SELECT $call");
	is(sqlstate($node, "BEGIN READ ONLY; SELECT $call"), '25006', "$state: a READ ONLY transaction");
}
value('DELETE FROM tokens');

# ---- with what wraps the executor

$waiter->query_safe(q{LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_nested_statements = on});
$waiter->query_safe(q{SET track_functions = 'all'; SET jit = on; SET jit_above_cost = 0});
is($waiter->query_safe(q{SELECT session_turn_begin('x', wait => '50 ms')}), '', 'with auto_explain');
$waiter->query_safe(q{SET log_executor_stats = on; SET client_min_messages = error; SET debug_print_plan = on});
is($waiter->query_safe(q{SELECT session_turn_begin('x', wait => '50 ms')}), '', 'with statistics of the executor');
$waiter->query_safe('RESET ALL');
value("SELECT session_turn_end('x', $turn)");

# ---- fifty clients: each gets one turn, one after the other, by each protocol

for my $protocol ('simple', 'extended', 'prepared')
{
	pgbench_run($node, <<'EOS', '-M', $protocol, '-c', 50, '-j', 2, '-t', 2, "--random-seed=$seed");
\set n 1
SELECT session_turn_begin('x' || :n, '1 min', wait => '1 day') AS turn, extract(epoch FROM clock_timestamp()) AS begun \gset
INSERT INTO tokens VALUES (:turn, :client_id, :begun, extract(epoch FROM clock_timestamp()));
SELECT session_turn_end('x' || :n, :turn);
EOS
	is(value('SELECT count(*), count(DISTINCT turn), count(DISTINCT client) FROM tokens'), '100|100|50', "$protocol: fifty clients get two turns each");
	is(value('SELECT count(*) FROM (SELECT ended, lead(begun) OVER (ORDER BY turn) AS next FROM tokens) t WHERE next < ended'), '0', '.. one after the other, in the order of the tokens');
	value('TRUNCATE tokens');
}
pgbench_run($node, <<'EOS', '-M', 'extended', '-c', 4, '-t', 5);
\startpipeline
SELECT session_turn_begin('x1', '1 ms', wait => '1 day');
\endpipeline
EOS

# ---- who finds the turn taken again has locked nothing, however many try at once

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
my $all = 25;
my @crowd = map {
	IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', q{SELECT session_turn_begin('x', '1 hour', wait => '1 day')}, 'postgres' ],
		'<', \'', '>', '/dev/null')
} 1 .. $all;
my $with_id = 0;
for my $left (reverse 0 .. $all - 1)
{
	wait_for($node, "SELECT count(*) = $left + 1 FROM $waiting AND wait_event_type = 'Extension'", "all but $left sleep", quiet => 1);
	value(q{SELECT session_turn_end('x', turn) FROM conversation_sessions WHERE session_id = 'x'});
	wait_for($node, "SELECT count(*) = $left FROM $waiting", "one of them begins its turn, $left wait", quiet => 1);
	$with_id += value("SELECT count(backend_xid) FROM $waiting");
}
$_->finish for @crowd;
is($with_id, 0, "$all wait together: none of them has a transaction id");
value(q{SELECT session_turn_end('x', turn) FROM conversation_sessions WHERE session_id = 'x'});

# ---- waits that are cut short at any point

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
my @files = map {
	my $file = PostgreSQL::Test::Utils::tempdir() . "/cut$_.sql";
	my $script = '';

	for (1 .. 150)
	{
		my $ms = 1 + int(rand(8));
		my $id = rand() < 0.5 ? 'x' : 'x1';
		my $call = rand() < 0.3 ? "SELECT * FROM session_turn_begin('$id', '5 ms', wait => '5 s')" : "SELECT session_turn_begin('$id', '5 ms', wait => '5 s')";

		$script .= "SET statement_timeout = $ms;\n";
		$script .= rand() < 0.4 ? "BEGIN; SAVEPOINT s;\n$call;\nROLLBACK TO s;\n$call;\nCOMMIT;\n" : "$call;\n";
	}
	PostgreSQL::Test::Utils::append_to_file($file, "$script\\echo reached the end\n");
	$file;
} 1 .. 6;
my @runs = map {
	my $out = '';
	{ out => \$out, run => IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-f', $_, 'postgres' ], '<', \'', '>', \$out, '2>', '/dev/null') }
} @files;
my $cancels = 0;
while (grep { $_->{run}->pumpable } @runs)
{
	$cancels += value("SELECT count(pg_cancel_backend(pid)) FROM $waiting AND pg_catalog.random() < 0.3");
	$_->{run}->pump_nb for grep { $_->{run}->pumpable } @runs;
}
$_->{run}->finish for @runs;
is(scalar(grep { ${ $_->{out} } =~ /reached the end/ } @runs), 6, "waits that are cut short, $cancels of them by pg_cancel_backend");
is(value("SELECT session_turn_end('x', $turn)"), 't', '.. and the turn is still that of its holder');
is(count_log($node, qr/WARNING: .*(snapshot|leak)/), 0, '.. and no snapshot or resource is left behind');

# ---- without direct access to the rows

value(q{ALTER SYSTEM SET session_store.direct_rows = off});
value('SELECT pg_reload_conf()');
wait_for($node, q{SELECT current_setting('session_store.direct_rows') = 'off'}, 'by statements', quiet => 1);
$waiter->query_safe('SELECT 1');
$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour')});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep('by statements: a call that waits has no snapshot');
is(value("SELECT backend_xid IS NULL FROM $waiting"), 't', '.. and no transaction id');
wait_for($node, "SELECT count(*) = 1 FROM pg_locks WHERE pid = (SELECT pid FROM $waiting)", '.. and no lock');
value("SELECT session_turn_end('x', $turn)");
cmp_ok($token = finish($waiter), '>', $turn, '.. and it begins the next turn');
value("SELECT session_turn_end('x', $token)");
pgbench_run($node, <<'EOS', '-c', 20, '-j', 2, '-t', 2);
SELECT session_turn_begin('x', '1 min', wait => '1 day') AS turn, extract(epoch FROM clock_timestamp()) AS begun \gset
INSERT INTO tokens VALUES (:turn, :client_id, :begun, extract(epoch FROM clock_timestamp()));
SELECT session_turn_end('x', :turn);
EOS
is(value('SELECT count(*), count(DISTINCT turn) FROM tokens'), '40|40', '.. and twenty clients get two turns each');
value('ALTER SYSTEM RESET session_store.direct_rows');
value('SELECT pg_reload_conf()');

# ---- a row that is locked

my $locker = open_psql();
$locker->query_safe(q{BEGIN; SELECT FROM conversation_sessions WHERE session_id = 'x' FOR UPDATE});
send_to($waiter, q{SELECT session_turn_begin('x', '1 s', wait => '1 day');});
wait_until_asleep('a call does not wait for a row lock, but sleeps');
is(value("SELECT backend_xid IS NULL FROM $waiting"), 't', '.. without a transaction id');
$locker->query_safe('ROLLBACK');
like(finish($waiter), qr/^\d+$/, '.. and begins when the row is free');

# ---- DDL and shutdown

value('CREATE DATABASE other');
create_extension($node, 'other');
$node->safe_psql('other', q{SELECT session_save('x', '{}'); SELECT session_turn_begin('x', '1 hour')});
my $elsewhere = $node->background_psql('other');
$elsewhere->query_until(qr/sent/, "\\echo sent\nSELECT session_turn_begin('x', wait => '1 day');\n");
wait_until_asleep();
$node->safe_psql('other', q{SET lock_timeout = '60 s'; DROP EXTENSION session_store});
wait_for($node, "SELECT count(*) = 0 FROM $waiting", 'DROP EXTENSION does not wait, and ends the call');
eval { $elsewhere->quit };
create_extension($node, 'other');
$node->safe_psql('other', q{SELECT session_save('x', '{}'); SELECT session_turn_begin('x', '1 hour')});
$elsewhere = $node->background_psql('other');
$elsewhere->query_until(qr/sent/, "\\echo sent\nSELECT session_turn_begin('x', wait => '1 day');\n");
wait_until_asleep();
value('DROP DATABASE other WITH (FORCE)');
is(value("SELECT count(*) FROM $waiting"), '0', 'DROP DATABASE WITH (FORCE) ends the call');
eval { $elsewhere->quit };

$turn = $holder->query_safe(q{SELECT session_turn_begin('x', '1 hour', wait => '1 day')});
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep();
leave_nothing($node);
for (@open)
{
	eval { $_->quit };
}

# ---- without shared_preload_libraries nobody can be woken: it looks often

$node = new_store('turn_wait_bare', bare => 1);
value(q{SELECT session_save('x', '{}')});
$turn = value(q{SELECT session_turn_begin('x', '1 hour')});
$waiter = $node->background_psql('postgres');
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day'), extract(epoch FROM clock_timestamp());});
wait_until_asleep('not preloaded: a call that waits has no snapshot');
$until = value("BEGIN; SELECT session_turn_end('x', $turn); COMMIT; SELECT extract(epoch FROM clock_timestamp())") =~ s/^t\n//r;
($token, $begun) = split /\|/, finish($waiter);
cmp_ok($token, '>', $turn, '.. and it begins the next turn');
in_time($begun < $until ? 0 : $begun - $until, 0.05, '.. soon after the end of the one before');
send_to($waiter, q{SELECT session_turn_begin('x', wait => '1 day');});
wait_until_asleep();
value("SELECT pg_cancel_backend(pid) FROM $waiting");
wait_for($node, "SELECT count(*) = 0 FROM $waiting", '.. and can be cancelled');
eval { $waiter->quit };
leave_nothing($node);
done_testing();
