# Fifty clients append to one session: no message is lost, duplicated or out of the order of its
# client, and a repeated append is carried out once.
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
my $node = new_store('appends', max_connections => 100, conf => "deadlock_timeout = 200ms\n");
my $clients = 50;
my $each = 40;
my $all = $clients * $each;
my @fifty = ('-c', $clients, '-j', 2, '-t', $each, "--random-seed=$seed");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# A client numbers its appends: the n-th carries n. One sequence for each client.
value(<<'EOS');
DO $$ BEGIN FOR c IN 0 .. 49 LOOP EXECUTE format('CREATE SEQUENCE said_%s', c); END LOOP; END $$;
CREATE FUNCTION next_of(client int) RETURNS jsonb LANGUAGE sql AS
	$$SELECT jsonb_build_object('c', client, 'n', nextval('said_' || client))$$;
CREATE FUNCTION begin_again() RETURNS void LANGUAGE plpgsql AS
	$$BEGIN FOR c IN 0 .. 49 LOOP PERFORM setval('said_' || c, 1, false); END LOOP; END$$;
-- a history in the order of its seqs, beside what it should be
CREATE FUNCTION judge(id text, OUT messages bigint, OUT dense bool, OUT doubled bigint, OUT out_of_order bigint, OUT backwards bigint) LANGUAGE sql AS $$
	SELECT count(*), max(seq) = count(*) AND min(seq) = 1, count(*) - count(DISTINCT (c, n)),
		count(*) FILTER (WHERE n <= before), count(*) FILTER (WHERE created_at < earlier)
	FROM (SELECT *, lag(n) OVER (PARTITION BY c ORDER BY seq) AS before, lag(created_at) OVER (ORDER BY seq) AS earlier
		FROM (SELECT seq, created_at, (message ->> 'c')::int AS c, (message ->> 'n')::int AS n FROM session_history(id)) h) o
$$;
EOS

sub judge
{
	my ($id, $count, $what) = @_;

	is(value("SELECT messages, dense, doubled, out_of_order FROM judge('$id')"), "$count|t|0|0",
		"$what: $count messages, seqs without a gap, none twice, each client's order kept");
	is(value("SELECT message_count, version, last_seq FROM conversation_sessions WHERE session_id = '$id'"), "$count|1|$count",
		'.. and message_count and last_seq agree');
	return;
}

# ---- fifty clients and one session, which the first of them creates

pgbench_run($node, "SELECT session_append('one', next_of(:client_id));\n", @fifty);
judge('one', $all, 'one by one');

# arrays stay together
value('SELECT begin_again()');
pgbench_run($node, "SELECT session_append('arrays', jsonb_build_array(next_of(:client_id), next_of(:client_id), next_of(:client_id)));\n", @fifty);
judge('arrays', 3 * $all, 'three at once');
is(value(q{SELECT count(DISTINCT c) FROM (SELECT array_agg(DISTINCT message ->> 'c') AS c, (seq - 1) / 3 AS g FROM session_history('arrays') GROUP BY g) a WHERE cardinality(c) > 1}),
	'0', '.. and those of one append are consecutive');

# a rollback leaves no gap and no message; other changes of the session lose nothing
value('SELECT begin_again()');
pgbench_run($node, <<'EOS', @fifty);
\set back random(1, 3)
BEGIN;
SELECT session_append('back', next_of(:client_id));
\if :back = 1
ROLLBACK;
\else
COMMIT;
\endif
SELECT session_merge('back', jsonb_build_object('c' || :client_id, :back));
SELECT count(*) FROM session_history('back', last => 5);
EOS
my ($messages, $dense, $doubled, $disorder) = one_row($node, q{SELECT messages, dense, doubled, out_of_order FROM judge('back')});
cmp_ok($messages, '>', $all / 3, "with rollbacks: $messages messages");
cmp_ok($messages, '<', $all, '.. none of those that were rolled back');
is("$dense|$doubled|$disorder", 't|0|0', '.. without a gap, none twice, in order');
is(value(q{SELECT count(*) FROM jsonb_object_keys(session_get('back'))}), $clients, '.. and no merge was lost');
is(value(q{SELECT version FROM session_fetch('back')}) - $all <= 1 ? 'as many' : 'more', 'as many', '.. and no version was counted for an append');

# ---- retries: each append is made twice, by one client or by two at once

value('SELECT begin_again()');
pgbench_run($node, <<'EOS', @fifty);
SELECT nextval('said_' || :client_id) AS n \gset
SELECT session_append('retry', jsonb_build_object('c', :client_id, 'n', :n), 'op ' || :n || ' of ' || :client_id) AS first \gset
SELECT session_append('retry', jsonb_build_object('c', :client_id, 'n', :n), 'op ' || :n || ' of ' || :client_id) AS second \gset
SELECT 1 / (:first = :second)::int;
EOS
judge('retry', $all, 'each said twice');

# the same operations by several clients: two clients make each append
value(q{SELECT begin_again()});
pgbench_run($node, <<'EOS', @fifty);
SELECT nextval('said_' || :client_id) AS n \gset
\set pair :client_id / 2
SELECT session_append('pairs', jsonb_build_array(jsonb_build_object('c', :pair, 'n', 2 * :n - 1), jsonb_build_object('c', :pair, 'n', 2 * :n)), 'op ' || :pair || '-' || :n);
EOS
judge('pairs', $all, 'each made by two clients at once');

# one operation by all fifty clients, many times
pgbench_run($node, "SELECT session_append('once', '{\"c\": 0, \"n\": 1}', 'the one');\n", @fifty);
judge('once', 1, 'one operation by all clients');

# ---- appends, pops and trims: every seq was used for one message, and never again

value(q{CREATE TABLE popped (message jsonb)});
value('SELECT begin_again()');
pgbench_run($node, <<'EOS', @fifty);
\set what random(1, 4)
\if :what <= 3
SELECT session_append('mix', next_of(:client_id)) \gset
\else
INSERT INTO popped SELECT jsonb_array_elements(session_pop('mix'));
\endif
EOS
is(value(q{SELECT count(*) - count(DISTINCT m) FROM (SELECT message AS m FROM popped UNION ALL SELECT message FROM session_history('mix')) a}), '0', 'appends and pops: no message was popped twice, or stayed when it was popped');
is(value(q{SELECT (SELECT count(*) FROM popped) + (SELECT count(*) FROM session_history('mix')) = last_seq, message_count = (SELECT count(*) FROM session_history('mix')) FROM conversation_sessions WHERE session_id = 'mix'}),
	't|t', '.. and none was lost');

# ---- all calls at once on a few sessions; errors of the calls are accepted, deadlocks are not

my $start = -s $node->logfile;
my $offset;
value(<<'EOS');
CREATE FUNCTION any_call(a int, b int, what int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE
		WHEN what <= 5 THEN session_append('all' || a, '[{"m": 1}, {"m": 2}]', CASE WHEN what > 3 THEN 'op' || b END)::text
		WHEN what = 6 THEN session_pop('all' || a)::text
		WHEN what = 7 THEN session_trim('all' || a, 3)::text
		WHEN what IN (8, 18) THEN session_absorb('all' || a, 'all' || b)::text
		WHEN what = 9 THEN (SELECT count(*) FROM session_history('all' || a, last => 3))::text
		WHEN what = 10 THEN session_share('all' || a, 'm' || b, 'editor')::text
		WHEN what = 11 THEN session_unshare('all' || a, 'm' || b)::text
		WHEN what = 12 THEN session_delete('all' || a)::text
		WHEN what = 13 THEN session_regenerate('all' || a)
		WHEN what = 14 THEN session_purge()::text
		WHEN what = 15 THEN session_save('all' || a, '{}', owner => 'u', if_version => 0)::text
		WHEN what = 16 THEN session_delete_all('u')::text
		ELSE session_fork('all' || a, 'all' || b) END;
EXCEPTION WHEN serialization_failure OR invalid_parameter_value OR SQLSTATE 'SST10' OR SQLSTATE 'SST11' THEN
	RETURN SQLSTATE;
END $$;
EOS
for my $calls ([ 1, 16, 'all calls at once, but no forks' ], [ 1, 17, 'and forks' ], [ 15, 18, 'and those that lock several sessions' ])
{
	my ($first, $last, $what) = @$calls;

	$offset = -s $node->logfile;
	pgbench_run($node, "\\set a random(1, 4)\n\\set b random(1, 4)\n\\set what random($first, $last)\nSELECT any_call(:a, :b, :what);\n",
		'-c', 20, '-j', 2, '-T', 4, "--random-seed=$seed");
	is(count_log($node, qr/deadlock detected/, $offset), 0, "$what: nobody deadlocks");
}
is(count_log($node, qr/duplicate key/, $start), 0, '.. and no seq is used twice');
is(value(q{SELECT count(*) FROM conversation_sessions s WHERE dead_until IS NULL AND message_count <> (SELECT count(*) FROM conversation_history h WHERE h.history_id = s.history_id)}),
	'0', '.. and every message_count is right');
is(value(q{SELECT count(*) FROM conversation_sessions s WHERE last_seq < (SELECT max(seq) FROM conversation_history h WHERE h.history_id = s.history_id)}), '0', '.. and every last_seq');

# ended histories are purged, and no others
value('DELETE FROM conversation_sessions');
wait_for($node, q{SELECT session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history) AND NOT EXISTS (SELECT FROM session_members) AND NOT EXISTS (SELECT FROM conversation_history_ended)},
	'nothing is left of ended sessions');

is(health($node, 'warnings'), '[]', 'health is content');
leave_nothing($node);
done_testing();
