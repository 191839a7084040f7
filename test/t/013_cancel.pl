# Query cancellation everywhere, and statement_timeout where the server arms it, leave the
# session of the caller usable. Logouts are on disk when COMMIT returns.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time);

my $node = new_store('cancel', conf => <<'EOC');
session_store.touch_slots = 64
session_store.purge_interval = 0
autovacuum = off
max_wal_size = 4GB
wal_writer_delay = 10s
shared_buffers = 256MB
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, max_sessions_per_owner) VALUES ('quota', 'quota:', 2), ('many', 'many:', NULL);
SELECT session_save('a', '{"n": 1}', owner => 'u');
SELECT session_save('s' || i, '{}') FROM generate_series(1, 1000) i;
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, check_at, updated_at, expires_at)
	SELECT 'many', 'dead' || i, 'o', '{}', '1 hour', now() - interval '2 hours', now() - interval '1 hour', now() - interval '2 hours', now() - interval '1 hour'
	FROM generate_series(1, 300000) i;
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl)
	SELECT 'many', 'live' || i, 'p', jsonb_build_object('n', i), '1 day' FROM generate_series(1, 300000) i;
EOS

# ---- canceled while a subtransaction of ours begins or ends

# At DEBUG5 the server reports these steps, and checks for a timeout after each report. The error must
# not leave the subtransaction open: every later command of the session would fail then (25P02).
{
	my ($cancelled, $all) = (0, '');

	value(q{INSERT INTO session_namespaces (name, key_prefix, tombstone) VALUES ('cleared', 'cleared:', '0')});
	# so many sessions that clearing them takes as long as the timeouts on any machine
	for (my $n = 20; $cancelled == 0 && $n <= 20_000; $n *= 5)
	{
		my $script = "SET session_store.namespace = 'cleared';\nSET client_min_messages = debug5;\n";

		$script .= "SELECT count(session_save('c' || i, '{}')) FROM generate_series(1, $n) i;\n"
		  . "SET statement_timeout = @{[ 1 + $_ % 9 ]};\n"
		  . "SELECT session_clear('cleared');\nRESET statement_timeout;\n" for 1 .. 300;
		my ($rc, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);

		$cancelled = () = $err =~ /ERROR: .*statement timeout/g;
		$all .= $err;
	}
	cmp_ok($cancelled, '>', 0, "clears were canceled while the server reported everything ($cancelled of 300)");
	unlike($all, qr/current transaction is aborted|unexpected state|connection to server was lost/,
		'.. and the session is usable after each');
}

# ---- canceled while it waits, or works

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe(q{SELECT session_save('a', '{"n": 2}')});
$holder->query_safe(q{SELECT session_save('q1', '{}', owner => 'w', namespace => 'quota')});

my %wait = (
	'a save that waits for a row' => q{SELECT session_save('a', '{"n": 3}')},
	'a merge that waits' => q{SELECT session_merge('a', '{}')},
	'a delete that waits' => q{SELECT session_delete('a')},
	'a regenerate that waits' => q{SELECT session_regenerate('a')},
	'a delete_all that waits' => q{SELECT session_delete_all('u')},
	'a creator that waits for the owner' => q{SELECT session_save('q2', '{}', owner => 'w', namespace => 'quota')},
);
my %work = (
	'a large purge' => 'SELECT session_purge(300000)',
	'a list with a filter that no session matches' => q{SELECT * FROM session_list(filter => '{"no": "such"}', namespace => 'many') l1},
	'a list with a pattern that no session matches' => q{SELECT * FROM session_list(id_like => 'no%such', namespace => 'many')},
	'a large count' => q{SELECT session_count(id_like => '%e%1%', namespace => 'many') FROM generate_series(1, 100)},
	'a large clear' => q{SELECT session_clear('many')},
	'a large delete_all' => q{SELECT session_delete_all('p', namespace => 'many')},
);

# pg_cancel_backend, once the call is known to wait for a lock
for my $what (sort keys %wait)
{
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $psql->query_safe('SELECT pg_backend_pid()');

	$psql->query_until(qr/started/, "\\echo started\n$wait{$what};\n\\echo :LAST_ERROR_SQLSTATE\n");
	wait_for($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", "$what: waits", quiet => 1);
	my $start = time;
	value("SELECT pg_cancel_backend($pid)");
	my $after = $psql->query(q{SELECT session_get('a') ->> 'n'});
	in_time(time - $start, 2, "$what is canceled at once");
	like($after, qr/57014\n1$/, '.. and the next call works');
	$psql->{stderr} = '';
	$psql->quit;
}

# statement_timeout and lock_timeout
for my $what (sort keys %wait, sort keys %work)
{
	my $sql = $wait{$what} // $work{$what};
	my $start = time;

	is(sqlstate($node, "SET statement_timeout = '100ms'; $sql"), '57014', "$what: statement_timeout");
	in_time(time - $start, 2, '.. in time');
}
is(sqlstate($node, "SET lock_timeout = '100ms'; $wait{'a save that waits for a row'}"), '55P03', 'lock_timeout');

# in a transaction, after a savepoint
is(value(<<'EOS'), "t\n1\nt\n{\"n\": 1}", 'a savepoint takes it back, and the transaction goes on');
SELECT count(*) = 600000 FROM conversation_sessions WHERE namespace = 'many';
BEGIN;
SELECT session_save('before', '{}');
SAVEPOINT s;
\set ON_ERROR_STOP off
SET LOCAL statement_timeout = '100ms';
SELECT session_clear('many');
ROLLBACK TO s;
\set ON_ERROR_STOP on
SELECT session_exists('before');
SELECT session_get('a');
COMMIT;
EOS
$holder->query_safe('ROLLBACK');
$holder->quit;

is(value('SELECT session_purge(1000)'), '1000', 'a purge after all of that');
is(value(q{SELECT session_save('a', '{"n": 5}')}), '2', '.. and a save: one version was counted');

# ---- a read that waits for a free touch slot

$holder = $node->background_psql('postgres');
$holder->query_safe(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id LIKE 's%'});
$holder->query_safe(q{BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions WHERE namespace = 'default' FOR UPDATE) s});
my $start = time;
my $state = sqlstate($node, q{SET statement_timeout = '30ms'; SELECT count(session_get('s' || i)) FROM generate_series(1, 1000) i});
my $took = time - $start;
is($state, '57014', 'reads that wait for a touch slot are canceled');
in_time($took, 1, '.. in time');
is(value(q{SELECT count(session_get('s' || i)) FROM generate_series(900, 910) i}), '11', '.. and others continue to read');
$holder->query_safe('ROLLBACK');
$holder->quit;

# ---- what is on disk when COMMIT returns

# flushed(sql): was everything that a transaction wrote on disk when it had committed?
sub flushed
{
	my ($sql) = @_;

	return value(<<"EOS");
SET synchronous_commit = off;
SELECT 1 AS prepared \\gset
BEGIN;
$sql \\gset
SELECT pg_current_wal_insert_lsn() AS inserted \\gset
COMMIT;
SELECT pg_current_wal_flush_lsn() >= :'inserted';
EOS
}

value(q{SELECT session_save('log' || i, '{}', owner => 'out' || i) FROM generate_series(1, 20) i});
is(flushed(q{SELECT session_delete('log1') AS x}), 't', 'delete is on disk');
is(flushed(q{SELECT session_delete_all('out2') AS x}), 't', 'delete_all is on disk');
is(flushed(q{SELECT session_regenerate('log3') AS x}), 't', 'regenerate is on disk');
is(flushed(q{SAVEPOINT s; SELECT session_delete('log4') AS x \gset
RELEASE s; SELECT 1 AS y}), 't', 'delete in a savepoint is on disk');
is(value(q{SET synchronous_commit = off; BEGIN; SELECT session_delete('log5') \gset
COMMIT; SHOW synchronous_commit}), 'off', '.. and the setting of the caller is as before');

# a save follows the setting; the WAL writer may flush it meanwhile, so one of many is enough
my $lazy = 0;
$lazy += flushed(qq{SELECT session_save('log$_', '{"n": 1}') AS x}) eq 'f' for 10 .. 19;
cmp_ok($lazy, '>', 0, "saves do as synchronous_commit says ($lazy of 10 were not on disk yet)");

# after a crash the logouts hold
value(q{SET synchronous_commit = off; SELECT session_delete('log20')});
$node->stop('immediate');
$node->start;
wait_for_keeper($node, 'postgres');
is(value(q{SELECT session_exists('log1'), session_exists('log2'), session_exists('log3'), session_exists('log4'), session_exists('log20')}), 'f|f|f|f|f',
	'.. and hold after a crash');

leave_nothing($node);
done_testing();
