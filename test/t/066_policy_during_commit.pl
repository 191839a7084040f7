# A policy is changed while a transaction commits, after it has entered its keys in the ledger
# and before its changes are visible. No copy is made of a key in doubt, nor by a policy that is
# about to change, and after a COMMIT no strong reader finds what it ended.
#
# A COMMIT is held there by synchronous replication, with a standby that does not exist: it has
# passed the fence and written its commit record, and it ends when that wait is canceled.  At the
# fence it is held by a pusher that is stopped.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $redis = new_redis();
my $node = new_cached_store('during_commit', $redis, conf => <<'EOC');
session_store.lease = 10s
wal_level = replica
max_wal_senders = 2
synchronous_standby_names = 'nobody'
synchronous_commit = local
# changes of our tables have policies read again
autovacuum = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# Runs some statements and begins to commit them, until the COMMIT waits at the fence or for the
# standby.
sub begin_to_commit
{
	my ($sql) = @_;
	my $psql = $node->background_psql('postgres');
	my $pid = $psql->query_safe('SELECT pg_backend_pid()');

	$psql->query_safe("SET synchronous_commit = on; BEGIN; $sql");
	$psql->query_until(qr/committing/, "\\echo committing\nCOMMIT;\n");
	wait_for($node, "SELECT state = 'active' AND wait_event IN ('Extension', 'SyncRep') FROM pg_stat_activity WHERE pid = $pid",
		'a COMMIT is held', quiet => 1);
	return { psql => $psql, pid => $pid };
}

# A COMMIT that is held after it has passed the fence.
sub commit_until_written
{
	my $commit = begin_to_commit($_[0]);

	is_written($commit, 'a COMMIT is held', quiet => 1);
	return $commit;
}

# Wait until a COMMIT has passed the fence.
sub is_written
{
	my ($commit, $what, %params) = @_;

	return wait_for($node, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $commit->{pid}", $what, %params);
}

# Does a COMMIT wait at the fence while there is a lease?
sub is_fenced
{
	my ($commit, $what) = @_;
	my $event = value("SELECT wait_event FROM pg_stat_activity WHERE pid = $commit->{pid}");

	return ok($event eq 'Extension' || !defined $redis->get($SessionRedis::lease), $what);
}

# Waits until a COMMIT has returned; the wait of one for a standby is canceled first.
sub finish
{
	my ($commit) = @_;

	value("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $commit->{pid} AND wait_event = 'SyncRep'");
	$commit->{psql}->query('SELECT 1');
	return;
}

# Ends the client of a COMMIT that has returned, and waits until the cache is up.
sub done
{
	my ($commit) = @_;

	$commit->{psql}->quit;
	wait_for_cache($node, $redis);
	return;
}

# Reads a session by SQL, and after it another one of its namespace, until that one has a copy.  It has
# none before, so the pusher has read the present policy, and has visited the first one.
sub read_until_copied
{
	my ($ns, $id, $other_key) = @_;
	my ($other) = $other_key =~ /:(.*)/;

	return soon("$other_key is copied", 60, sub {
		value("SELECT session_get('$id', '$ns'); SELECT session_get('$other', '$ns')");
		defined $redis->get($other_key); });
}

# Makes the pusher do something more than once.
sub some_batches
{
	my ($sql) = @_;
	my $before = cache_health($node, 'batches');

	return soon('the pusher is running', 60, sub { value($sql); cache_health($node, 'batches') > $before + 3; });
}

my %cache = (off => 'off', all => 'all', moved => 'all', twice => 'all', late => 'all', fence => 'all', beside => 'off');
for my $ns (sort keys %cache)
{
	value("INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('$ns', '$ns:', false, '$cache{$ns}', '0')");
	value("SELECT session_save(id, '{\"n\": 1}', namespace => '$ns') FROM unnest('{gone,kept,other}'::text[]) id");
}
sync_cache($node);

# ---- switched on

my $delete = commit_until_written(q{SELECT session_delete('gone', 'off'), session_save('kept', '{"n": 2}', namespace => 'off')});
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'off'});
is(value(q{SELECT session_get('gone', 'off')}), '{"n": 1}', 'the session that a held COMMIT deletes is still there');
read_until_copied('off', 'gone', 'off:other');
is($redis->get('off:gone'), undef, 'switched on: no copy is made of the session that is being deleted');
value(q{SELECT session_get('kept', 'off'); SELECT session_save('another', '{}', namespace => 'off')});
soon('another is copied', 60, sub { defined $redis->get('off:another') });
is($redis->get('off:kept'), undef, '.. nor of one that is being changed');
finish($delete);
is($redis->strong('off:gone'), undef, '.. when the COMMIT has returned no strong reader finds the session');
done($delete);
is($redis->get('off:gone'), undef, '.. nor any later');
sync_cache($node);
is($redis->get('off:kept') // '{"n": 2}', '{"n": 2}', '.. and the changed session has no old copy');

# ---- switched off

my $save = commit_until_written(q{SELECT session_save('kept', '{"n": 2}', namespace => 'all')});
value(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'all'});
is(join(' ', grep { defined $redis->strong($_) } map { "all:$_" } qw(gone kept other)), '', 'switched off: no copies are left when that has returned');
finish($save);
done($save);
sync_cache($node);
is(scalar $redis->keys('all:*'), 0, '.. and none is made when the other COMMIT returns');

# ---- off, and on again

$save = commit_until_written(q{SELECT session_save('kept', '{"n": 2}', namespace => 'twice'), session_delete('gone', 'twice')});
value(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'twice'});
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'twice'});
value(q{SELECT session_get('kept', 'twice')});
read_until_copied('twice', 'gone', 'twice:other');
is(join(' ', grep { defined $redis->get($_) } qw(twice:kept twice:gone)), '', 'off and on again: no copy is made of keys in doubt');
finish($save);
is($redis->strong('twice:gone'), undef, '.. when the COMMIT has returned no strong reader finds the session');
done($save);
soon('.. and the saved session is copied', 60, sub { value(q{SELECT session_get('kept', 'twice')}); ($redis->get('twice:kept') // '') eq '{"n": 2}' });

# ---- another prefix

$delete = commit_until_written(q{SELECT session_delete('gone', 'moved')});
value(q{UPDATE session_namespaces SET key_prefix = 'elsewhere:' WHERE name = 'moved'});
read_until_copied('moved', 'gone', 'elsewhere:other');
is($redis->get('elsewhere:gone'), undef, 'another prefix: no copy under it is made of the session that is being deleted');
finish($delete);
is(join(' ', grep { defined $redis->strong($_) } qw(elsewhere:gone moved:gone)), '', '.. when the COMMIT has returned no strong reader finds the session');
done($delete);

# ---- the policy itself is being committed: only the pusher may know of it yet

my $switch = commit_until_written(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'late'});
is(value(q{SELECT cache FROM session_namespaces WHERE name = 'late'}), 'all', 'a switch that is held: others see the old policy');
some_batches(q{SELECT session_get('other', 'late'); SELECT session_save('kept', '{"n": 2}', namespace => 'late')});
is(scalar $redis->keys('late:*'), 0, '.. but no copy is made by it');
finish($switch);
is($redis->strong('late:kept') // $redis->strong('late:other'), undef, '.. when it has returned no strong reader finds a copy');
done($switch);
is(scalar $redis->keys('late:*'), 0, '.. and there is none');

# ---- a COMMIT that waits at the fence

my $pusher = pusher_pid($node);
kill 'STOP', $pusher;
$delete = begin_to_commit(q{SELECT session_delete('gone', 'fence'), session_delete('gone', 'beside')});
$switch = begin_to_commit(q{UPDATE session_namespaces SET cache = 'off' WHERE name = 'fence'});
value(q{UPDATE session_namespaces SET cache = 'all' WHERE name = 'beside'});
is_fenced($delete, 'a pusher that does not answer: a delete waits at the fence');
is_fenced($switch, '.. and so does a switch');
kill 'CONT', $pusher;
is_written($delete, '.. the delete passes the fence');
finish($delete);
is(join(' ', grep { defined $redis->strong($_) } qw(fence:gone beside:gone)), '', '.. when it has returned no strong reader finds what it deleted');
is_written($switch, '.. the switch passes the fence');
finish($switch);
is(join(' ', grep { defined $redis->strong($_) } $redis->keys('fence:*')), '', '.. when that has returned there are no copies');
done($_) for $delete, $switch;
is(scalar $redis->keys('fence:*'), 0, '.. nor any later');

compare_all($node, $redis, 'all is well');
leave_no_redis($node, $redis);
done_testing();
