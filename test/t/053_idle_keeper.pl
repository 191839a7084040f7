# An idle database costs next to nothing: its keeper makes no transactions and wakes at most
# twice a second, and reacts at once to changes by any statement.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('idle', extension => 0, conf => "session_store.purge_interval = '200ms'\nautovacuum = off\nmax_prepared_transactions = 2\n");

$node->safe_psql('postgres', 'CREATE DATABASE quiet');
create_extension($node, 'quiet');

sub value
{
	return $node->safe_psql('quiet', $_[0]);
}

# Counts the transactions of the database while its keeper wakes so many times.
sub while_it_wakes
{
	my ($wakes) = @_;

	return while_it_sleeps($node, 'quiet', keeper_pid($node, 'quiet'), $wakes);
}

sub becomes_idle
{
	my ($what, $wakes) = @_;

	return soon("$what: the keeper rests", 180, sub { while_it_wakes($wakes // 6) == 0 });
}

value(q{SELECT count(session_save('s' || i, '{}', ttl => '1 day')) FROM generate_series(1, 100) i});
# a session that is alive by its row, and not by the policy of its namespace
value(q{INSERT INTO session_namespaces (name, key_prefix, cache, ttl) VALUES ('short', 'short:', 'off', '1 day'); SELECT session_save('over', '{}', namespace => 'short');
	UPDATE conversation_sessions SET created_at = now() - interval '1 min' WHERE session_id = 'over'; UPDATE session_namespaces SET max_lifetime = '1 s' WHERE name = 'short'});
# a sample is taken every 30 s, unless it rests
becomes_idle('sessions that live', 70);
is(while_it_wakes(20), '0', '.. and continues to');

is(value(q{SELECT sessions || ' ' || expired FROM session_stats WHERE namespace = 'short'}), '0 1', 'session_stats counts as the calls do');
is(value(q{SELECT session_count(namespace => 'short')}), '0', '.. which is 0');

my ($wakes, $seconds) = sleeps_during(keeper_pid($node, 'quiet'), 10);
cmp_ok($wakes, '<=', 2 * $seconds + 2, 'it wakes at most twice a second');

# ---- changes after which it works

my $row = q{(namespace, session_id, session_data, ttl, created_at, updated_at, expires_at, check_at) SELECT 'default', 'x', '{}', interval '1 day', now() - interval '2 days', now() - interval '1 day', now() - interval '1 s', now() - interval '1 s'};
my %ways = (
	'1 a call' => q{SELECT session_save('x', '{}', ttl => '1 ms')},
	'2 plain SQL' => "INSERT INTO conversation_sessions $row",
	'3 COPY' => "COPY (SELECT now() - interval '2 days', now() - interval '1 s', interval '1 day', 'default', 'x', now() - interval '1 day', now() - interval '1 s', '{}') TO '" . $node->basedir . "/rows'; "
	  . "COPY conversation_sessions (created_at, check_at, ttl, namespace, session_id, updated_at, expires_at, session_data) FROM '" . $node->basedir . "/rows'",
	'4 as the apply of a subscription' => "SET session_replication_role = replica; INSERT INTO conversation_sessions $row",
	'5 an expiry that is changed' => q{UPDATE conversation_sessions SET expires_at = now() - interval '1 s' WHERE session_id = 's1'},
	'6 a prepared transaction' => "BEGIN; INSERT INTO conversation_sessions $row; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'",
	'7 while our triggers are disabled' => "ALTER TABLE conversation_sessions DISABLE TRIGGER USER; INSERT INTO conversation_sessions (version, last_seq, message_count, " . substr($row, 1) =~ s/SELECT /SELECT 1, 0, 0, /r . '; ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER session_row_guard, ENABLE ALWAYS TRIGGER zz_session_change, ENABLE ALWAYS TRIGGER zz_session_truncate',
);
for my $way (sort keys %ways)
{
	becomes_idle("before $way");
	for my $statement (split /; /, $ways{$way})
	{
		next if $way =~ /^[4]/;
		value($statement) if $way !~ /^6/;
	}
	value($ways{$way}) if $way =~ /^[46]/;
	wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE expires_at < now()}, "$way: dead rows are removed", db => 'quiet');
}
value('CREATE TABLE child () INHERITS (conversation_sessions)');
soon('with a table that inherits from ours the keeper does not rest', 180, sub { while_it_wakes(6) > 0 });
value("INSERT INTO child (version, last_seq, message_count, " . substr($row, 1) =~ s/SELECT /SELECT 1, 0, 0, /r);
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE expires_at < now()}, '.. and dead rows there are removed', db => 'quiet');
value('DROP TABLE child');
becomes_idle('afterwards');
value(q{SELECT session_append('talk', '[{"n": 1}]'); SELECT session_delete('talk')});
wait_for($node, 'SELECT count(*) = 0 FROM conversation_history', 'messages of a session that ended are removed', db => 'quiet');
becomes_idle('after that');

# ---- a row is removed when it is due, although nothing else happens

value(q{SELECT session_save('soon', '{}', ttl => '20 s')});
becomes_idle('a session that will expire');
wait_for($node, q{SELECT count(*) = 0 FROM conversation_sessions WHERE session_id = 'soon'}, 'it is removed', db => 'quiet');
is(value(q{SELECT sessions FROM session_stats WHERE namespace = 'default'}) > 0, '1', 'session_stats is there');

leave_nothing($node);
done_testing();
