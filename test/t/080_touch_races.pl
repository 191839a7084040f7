# A touch is not lost if the row gets another version between the read of the row and the record of
# the touch: the keeper writes an older touch meanwhile, or the row was changed after the snapshot
# of the reader was taken.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('touch_races', conf => "autovacuum = off\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# The expiry of the session; reading it does not slide.
my $end = q{(SELECT session_effective_expiry(namespace, session_id, expires_at) FROM conversation_sessions WHERE session_id = 'x')};
my $holder = $node->background_psql('postgres');

# A session with a ttl of an hour that ends in half an hour, with a pending touch that the keeper
# cannot write, because the row is locked.
sub prepare
{
	$node->safe_psql('postgres', q{DELETE FROM conversation_sessions; SELECT session_save('x', '{}', ttl => '1 hour')});
	value(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes'});
	$holder->query_safe(q{BEGIN; SELECT pg_advisory_lock(1); SELECT FROM conversation_sessions FOR UPDATE});
	value(q{SELECT session_get('x')});
	is(value("SELECT expires_at < $end FROM conversation_sessions"), 't', 'a pending touch');
	return;
}

# A statement begins and waits; the keeper writes the older touch; $meanwhile is run; the statement
# continues.  Returns its result.
sub interleave
{
	my ($statement, $meanwhile) = @_;
	my $psql = $node->background_psql('postgres');

	prepare();
	$psql->query_until(qr/begun/, "\\echo begun\n$statement;\n");
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'}, 'the statement waits');
	$holder->query_safe('COMMIT');
	wait_for($node, q{SELECT expires_at > clock_timestamp() + interval '40 minutes' FROM conversation_sessions}, 'the keeper writes the older touch');
	my $result = $meanwhile ? value($meanwhile) : undef;
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	my $out = $psql->query_safe('SELECT 1');
	$psql->quit;
	return ($out =~ s/\|.*//sr, $result);
}

wait_for_keeper($node, 'postgres');

my ($touched, $other) = interleave(q{SELECT session_touch('x'), pg_advisory_lock(1)});
is(value("SELECT $end >= '$touched'"), 't', 'session_touch() holds what it returns');
($touched, $other) = interleave(q{SELECT session_touch('x'), pg_advisory_lock(1)}, q{SELECT session_touch('x')});
is(value("SELECT $end >= '$other'"), 't', '.. and a touch that another transaction makes meanwhile is kept');
interleave(q{SELECT pg_advisory_lock(1), session_get('x')}, q{SELECT expires_at AS was INTO written FROM conversation_sessions});
is(value("SELECT $end > was FROM written"), 't', 'a read in an older snapshot slides the session');

# ---- a cursor that was opened before the row got another version

prepare();
my $cursor = $node->background_psql('postgres');
$cursor->query_safe(q{BEGIN; DECLARE c CURSOR FOR SELECT session_get('x')});
$holder->query_safe('COMMIT; SELECT pg_advisory_unlock(1)');
wait_for($node, q{SELECT expires_at > clock_timestamp() + interval '40 minutes' FROM conversation_sessions}, 'the keeper has written the touch');
# it moves the touch after its commit
soon('.. and the slot is free', 60, sub { health($node, 'touches,used') == 0 });
value(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '20 minutes'});
is($cursor->query_safe('FETCH c'), '{}', 'FETCH reads the session');
is(value("SELECT $end > clock_timestamp() + interval '50 minutes'"), 't', '.. and slides it');
$cursor->query_safe('COMMIT');
$cursor->quit;

# ---- a parallel query, which cannot read a row again, while touches of other sessions are written

$node->safe_psql('postgres', q{
	DELETE FROM conversation_sessions;
	CREATE TABLE ids WITH (parallel_workers = 2) AS SELECT 'x' || i AS id FROM generate_series(1, 100) i;
	DO $$ BEGIN
		PERFORM session_save('k' || i, '{}', ttl => '1 hour') FROM generate_series(1, 400) i;
		PERFORM session_save(id, '{}', ttl => '1 hour') FROM ids;
	END $$;
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes';
	SET parallel_setup_cost = 0;
	SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0;
	DO $$ BEGIN PERFORM session_get('k' || i) FROM generate_series(1, 400) i; END $$;
	SELECT count(data) FROM (SELECT pg_sleep(CASE WHEN row_number() OVER () = 1 THEN 0.7 ELSE 0 END), session_get(id) AS data FROM ids OFFSET 0) q;
});
wait_for($node, q{SELECT count(*) = 100 FROM conversation_sessions JOIN ids ON id = session_id WHERE expires_at > clock_timestamp() + interval '40 minutes'},
	'reads in a parallel query slide sessions');
value(q{DROP TABLE ids; DELETE FROM conversation_sessions; SELECT session_save('x', '{}')});

# ---- no slot stays pinned

isnt($node->psql('postgres', q{SELECT session_touch('x'), 1 / (random() * 0)::int}), 0, 'a touch that is rolled back');
soon('all slots are free again', 60, sub { health($node, 'touches,used') == 0 });

$holder->quit;
leave_nothing($node);
done_testing();
