# Switch-over to a logical subscriber: it has operations, counters and every column of a session, purges
# none of what it receives, and once the subscription is dropped goes on where the publisher stopped: a
# repeated operation returns its first result, counters count on, no seq is used again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

# the publisher purges only what it is told to, so that there is something that the subscriber must leave
my $publisher = new_store('publisher', init => { allows_streaming => 'logical' }, conf => "session_store.purge_interval = 0\n");
my $subscriber = new_store('subscriber', conf => "session_store.purge_interval = 100ms\n");

sub published
{
	return $publisher->safe_psql('postgres', $_[0]);
}

sub subscribed
{
	return $subscriber->safe_psql('postgres', $_[0]);
}

# all of our tables that dumps have, so that a new one is not forgotten here; the cache is the server's own
my @tables = split /\n/, published(<<'EOS');
SELECT c.relname FROM pg_class c, (SELECT unnest(extconfig) AS oid FROM pg_extension WHERE extname = 'session_store') d
	WHERE c.oid = d.oid AND c.relkind = 'r' AND c.relname NOT IN ('session_samples', 'session_cache_claims', 'conversation_history_ended') ORDER BY 1
EOS
my $tables = join ', ', @tables;
like($tables, qr/\b$_\b/, "$_ can be published") for qw(conversation_sessions conversation_history session_members session_namespaces session_events session_operations session_counters);

sub content
{
	my ($node) = @_;

	return { map { $_ => $node->safe_psql('postgres', "SELECT t.* FROM $_ t ORDER BY t.*::text") } @tables };
}

sub same
{
	my ($what) = @_;

	wait_for_replay($publisher, 'sub');
	is_deeply(content($subscriber), content($publisher), $what);
	return;
}

published(<<"EOS");
INSERT INTO session_namespaces (name, audit, operation_keep, token_path) VALUES ('chat', true, '1 hour', '{usage,tokens}');
ALTER DATABASE postgres SET session_store.namespace = 'chat';
CREATE PUBLICATION pub FOR TABLE $tables;
EOS
subscribed(q{ALTER DATABASE postgres SET session_store.namespace = 'chat'; DELETE FROM session_namespaces});

# ---- the initial copy, and what comes after it

my $calls = <<'EOS';
SELECT session_append('%1$s', '[{"m": 1}, {"m": 2}]', 'append', owner => 'ann', patch => '{"p": 1}'), session_append('%1$s', '[]', 'nothing', patch => '{"p": 2}');
SELECT session_append('%1$s', '[{"m": 3}, {"m": 4}, {"m": 5}]', 'kept', keep => 4), session_replace_tail('%1$s', 1, '[{"m": 6}]', operation_id => 'replace'), session_pop('%1$s'), session_amend('%1$s', 2, '{"m": "two"}'), session_share('%1$s', 'bob');
SELECT session_save('fixed %1$s', '{"f": 1}', expires_at => '2100-01-01'), session_save('kept %1$s', '{"f": 1}', expires_at => 'infinity');
SELECT session_hit('%1$s', '1 hour'), session_hit('%1$s', '1 hour', 5), session_hit('%1$s', '1 hour', -2), session_hit('of %1$s', '1 hour'), session_hit_reset('of %1$s');
SELECT session_append('gone %1$s', '[{"m": 1}]', 'append', owner => 'eve'), session_hit('gone', '1 hour');
SELECT session_append('old %1$s', '[{"m": 1}]', 'append', owner => 'ann'), session_regenerate('old %1$s', new_session_id => 'regenerated %1$s');
EOS
published(sprintf $calls, 'first');
$subscriber->safe_psql('postgres', q{CREATE SUBSCRIPTION sub CONNECTION '} . $publisher->connstr . q{ dbname=postgres' PUBLICATION pub});
$subscriber->wait_for_subscription_sync($publisher, 'sub');
same('the initial copy');
published(sprintf $calls, 'second');
same('and what is replicated');
is(subscribed(q{SELECT string_agg(hits::text, ' ' ORDER BY counter_id) FROM session_counters}), '4 2 4', 'counters');
is(subscribed(q{SELECT count(*), count(DISTINCT operation_id) FROM session_operations}), '12|4', 'operations');
is(subscribed(q{SELECT ttl IS NULL, expires_at FROM conversation_sessions WHERE session_id = 'fixed second'}), 't|2100-01-01 00:00:00' . subscribed(q{SELECT to_char('2100-01-01'::timestamptz, 'TZH')}), 'a fixed expiry');
is(subscribed(q{SELECT tokens FROM session_append('local', '{"usage": {"tokens": 77}}'), session_window('second', max_messages => 1)}) ne '', 1, 'windows');
subscribed(q{DELETE FROM conversation_sessions WHERE session_id = 'local'; DELETE FROM conversation_history WHERE message = '{"usage": {"tokens": 77}}'; DELETE FROM session_events WHERE session_id = 'local'});
wait_for($subscriber, q{SELECT count(*) = 0 FROM conversation_history_ended}, 'what a test has left is purged', quiet => 1);

# what is forgotten over there is forgotten here
published(q{SELECT session_forget('eve')});
same('session_forget arrives');
is(subscribed(q{SELECT count(*) FROM conversation_sessions WHERE owner_id = 'eve'}), '0', '.. nothing of the owner is left');
is(subscribed(q{SELECT count(*) FROM session_operations}), '10', '.. nor operations');

# ---- it purges nothing of what it receives

published(<<'EOS');
UPDATE session_operations SET keep_until = now() - interval '1 hour' WHERE operation_id = 'nothing';
UPDATE session_counters SET resets_at = now() - interval '1 hour' WHERE counter_id = 'gone';
EOS
same('operations and counters whose time has passed');
my $left = health($subscriber, 'purge,left_to_publisher');
like($left, qr/"$_"/, "health: $_ is left to the publisher") for grep { $_ ne 'session_namespaces' } @tables;
is(subscribed(q{SELECT jsonb_array_length(session_health() #> '{purge,left_to_publisher}')}), @tables - 1, '.. and no other');
my $now = subscribed('SELECT clock_timestamp()');
# (operations once a minute: for them there is session_purge() below)
for my $task (qw(purge history counters))
{
	wait_for($subscriber, "SELECT (session_health() #>> '{keeper,tasks,$task,last_run}')::timestamptz > '$now'::timestamptz", "the subscriber's keeper has run its task $task");
}
same('all of them are there');
my (undef, $purged, $said) = $subscriber->psql('postgres', 'SELECT session_purge()');
is($purged, '0', 'session_purge() removes none');
like($said, qr/WARNING:  table "$_" is not purged because a subscription replicates it/, ".. and says so of $_") for qw(session_operations session_counters);
same('they are there');

# ---- the switch-over

my $before = published(q{SELECT string_agg(seq || ' ' || message, ', ' ORDER BY seq) FROM session_history('second')});
my $resets_at = published(q{SELECT resets_at FROM session_counters WHERE counter_id = 'second'});
my $last = published(q{SELECT session_append('second', '{"m": "last"}')}); # popped, so that no row has its seq
published(q{SELECT session_pop('second')});
wait_for_replay($publisher, 'sub');
subscribed('DROP SUBSCRIPTION sub');
$publisher->stop;

for my $id ('first', 'second')
{
	is(subscribed("SELECT session_append('$id', '[{\"m\": 1}, {\"m\": 2}]', 'append', owner => 'ann', patch => '{\"p\": 1}')"), '2', "$id: a repeated append returns its first result");
	is(subscribed("SELECT session_append('$id', '[{\"m\": 3}, {\"m\": 4}, {\"m\": 5}]', 'kept', keep => 4)"), '5', '.. with keep, too');
	is(subscribed("SELECT session_replace_tail('$id', 1, '[{\"m\": 6}]', operation_id => 'replace')"), '6', '.. and session_replace_tail');
	is(subscribed("SELECT session_append('regenerated $id', '[{\"m\": 1}]', 'append', owner => 'ann')"), '1', '.. and under the new id of a session');
	is(sqlstate($subscriber, "SELECT session_append('$id', '[{\"m\": 9}]', 'append')"), 'SST11', '.. and is refused for another append');
}
is(subscribed(q{SELECT string_agg(seq || ' ' || message, ', ' ORDER BY seq) FROM session_history('second')}), $before, 'they have changed nothing');
is(subscribed(q{SELECT session_get('second')}), '{"p": 2}', '.. in the document either');
is(subscribed(q{SELECT session_append('second', '{"m": 7}', 'new')}), $last + 1, 'a new one gets a seq that none had before');
is(subscribed(q{SELECT session_append('second', '{"m": 7}', 'new')}), $last + 1, '.. and is carried out once');

is(subscribed(q{SELECT hits, resets_at FROM session_hit('second', '1 hour', max => 10)}), "5|$resets_at", 'a counter counts on in its period');
is(subscribed(q{SELECT hits, remaining FROM session_hit('second', '1 hour', 5, max => 10)}), '10|0', '.. up to its maximum');
is(subscribed(q{SELECT hits FROM session_hit('gone', '1 hour')}), '1', '.. and one whose period has ended begins a new one');
is(health($subscriber, 'purge,left_to_publisher'), '[]', 'health: nothing is left to a publisher');
subscribed('SELECT session_purge()');
is(subscribed(q{SELECT count(*) FROM session_operations WHERE keep_until < now()}), '0', 'session_purge() removes operations now');
is(health($subscriber, 'warnings'), '[]', 'health has no warnings');

leave_nothing($subscriber);
done_testing();
