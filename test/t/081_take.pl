# Fifty clients take the same tokens at once: each token has one winner, who gets its document, and
# there are no deadlocks.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

note_seed();
my $seed = int(rand(2**31));
my $node = new_store('take', max_connections => 80, conf => "deadlock_timeout = 200ms\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# ---- one token: all fifty wait for its row, then one gets it

my $clients = 50;
value(<<'EOS');
CREATE TABLE won (token text, client int, document jsonb);
INSERT INTO session_namespaces (name, audit) VALUES ('tokens', true);
ALTER DATABASE postgres SET session_store.namespace = 'tokens';
EOS
value(q{SELECT session_save('one', '{"token": "one"}')});
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT 1 FROM conversation_sessions WHERE session_id = 'one' FOR UPDATE});
my $take = q{INSERT INTO won SELECT 'one', 0, d FROM (SELECT session_take('one') AS d OFFSET 0) t WHERE d IS NOT NULL};
my @waiting = map { $node->background_psql('postgres') } 1 .. $clients;
$_->query_until(qr/started/, "\\echo started\n$take;\n\\echo done\n") for @waiting;
wait_for($node, q{SELECT count(*) = 50 FROM pg_stat_activity WHERE query ~ '^INSERT INTO won' AND wait_event_type = 'Lock'}, 'fifty clients wait for one token', must => 1);
$holder->query_safe('COMMIT');
$_->query_until(qr/done/, '') for @waiting;
$_->quit for @waiting, $holder;
is(value('SELECT token, document FROM won'), 'one|{"token": "one"}', 'one of them gets it');
is(value(q{SELECT session_take('one')}), '', '.. and the others get nothing');

# ---- many tokens, each tried by all clients

value('TRUNCATE won');
value(q{SELECT session_save('t' || n, jsonb_build_object('token', 't' || n)) FROM generate_series(1, 20) n});
pgbench_run($node, <<'EOS', '-c', $clients, '-j', 2, '-t', 40, "--random-seed=$seed");
\set n random(1, 20)
INSERT INTO won SELECT 't' || :n, :client_id, d FROM (SELECT session_take('t' || :n) AS d OFFSET 0) t WHERE d IS NOT NULL;
EOS
value(q{INSERT INTO won SELECT 't' || n, -1, session_take('t' || n) FROM generate_series(1, 20) n WHERE session_exists('t' || n)});
is(value('SELECT count(*), count(DISTINCT token) FROM won'), '20|20', 'each token has one winner');
is(value(q{SELECT count(*) FROM won WHERE document <> jsonb_build_object('token', token)}), '0', '.. whose client gets the document');
is(value(q{SELECT count(*), count(DISTINCT session_id) FROM session_events WHERE event = 'deleted'}), '21|21', '.. and one event records it');
is(count_log($node, qr/deadlock detected/), 0, 'nobody deadlocks');

# ---- a transaction that is rolled back gives its token to the next

value(q{SELECT session_save('back', '{"n": 1}')});
my $first = $node->background_psql('postgres');
my $second = $node->background_psql('postgres');
is($first->query_safe(q{BEGIN; SAVEPOINT s; SELECT session_take('back')}), '{"n": 1}', 'a token is taken');
$second->query_until(qr/started/, "\\echo started\nSELECT session_take('back');\n\\echo done\n");
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT session_take' AND wait_event_type = 'Lock'}, 'another client waits', must => 1);
$first->query_safe('ROLLBACK TO s');
like($second->query_until(qr/done/, ''), qr/\{"n": 1\}/, 'a savepoint is rolled back: the other client gets it');
is($first->query_safe(q{SELECT session_take('back')}), '', '.. and the first one nothing');
$_->quit for $first, $second;

leave_nothing($node);
done_testing();
