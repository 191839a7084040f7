# Launcher and keepers: start with the server, at CREATE EXTENSION and in copies of a database;
# end at DROP EXTENSION; restart after they were killed; and lasting errors.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time);

my $node = new_store('workers', extension => 0, conf => "restart_after_crash = on\n");

# ---- coming and going

wait_for($node,
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store launcher'},
	'one launcher after the start', timeout => 3);
is(keeper_pid($node, 'postgres'), '', 'no keeper where there is no extension');

$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION session_store; ROLLBACK');
$node->safe_psql('postgres', 'CREATE EXTENSION session_store');
wait_for_keeper($node, 'postgres', what => 'a keeper after CREATE EXTENSION', timeout => 3);
is(health($node, 'keeper,running'), 'true', 'health says so');
is(health($node, 'launcher,running'), 'true', '.. and sees the launcher');
is(health($node, 'warnings'), '[]', '.. and has no warning');

$node->safe_psql('postgres', "SELECT session_save('short', '{}', ttl => '500 ms')");
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions',
	'an expired row is purged', timeout => 10);

# a template database needs a moment without its keeper, which exits for that
$node->safe_psql('postgres', 'CREATE DATABASE origin');
$node->safe_psql('origin', 'CREATE EXTENSION session_store');
wait_for_keeper($node, 'origin', what => 'a keeper of another database', timeout => 3);
within(5, 'CREATE DATABASE .. TEMPLATE',
	sub { $node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE origin') });
wait_for_keeper($node, 'copied', what => 'a keeper for the copy', timeout => 10);
wait_for_keeper($node, 'origin', what => '.. and one for the original again', timeout => 10);
$node->safe_psql('copied', "SELECT session_save('short', '{}', ttl => '500 ms')");
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions',
	'which purges', db => 'copied', timeout => 10);

$node->safe_psql('copied', 'BEGIN; DROP EXTENSION session_store; ROLLBACK');
wait_for_keeper($node, 'copied', what => 'a rolled back DROP EXTENSION keeps its keeper', timeout => 10);
$node->safe_psql('copied', 'DROP EXTENSION session_store');
wait_for($node,
	q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = 'copied'},
	'no keeper after DROP EXTENSION', timeout => 3);
$node->safe_psql('copied', 'CREATE EXTENSION session_store');
wait_for_keeper($node, 'copied', what => 'and one again after CREATE EXTENSION', timeout => 3);

$node->restart;
wait_for_keeper($node, $_, what => "a keeper of $_ after a restart", timeout => 3)
  for qw(postgres origin copied);

# ---- killed

sub back_again
{
	my ($what, $query) = @_;

	wait_for($node, $query, $what, timeout => 10);
	$node->safe_psql('postgres', "SELECT session_save('short', '{}', ttl => '300 ms')");
	wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', '.. and it purges', timeout => 10);
}

my $is_other = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store %s' AND pid <> %d};
my $keeper_is_other = $is_other . q{ AND datname = 'postgres'};

my $pid = keeper_pid($node, 'postgres');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
back_again('a terminated keeper is back', sprintf($keeper_is_other, 'keeper', $pid));

$pid = launcher_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
back_again('a terminated launcher is back', sprintf($is_other, 'launcher', $pid));
is($node->safe_psql('postgres',
		q{SELECT count(*), count(DISTINCT datname) FROM pg_stat_activity WHERE backend_type = 'session_store keeper'}),
	'3|3', '.. and each database still has one keeper');

$pid = keeper_pid($node, 'postgres');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$node->safe_psql('postgres', "SELECT session_save('short', '{}', ttl => '300 ms')");
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', 'a keeper that was canceled continues', timeout => 10);

$pid = keeper_pid($node, 'postgres');
kill 9, $pid;
wait_for($node, sprintf($keeper_is_other, 'keeper', $pid), 'a keeper after kill -9 of the keeper', timeout => 10);
back_again('.. and a launcher',
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store launcher'});
$pid = launcher_pid($node);
kill 9, $pid;
wait_for($node, sprintf($is_other, 'launcher', $pid), 'a launcher after kill -9 of the launcher', timeout => 10);
back_again('.. and a keeper', sprintf($keeper_is_other, 'keeper', 0));

# ---- lasting errors

# One task fails each time: it reports that, its attempts become rarer, and the other tasks continue.
my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER TABLE session_events RENAME TO session_events_lost');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . keeper_pid($node, 'postgres') . ')');
wait_for($node,
	q{SELECT session_health() #>> '{keeper,tasks,events,last_error}' LIKE '%session_events%'},
	'session_health() shows a failing task with its error', timeout => 15);
wait_for($node, q{SELECT session_health() ->> 'warnings' ~ 'the keeper''s task .*events.* failed [0-9]+ times in a row: .*session_events'},
	'.. and warns of it', timeout => 5);
$node->safe_psql('postgres', "SELECT session_save('short', '{}', ttl => '300 ms')");
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', 'the purge continues', timeout => 10);
wait_for($node, q{SELECT (session_health() #>> '{keeper,tasks,events,failures}')::int >= 3},
	'it is tried again', timeout => 60);

my $lines = count_log($node, qr/ERROR: /, $offset);
my $failures = health($node, 'keeper,tasks,events,failures');
my $start = time;
wait_for($node, "SELECT (session_health() #>> '{keeper,tasks,events,failures}')::int > $failures",
	'and again', timeout => 120);
my $pause = time - $start;
cmp_ok($pause, '>', 2, sprintf('more and more seldom (%.1f s to the next)', $pause));
cmp_ok($lines, '<=', 6, "and the log is not flooded ($lines errors)");

$node->safe_psql('postgres', 'ALTER TABLE session_events_lost RENAME TO session_events');
wait_for($node, q{SELECT session_health() #>> '{keeper,tasks,events,failures}' = '0' AND session_health() ->> 'warnings' = '[]'},
	'once the cause is gone, the task recovers by itself', timeout => 60);

# The purge itself fails, because of a trigger of a user.
$offset = -s $node->logfile;
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION keep_all() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'nothing is ever deleted here'; END $$;
CREATE TRIGGER keep_all BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION keep_all();
SELECT session_save('short', '{}', ttl => '300 ms');
EOS
wait_for($node,
	q{SELECT session_health() #>> '{set_aside,purge,last_sqlstate}' = 'P0001'},
	'session_health() shows that the purge fails', timeout => 15);
wait_for($node, q{SELECT (session_health() #>> '{set_aside,purge,failures}')::int >= 3},
	'it is tried again', timeout => 30);
$lines = count_log($node, qr/(?:ERROR|LOG): .*nothing is ever deleted/, $offset);
cmp_ok($lines, '<=', 6, "without flooding the log ($lines errors)");
$node->safe_psql('postgres', 'DROP TRIGGER keep_all ON conversation_sessions');
wait_for($node, 'SELECT count(*) = 0 FROM conversation_sessions', 'once the cause is gone, it purges again', timeout => 60);

# When a table is damaged, no task works, and session_health() still answers.
$node->safe_psql('postgres', 'ALTER TABLE conversation_sessions RENAME COLUMN check_at TO check_lost');
wait_for($node, q{SELECT session_health() ->> 'warnings' LIKE '%check_at%'},
	'session_health() answers when a column is missing', timeout => 5);
$node->safe_psql('postgres', 'ALTER TABLE conversation_sessions RENAME COLUMN check_lost TO check_at');

leave_nothing($node, crashes => 2);
done_testing();
