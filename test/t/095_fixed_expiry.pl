# A touch that was recorded while a session had a ttl does not extend it once its expiry is fixed: neither
# does the keeper write the touch, nor does a call that touched the session at the same time, nor does it
# count for rows that are replicated.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('fixed_expiry', conf => "autovacuum = off\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# In how many minutes session x ends, according to a call and in the table.
sub ends
{
	return value(q{SELECT round(extract(epoch FROM session_ttl('x')) / 60), round(extract(epoch FROM expires_at - clock_timestamp()) / 60)
		FROM conversation_sessions WHERE session_id = 'x'});
}

# A session of an hour that ends in half an hour, with a pending touch that the keeper cannot write, because
# another transaction has locked the row.  That transaction then runs $statement.
sub fix
{
	my ($what, $statement) = @_;
	my $holder = $node->background_psql('postgres');

	value(q{DELETE FROM conversation_sessions; SELECT session_save('x', '{}', ttl => '1 hour')});
	value(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes'});
	$holder->query_safe(q{BEGIN; SELECT FROM conversation_sessions FOR UPDATE});
	value(q{SELECT session_get('x')});
	is(ends(), '60|30', "$what: a touch is pending before");
	$holder->query_safe("$statement; COMMIT");
	$holder->quit;
	return;
}

wait_for_keeper($node, 'postgres');
for my $direct ('on', 'off')
{
	my $direct_rows = "SET session_store.direct_rows = $direct";

	value("ALTER SYSTEM $direct_rows");
	value('SELECT pg_reload_conf()');
	for my $case (
		[ 'session_touch', q{SELECT session_touch('x', expires_at => (SELECT expires_at FROM conversation_sessions))}, '30|30' ],
		[ 'session_save', q{SELECT session_save('x', '{}', expires_at => (SELECT expires_at FROM conversation_sessions))}, '30|30' ],
		[ 'UPDATE of the ttl and expires_at', 'UPDATE conversation_sessions SET ttl = NULL, expires_at = expires_at', '30|30' ],
		[ 'UPDATE of the ttl', 'UPDATE conversation_sessions SET ttl = NULL', '60|60' ],
		[ 'UPDATE of the ttl, replicated', q{SET session_replication_role = replica; UPDATE conversation_sessions SET ttl = NULL}, '30|30' ])
	{
		my ($what, $statement, $ends) = @$case;

		$what .= ", direct_rows $direct";
		fix($what, $statement);
		is(ends(), $ends, "$what: the expiry is fixed");
		soon("$what: the slot is free", 60, sub { health($node, 'touches,used') == 0 });
		is(ends(), $ends, "$what: .. and the touch was not written");
	}
}

# session_touch() has answered and not yet committed when another transaction fixes the expiry that it has read.
value(q{DELETE FROM conversation_sessions; SELECT session_save('x', '{}', ttl => '1 hour')});
value(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes'});
my $holder = $node->background_psql('postgres');
my $touch = $node->background_psql('postgres');
$holder->query_safe(q{SELECT pg_advisory_lock(1)});
$touch->query_until(qr/begun/, "\\echo begun\nSELECT session_touch('x'), pg_advisory_lock(1);\n");
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'}, 'session_touch() waits for its commit');
value(q{SELECT session_touch('x', expires_at => (SELECT expires_at FROM conversation_sessions))});
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$touch->query_safe('SELECT 1');
is(ends(), '30|30', 'a touch that commits after the expiry was fixed does not extend it');
soon('its slot is free', 60, sub { health($node, 'touches,used') == 0 });
is(ends(), '30|30', '.. and it was not written');

$_->quit for ($holder, $touch);
leave_nothing($node);
done_testing();
