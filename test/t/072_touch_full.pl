# session_touch() while all touch slots are in use: the returned expiry holds all the same. And a
# touch that is rolled back reserves no slot. A statement that reads many sessions does not
# wait for each of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time);

# one transaction can record 64 touches at most
my $spares = 60;
my $node = new_store('touch_full', conf => "session_store.touch_slots = 64\nautovacuum = off\n");

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub ms
{
	my $begun = time;
	sql($_[0]);
	return int(1000 * (time - $begun));
}

# Sessions of an hour that end in ten minutes.
sub save
{
	my ($prefix, $n) = @_;
	sql("SELECT count(session_save('$prefix' || i, '{}', ttl => '1 hour')) FROM generate_series(1, $n) i");
	sql("UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id LIKE '$prefix%'");
	return;
}

# ---- the slots are full of touches that cannot be written, because their rows are locked

wait_for_keeper($node, 'postgres');
my $slots = health($node, 'touches,slots');
my $locked = $slots + 10;
save('locked', $locked);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions FOR UPDATE) s');
save('spare', $spares);
sql("SELECT count(session_get('locked' || i)) FROM generate_series(1, $locked) i");
my $dropped = health($node, 'touches,dropped');
cmp_ok($dropped, '>', 0, "$slots slots have no room for $locked reads");
# (with a wait of 100 ms for each of them it would be 20 s)
save('many', 200);
cmp_ok(ms("SELECT count(*) FROM session_get_many(ARRAY(SELECT 'many' || i FROM generate_series(1, 200) i))"), '<', 10000, 'a statement that reads many sessions does not wait for each of them');
$dropped = health($node, 'touches,dropped');

# ---- touches of other sessions, more than there are free slots

my $touch = "SELECT count(session_touch('spare' || i) > clock_timestamp() + interval '59 minutes') FROM generate_series(1, $spares) i";
is(sql($touch), $spares, 'each touch returns a later expiry');
# (a statement that began before the keeper wrote a touch may still show the earlier expiry)
wait_for($node, "SELECT count(*) = $spares FROM generate_series(1, $spares) i WHERE session_ttl('spare' || i) > '59 minutes'", '.. which holds', timeout => 20);
cmp_ok(sql(q{SELECT count(*) FROM conversation_sessions WHERE session_id LIKE 'spare%' AND expires_at > clock_timestamp() + interval '59 minutes'}),
	'>', 0, '.. because touches that found no slot were written');
is(health($node, 'touches,dropped'), $dropped, '.. and none was dropped');

# ---- a session that is read and touched in the transaction that created it

sql(q{DO $$ BEGIN FOR i IN 1 .. 20 LOOP
	PERFORM session_save('made' || i, '{}', ttl => '1 hour');
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 'made' || i;
	PERFORM session_get('made' || i);
	PERFORM session_touch('made' || i);
END LOOP; END $$});
wait_for($node, q{SELECT count(*) = 20 FROM generate_series(1, 20) i WHERE session_ttl('made' || i) > '59 minutes'}, 'so does the touch of a session that was created and read in the same transaction', timeout => 20);
$holder->query_safe('COMMIT');
$holder->quit;

# ---- rolled back

wait_for($node, q{SELECT (session_health() #>> '{touches,used}')::int = 0}, 'all touches are written once that is possible', must => 1);
save('spare', $spares);
my (undef, undef, $errors) = $node->psql('postgres', join("\n", map { "SELECT 1 / (session_touch('spare' || i) IS NULL)::int FROM generate_series(1, $spares) i;" } 1 .. $slots), on_error_stop => 0);
is(scalar(() = $errors =~ /division by zero/g), $slots, "$slots statements fail after a touch");
is(health($node, 'touches,used'), 0, '.. and no slot stays in use');
is(sql("SELECT count(*) FROM generate_series(1, $spares) i WHERE session_ttl('spare' || i) > '11 minutes'"), 0, '.. and no session is extended');
is(sql($touch), $spares, 'touches find free slots again');

done_testing();
