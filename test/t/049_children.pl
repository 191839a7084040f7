# Tables that inherit from those of session_store. Up to PostgreSQL 17 a child can drop an
# inherited NOT NULL, and queries on the parent read the rows of the child. A null there is an
# error: no process crashes, and the workers go on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('children', conf => <<'EOC');
session_store.purge_interval = 1
session_store.orphan_keep = 0
restart_after_crash = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# The result of a call: "ok", or its SQLSTATE and message.
sub said
{
	my ($call) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET request.jwt.claims = '{\"sub\": \"bob\"}'; SET ROLE app;\nSELECT $call");
	return 'ok' if $rc == 0;
	return $err =~ /ERROR:\s+(\w{5}: .*)/ ? $1 : "lost: $err";
}

my $history = '11111111-1111-4111-8111-111111111111';
value(<<EOS);
CREATE ROLE app;
INSERT INTO session_namespaces (name, key_prefix, owner_isolation, hash_keys, max_sessions_per_owner, audit)
VALUES ('apart', 'apart:', true, true, 1, true);
SELECT session_save('s', '{"n": 1}', owner => 'u'), session_append('s', '{"m": 1}');
SELECT session_save('shared', '{}', owner => 'ann', namespace => 'apart'), session_append('shared', '{"m": 1}', namespace => 'apart');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app;
EOS
my $keeper = value(q{SELECT session_health() #>> '{keeper,pid}'});
my @calls = (
	q{session_get('c')}, q{session_get('s')}, q{session_save('c', '{}')}, q{session_touch('c', '2 hours')}, q{session_append('c', '{"m": 2}')},
	q{count(*) FROM session_history('c')}, q{session_amend('c', 1, '{}')}, q{session_compact('c', 1, '1')}, q{session_tail('c')}, q{count(*) FROM session_window('c', 100)}, q{session_pop('c', from_start => true)}, q{session_pop('c')}, q{session_trim('c', 0)}, q{session_fork('c')}, q{session_absorb('s', 'c')},
	q{session_regenerate('c')}, q{count(*) FROM session_list()}, q{session_count()}, q{session_get('shared', 'apart')},
	q{count(*) FROM session_list(namespace => 'apart')}, q{count(*) FROM session_members('c')}, q{session_save('new', '{}', namespace => 'apart')},
	q{session_delete('c')}, q{session_delete_all('u')}, q{session_clear('default')}, q{session_clear('apart')}, q{session_purge()},
	q{count(*) FROM session_stats}, q{session_health() IS NULL}, q{session_metrics() IS NULL},
	q{count(*) FROM session_hit('h', '1 hour')}, q{count(*) FROM session_hit('h', NULL, by => -1)}, q{count(*) FROM session_hit('h', NULL, by => 0)}, q{session_hit_reset('h')},
);
# A row for the child, as columns and values; columns that are not given are null.
my %rows = (
	conversation_sessions => [
		[ "namespace, session_id, expires_at, created_at, updated_at, check_at", "'default', 'c', now() + '1 hour', now(), now(), now()" ],
		[ "namespace, session_id, expires_at, created_at, check_at, history_id", "'default', NULL, now() + '1 hour', now(), now(), '$history'" ],
		[ "namespace, session_id, expires_at, created_at, check_at, session_data, ttl, owner_id", "NULL, 'c', now() - interval '1 hour', now(), now() - interval '1 hour', '{}', '1 hour', 'u'" ],
		[ "namespace, session_id, expires_at, created_at, updated_at, check_at, session_data, ttl, version, last_seq, message_count, history_id, summary", "'default', 'c', now() + '1 hour', now(), now(), now() + '1 hour', '{}', '1 hour', 1, 1, 1, '$history', '1'" ],
		[ "namespace, session_id, expires_at, created_at, updated_at, check_at, session_data, ttl, version, last_seq, message_count, summary, summary_up_to", "'default', 'c', now() + '1 hour', now(), now(), now() + '1 hour', '{}', '1 hour', 1, 1, 1, '1', -5" ],
		[ "check_at, history_id", "now() - interval '1 hour', '$history'" ],
	],
	conversation_history => [ [ "history_id", "(SELECT history_id FROM conversation_sessions WHERE session_id = 's')" ], [ 'seq', '1' ] ],
	conversation_history_ended => [ [ "namespace, history_id", "'default', '$history'" ], [ 'from_seq', '1' ] ],
	session_members => [ [ "history_id, member", "(SELECT history_id FROM conversation_sessions WHERE session_id = 'shared'), 'bob'" ], [ 'role', "'editor'" ] ],
	session_operations => [ [ "history_id, operation_id", "(SELECT history_id FROM conversation_sessions WHERE session_id = 's'), 'op'" ], [ 'keep_until', "now() - interval '1 day'" ] ],
	session_namespaces => [ [ 'ttl', "'1 hour'" ], [ 'name', "'odd'" ] ],
	session_events => [ [ 'namespace, session_id', "'apart', 's'" ] ],
	session_samples => [ [ 'namespace', "'odd'" ], [ 'sessions', '1' ] ],
	session_orphans => [ [ 'history_id', "'$history'" ], [ 'seen_at', "now() - interval '1 day'" ] ],
	session_cache_claims => [ [ 'timeline', '1' ] ],
	session_counters => [ [ 'namespace, counter_id, resets_at', "'default', 'h', now() + '1 hour'" ], [ 'namespace, counter_id, hits', "'default', 'h', 1" ] ],
);
my %needed = map { $_ => 1 } qw(conversation_sessions conversation_history conversation_history_ended session_members session_operations session_namespaces);

SKIP:
{
	skip 'a child cannot drop an inherited NOT NULL', 1 if $node->pg_version >= 18;
	for my $table (sort keys %rows)
	{
		value("CREATE TABLE child () INHERITS ($table)");
		is(said(q{session_get('s')}), 'ok', "a child of $table is no damage");
		# backends that have checked the tables before must notice it
		my $before = $node->background_psql('postgres', on_error_stop => 0);
		$before->query_safe(q{SELECT session_get('s')});
		value(<<EOS);
DO \$\$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT attname FROM pg_attribute WHERE attrelid = 'child'::regclass AND attnum > 0 AND attnotnull LOOP
		EXECUTE format('ALTER TABLE child ALTER %I DROP NOT NULL, ALTER %1\$I DROP DEFAULT', name);
	END LOOP;
END
\$\$;
EOS
		if ($needed{$table})
		{
			$before->query(q{SELECT session_get('s')});
			like($before->{stderr}, qr/session_store is damaged: column \w+ of child is not as it was made/, "$table: it is damage when the child drops a NOT NULL");
		}
		$before->quit;
		for my $row (@{ $rows{$table} })
		{
			value("TRUNCATE child; INSERT INTO child ($row->[0]) VALUES ($row->[1])");
			my @said = map { "$_: " . said($_) } @calls;
			is(join("\n", grep { /lost|: XX/ } @said), '', "$table ($row->[0]): all calls have an answer");
			is(join("\n", grep { !/session_store is damaged|session_health|session_metrics|session_stats/ } @said), '', '.. which reports the damage') if $needed{$table};
		}
		if ($table eq 'conversation_history_ended')
		{
			$node->poll_query_until('postgres', q{SELECT (session_health() #>> '{keeper,tasks,purge,failures}')::int > 0}) or die 'the purge does not fail';
			is(value(q{SELECT session_health() #>> '{keeper,pid}'}), $keeper, "the keeper's purge fails, and the keeper continues");
		}
		value('DROP TABLE child');
		is(said(q{session_get('s')}), 'ok', ".. and without the child there is no damage");
	}
}
# A foreign table does not enforce its NOT NULL constraints.
value(q{CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
	CREATE FOREIGN TABLE far () INHERITS (conversation_sessions) SERVER nowhere});
is(said(q{session_get('s')}), '55000: session_store is damaged: far is not an ordinary table', 'a foreign table as a child is damage');
like(value(q{SELECT session_health() ->> 'warnings'}), qr/nothing works: far is not an ordinary table: detach it/, '.. which session_health tells');
value('DROP FOREIGN TABLE far');
is(said(q{session_get('s')}), 'ok', '.. until it is removed');
is(value(q{SELECT session_health() #>> '{keeper,pid}'}), $keeper, 'the keeper is the same process all the time');

# ---- a row of a child that has the ctid of a row that goes stays as it is, and so does one that is raised

# Fills $table and a child with one row each (columns and values), at the same ctid, and runs $work.
# Returns what the child has afterwards.
sub beside
{
	my ($table, $own, $other, $work) = @_;

	value("TRUNCATE $table; CREATE TABLE child () INHERITS ($table)");
	value(join '; ', 'BEGIN', (map { "INSERT INTO $_->[0] ($_->[1]) VALUES ($_->[2])" } [ $table, @$own ], [ 'child', @$other ]), 'COMMIT');
	is(value("SELECT count(DISTINCT tableoid), count(DISTINCT ctid) FROM $table"), '2|1', "$table: a row of its own and one of a child have the same ctid");
	my $row = value('SELECT child::text FROM child');
	$work->();
	my $after = value('SELECT child::text FROM child');
	value('DROP TABLE child');
	return $after eq $row ? 'as it was' : "$row -> $after";
}

$node->append_conf('postgresql.conf', 'session_store.purge_interval = 0');
$node->restart;
my $columns = 'namespace, session_id, session_data, owner_id, ttl, created_at, updated_at, expires_at, check_at';
my $alive = q{clock_timestamp() - interval '1 minute', clock_timestamp(), clock_timestamp() + interval '1 hour'};
my $purge = sub { value('SELECT session_purge()') };
is(beside('conversation_sessions', [ $columns, qq{'default', 'own', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ],
		[ $columns, qq{'other', 'child', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ], sub { value(q{SELECT session_clear('default')}) }),
	'as it was', 'session_clear() ends no session of another namespace');
is(value(q{SELECT count(*) FROM conversation_sessions WHERE dead_until IS NOT NULL}), 1, '.. but its own');
is(beside('conversation_sessions', [ $columns, qq{'default', 'own', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ],
		[ $columns, qq{'other', 'own', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ], sub { value(q{SELECT session_clear('default', id_prefix => 'o')}) }),
	'as it was', '.. nor by a prefix');
is(beside('conversation_sessions', [ $columns, q{'default', 'own', '{}', NULL, '1 hour', '2000-01-01', '2000-01-01', '2000-01-02', '2000-01-02'} ],
		[ $columns, qq{'default', 'child', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ], $purge),
	'as it was', 'the purge removes no session that is alive');
is(value(q{SELECT count(*) FROM conversation_sessions}), 0, '.. but the expired one');
is(beside('conversation_sessions', [ $columns, qq{'default', 'own', '{}', NULL, '1 hour', $alive, '2000-01-02'} ],
		[ $columns, qq{'default', 'child', '{}', NULL, '1 hour', $alive, clock_timestamp() + interval '1 hour'} ], $purge),
	'as it was', 'the purge raises no check_at but that of the row that is due');
is(value(q{SELECT check_at > clock_timestamp() FROM conversation_sessions}), 't', '.. which it raises');
is(beside('session_events', [ 'namespace, session_id, event, created_at', q{'apart', 'own', 'created', '2000-01-01'} ],
		[ 'namespace, session_id, event, created_at, event_id', q{'apart', 'child', 'created', clock_timestamp(), gen_random_uuid()} ], sub {
		$node->restart; # the keeper purges events when it starts
		wait_for($node, q{SELECT count(*) = 0 FROM ONLY session_events}, 'an old event is purged');
	}),
	'as it was', 'the purge of events removes no new one');
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:/, 'no process has crashed');
leave_nothing($node);
done_testing;
