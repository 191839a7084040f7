# Purging and listing read pages in proportion to the rows purged or listed, however many
# sessions there are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $live = $ENV{SESSION_STORE_SMALL} ? 200_000 : 2_000_000;
my $dead = 40;

# The keeper must not purge the 40 rows.
my $node = new_store('cost', conf => <<'EOC');
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
wal_level = minimal
max_wal_senders = 0
full_page_writes = off
maintenance_work_mem = 256MB
session_store.purge_interval = 0
EOC

# Rows as the extension leaves them, created one millisecond apart; every tenth has the same owner.
sub fill
{
	my ($from, $to) = @_;

	$node->safe_psql('postgres', <<"EOS");
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, check_at, updated_at, expires_at)
	SELECT 'default', 'live' || i, CASE WHEN i % 10 = 0 THEN 'u' ELSE 'owner' || i END, '{"n": 1}', '30 days',
		t, t + interval '30 days', t, t + interval '30 days'
	FROM (SELECT i, now() - interval '1 hour' + interval '1 ms' * i AS t FROM generate_series($from, $to) i) s;
ANALYZE conversation_sessions;
EOS
	return;
}

# The cost of a page of session_list, the first and one deep inside.
sub pages
{
	my ($sessions) = @_;
	my $middle = $sessions / 2;
	my $deep = $node->safe_psql('postgres', "SELECT page_cursor FROM session_list(id_like => 'live$middle', page_size => 1)");
	my %cost;

	for my $owner ('', q{owner => 'u'})
	{
		for my $after ('', "after => '$deep'")
		{
			my $call = 'session_list(' . join(', ', grep { $_ } $owner, $after) . ')';
			my ($hit, $read, $rows) = buffers($node, "SELECT * FROM $call", before => "SELECT count(*) AS warm FROM $call \\gset\n");

			$cost{ ($owner || 'everybody') . ($after ? ', deep inside' : ', first page') } = $hit + $read;
			cmp_ok($rows, '>=', 49, "$rows rows of $call among $sessions");
		}
	}
	return %cost;
}

fill(1, 1000);
my %few = pages(1000);

fill(1001, $live);
is($node->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $live, "$live sessions");
$node->safe_psql('postgres', 'VACUUM conversation_sessions');

# ---- session_list

my %many = pages($live);
for my $what (sort keys %few)
{
	cmp_ok($many{$what}, '<=', $few{$what} + 12,
		"session_list of $what: $few{$what} buffers at 1000 sessions, $many{$what} at $live");
}

# ---- session_purge

$node->safe_psql('postgres', <<"EOS");
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 minute'
	WHERE session_id IN (SELECT 'live' || (i * @{[ $live / $dead ]} - 7) FROM generate_series(1, $dead) i);
VACUUM conversation_sessions;
CHECKPOINT;
EOS
is($node->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions WHERE check_at < clock_timestamp()'), $dead,
	"$dead dead among them");

# what a backend reads of the catalogs the first time does not count
$node->safe_psql('postgres', "INSERT INTO session_namespaces (name) VALUES ('empty')");
my ($hit, $read) = buffers($node, 'SELECT session_purge()', before => "BEGIN;\nSELECT session_purge(namespace => 'empty') AS warm \\gset\n");
is($node->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $live, 'rolled back, so that it can be repeated');
# about nine for each row: found, locked, deleted, and the triggers in between
cmp_ok($hit + $read, '<=', 440, "purging $dead of $live: $hit buffers hit, $read read");

# from a cold start, what is read are distinct pages
$node->restart;
($hit, $read) = buffers($node, 'SELECT session_purge()', before => "SELECT session_count(owner => 'nobody') AS warm \\gset\n");
cmp_ok($read, '<=', 120, "and from a cold start $read distinct pages ($hit hits)");
is($node->safe_psql('postgres', 'SELECT count(*) FROM conversation_sessions'), $live - $dead, "$dead are gone");

# nothing to purge costs next to nothing, even before a VACUUM
($hit, $read) = buffers($node, 'SELECT session_purge()', before => "SELECT session_purge() AS warm \\gset\n");
cmp_ok($hit + $read, '<=', 60, "a purge with nothing to do: @{[ $hit + $read ]} buffers");

is($node->safe_psql('postgres', 'SELECT session_count()'), $live - $dead, '.. and living sessions are kept');

leave_nothing($node);
done_testing();
