# Saves are HOT updates over several lifetimes while the keeper works: at least 95 %.
#
# The server counts all updates of the table together. The keeper's own are one per
# living session and ttl; they move an indexed column and so are never HOT. Hence
# whatever is HOT is a save: its number is held against that of the saves.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $seconds = 8;
# (so few that each is saved again before it expires, however slow the machine is)
my $sessions = 20;

my $node = new_store('hot', conf => "track_counts = on\n");

sub updates
{
	$node->safe_psql('postgres', 'SELECT pg_stat_force_next_flush()') if $node->pg_version >= 15;
	return one_row($node, q{SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'conversation_sessions'});
}

for my $case (
	[ 'short documents, ttl 1 s', '1 s', 20 ],
	[ 'documents of 1 KB, ttl 2 s', '2 s', 1000 ],
	[ 'toasted documents, ttl 2 s', '2 s', 20_000 ])
{
	my ($what, $ttl, $bytes) = @$case;

	$node->safe_psql('postgres', <<"EOS");
TRUNCATE conversation_sessions;
SELECT session_save('s' || i, '{}', ttl => '$ttl') FROM generate_series(1, $sessions) i;
EOS
	# work that each page needs once is done by its first updates
	$node->safe_psql('postgres', "SELECT pg_stat_reset()");
	my ($all, $hot) = updates();
	my $out = pgbench_run($node, <<"EOS", '-c', 2, '-j', 2, '-M', 'prepared', '-T', $seconds / 2, '--rate=1500');
\\set i random(1, $sessions)
\\set n random(1, 1000000)
SELECT session_save('s' || :i, jsonb_build_object('n', (:n)::int, 'filler', (SELECT string_agg(md5((:n + k)::text), '') FROM generate_series(0, $bytes / 32) k)), ttl => '$ttl');
EOS
	my ($saves) = $out =~ /transactions actually processed: (\d+)/;
	wait_for($node, "SELECT n_tup_upd >= $saves * 0.9 FROM pg_stat_user_tables WHERE relname = 'conversation_sessions'",
		"$what: counted", timeout => 15, quiet => 1);
	my ($all2, $hot2) = updates();
	my $share = 100 * ($hot2 - $hot) / ($saves || 1);
	cmp_ok($share, '>=', 95,
		sprintf('%s: %.1f %% of %d saves HOT (%d of %d updates)', $what, $share, $saves, $hot2 - $hot, $all2 - $all));

	# one update for each living session and ttl, and some for sessions that began again
	my $keepers = ($all2 - $all) - $saves;
	my $turns = $seconds / 2 / ($ttl =~ s/ s//r) + 1;
	cmp_ok($keepers, '<=', $sessions * $turns * 1.2,
		"$keepers updates by the keeper: one per session and ttl at most");
}

leave_nothing($node);
done_testing();
