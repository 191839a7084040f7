# Shares of the touch slots: a database whose pending touches cannot be written leaves the others
# their shares. And a slot takes the shared memory that the documentation says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('touch_shares', conf => <<'EOC');
session_store.touch_slots = 1280
autovacuum = off
EOC

sub value
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

sub number
{
	my ($db, $name) = @_;
	return health($node, "touches,$name", $db);
}

# Saves sessions of a database and reads all of them, late enough for the reads to be recorded.
sub save
{
	my ($db, $n) = @_;
	value("SELECT count(session_save('s' || i, '{}', ttl => '1 hour')) FROM generate_series(1, $n) i; UPDATE conversation_sessions SET expires_at = expires_at - interval '10 minutes'", $db);
	return;
}

sub read_all
{
	my ($db, $n) = @_;
	return value("SELECT count(session_get('s' || i)) FROM generate_series(1, $n) i", $db);
}

value('CREATE DATABASE busy');
create_extension($node, 'busy');
save($_, 1500) for qw(postgres busy);

# both have a keeper, and so a share
wait_for($node, q{SELECT (session_health() #>> '{touches,share}')::int > 0}, 'a database has a share', db => $_) for qw(postgres busy);
my ($slots, $share, $allowed) = map { number('busy', $_) } qw(slots share allowed);
cmp_ok($allowed, '>', $share, "a share is not a limit ($share of $slots, but $allowed are allowed)");
cmp_ok($allowed, '<', $slots, '.. and slots reserved for the other database are not allowed');

# ---- rows are locked, so that no touch can be written

# Reads until a read could not be recorded; after that each would wait.
sub read_until_dropped
{
	my ($db) = @_;
	return value(q{DO $$ BEGIN FOR i IN 1 .. 1500 LOOP PERFORM session_get('s' || i); EXIT WHEN i % 25 = 0 AND (session_health() #>> '{touches,dropped}')::int > 0; END LOOP; END $$}, $db);
}

my %locker;
for my $db (qw(postgres busy))
{
	$locker{$db} = $node->background_psql($db);
	$locker{$db}->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM conversation_sessions FOR UPDATE) s');
}
is(read_all('busy', $share + 50), $share + 50, 'one reads more than its share');
cmp_ok(number('busy', 'mine'), '>', $share, '.. and all of that is recorded');
is(number('busy', 'dropped'), 0, '.. and no touch is dropped');
is(health($node, 'warnings', 'busy'), '[]', '.. which has no warning');

read_until_dropped('postgres');
cmp_ok(number('postgres', 'dropped'), '>', 0, 'another database finds no room');
like(health($node, 'warnings'), qr/did not slide their session, for want of room.*may have \d+, and its share is \d+/, '.. its health names the symptom');
like(health($node, 'warnings', 'busy'), qr/this database has \d+ touch slots, more than its share of \d+, while another found no room/, '.. that of the first the cause');
like(value('SELECT session_metrics()'), qr/^session_store_touches_dropped_total [1-9]/m, 'a metric counts the dropped touches');
like(value('SELECT session_metrics()', 'busy'), qr/^session_store_touch_slots_mine [1-9]/m, '.. and another what a database has');

# ---- one database uses all that it may, the other still gets its share

$locker{postgres}->query_safe('COMMIT');
wait_for($node, q{SELECT (session_health() #>> '{touches,mine}')::int = 0}, 'touches are written once that is possible');
my $dropped = number('postgres', 'dropped');
read_until_dropped('busy');
cmp_ok(number('busy', 'dropped'), '>', 0, 'the first uses all that it may');
cmp_ok(number('busy', 'mine'), '<=', $allowed, '.. and no more');
is(read_all('postgres', 200), 200, 'the other reads');
is(number('postgres', 'dropped'), $dropped, '.. and all of that is noted');
$locker{busy}->query_safe('COMMIT');
$_->quit for values %locker;

# ---- shared memory, as in docs/reference.md

my $reference = slurp_file("$FindBin::RealBin/../../docs/reference.md");
my %documented = $reference =~ /^\| (session_store\S*(?: \w+)?) \| .*? \| (\d+) \|$/mg;
my $big = new_store('sizes');
my %settings = ('session_store ledger' => 'ledger_size', 'session_store touches' => 'touch_slots');

for my $name (sort keys %settings)
{
	my $bytes = $big->safe_psql('postgres', "SELECT size / current_setting('session_store.$settings{$name}')::int FROM pg_shmem_allocations WHERE name = '$name'");
	cmp_ok(abs($bytes - ($documented{$name} // 0)), '<=', 5, "$name: $bytes bytes for each of $settings{$name}, as documented ($documented{$name})");
}
for my $name ('session_store', 'session_store counters')
{
	my $bytes = $big->safe_psql('postgres', "SELECT size / 256 FROM pg_shmem_allocations WHERE name = '$name'");
	cmp_ok(abs($bytes - ($documented{$name} // 0)), '<=', 300, "$name: $bytes bytes for each database, as documented ($documented{$name})");
}
is($documented{'session_store hot'} // 0, $big->safe_psql('postgres', q{SELECT size FROM pg_shmem_allocations WHERE name = 'session_store hot'}), 'session_store hot: as documented');
done_testing();
