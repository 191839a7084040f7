# Tables that are altered while a backend uses them or a statement waits for its locks: what the
# backend has cached about them is invalidated.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('invalidated', conf => "session_store.purge_interval = 0\nautovacuum = off\nsession_store.direct_rows = off\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub waits
{
	my ($what) = @_;

	return wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Lock'}, $what);
}

value(q{SELECT session_save('s', '{"n": 1}', owner => 'u')});

# ---- a plan that is made again while the statement waits for its locks uses an index

my $waiter = $node->background_psql('postgres');
my $other = $node->background_psql('postgres');

value('ANALYZE conversation_sessions');
$waiter->query_safe(q{SET application_name = 'waiter'; SELECT session_count() FROM generate_series(1, 3)});
$other->query_safe('BEGIN; LOCK conversation_sessions IN ACCESS EXCLUSIVE MODE');
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT session_count();\n");
waits('a statement waits for the table');
$other->query_safe('ALTER TABLE conversation_sessions SET (fillfactor = 81); COMMIT');
$waiter->query_safe('SELECT 1');
# counts that are not reported yet are included: two reads in one transaction
my $scans = q{SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'conversation_sessions'};
$waiter->query_safe('BEGIN');
my $before = $waiter->query_safe($scans);
$waiter->query_safe('SELECT session_count()');
is($waiter->query_safe($scans) - $before, '0', 'the next statement uses an index');
$waiter->query_safe('COMMIT');
$waiter->quit;

# ---- a table that is altered while a backend checks it for the first time

value('CREATE TABLE child () INHERITS (conversation_sessions)');
$waiter = $node->background_psql('postgres', on_error_stop => 0);
$waiter->query_safe(q{SET application_name = 'waiter'; LOAD 'session_store'});
$other->query_safe('BEGIN; LOCK pg_inherits IN ACCESS EXCLUSIVE MODE');
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT session_exists('s');\n");
waits('a backend checks the table');
$other->query_safe('ALTER TABLE conversation_sessions RENAME COLUMN version TO was_version; COMMIT');
$waiter->query('SELECT 1');
$waiter->{stderr} = '';
is($waiter->query(q{SELECT session_exists('s')}), '', 'the next call detects that it was altered');
like($waiter->{stderr}, qr/damaged: column version of conversation_sessions/, '.. and raises an error');
$other->query_safe('ALTER TABLE conversation_sessions RENAME COLUMN was_version TO version');
$waiter->quit;
$other->quit;

leave_nothing($node);
done_testing();
