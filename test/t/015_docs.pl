# The documentation: every SQL example runs; every function, setting, column, metric and error
# code is in the reference, every test in test/README.md, and what the pages for developers name exists.
use strict;
use warnings;
use File::Basename;
use File::Find;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = new_store('docs', extension => 0);
my $readme = slurp_file("$top/README.md");
my $reference = slurp_file("$top/docs/reference.md");
my $redis = slurp_file("$top/docs/redis.md");

# README begins by creating the extension; the other examples follow, as a reader would run them.
my $count = 0;
foreach my $document ([ 'README.md', $readme ], [ 'docs/reference.md', $reference ], [ 'docs/redis.md', $redis ])
{
	my ($name, $text) = @$document;

	while ($text =~ /^```sql\n(.*?)^```/msg)
	{
		my $sql = $1;
		my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);
		my ($rc, $out, $err) = $node->psql('postgres', $sql, on_error_die => 0, on_error_stop => 1);

		is($rc, 0, "the example at $name:$line runs") or diag($err);
		$count++;
	}
}
cmp_ok($count, '>=', 6, 'there are examples');

# The results that the comments of the quickstart name.
is($node->safe_psql('postgres', "SELECT session_save('q', '{}'), session_incr('q', '{stats,pages}')"), '1|1',
	'a first save is version 1, a first increment 1');

sub lines
{
	return split /\n/, $node->safe_psql('postgres', $_[0]);
}

foreach my $function (lines(<<'EOS'))
SELECT p.proname || '(' || coalesce(array_to_string(p.proargnames[1:p.pronargs], ', '), '') || ')'
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store'
WHERE p.prorettype <> 'trigger'::regtype AND p.proname NOT IN ('session_contains', 'session_effective_expiry', 'session_alive', 'session_store_wake', 'session_may')
EOS
{
	my ($name, $arguments) = $function =~ /^(\w+)\((.*)\)$/;
	my $typed = join '[^,]*, ', split /, /, $arguments;

	like($reference, qr/^### \Q$name\E\($typed[^,]*\)/m, "$function is in the reference");
	like($readme, qr/`\Q$function\E`/, "$function is in README") if $arguments ne '';
}

# Each metric is in the reference, and no other.
my @metrics = lines(q{SELECT DISTINCT substring(l FROM '^# TYPE session_store_(\S+ \S+)') AS m FROM regexp_split_to_table(session_metrics(), E'\n') l WHERE l LIKE '# TYPE%' ORDER BY 1});
my @listed = $reference =~ /^\| (\w+) \| (gauge|counter) \|/mg;
my @pairs;

push @pairs, join ' ', splice @listed, 0, 2 while @listed;
is(join("\n", sort @pairs), join("\n", sort @metrics), 'the reference lists all metrics');

foreach my $setting (lines(q{SELECT name || ' ' || boot_val || ' ' || coalesce(unit, '') FROM pg_settings WHERE name LIKE 'session_store.%'}))
{
	my ($name, $default, $unit) = split / /, $setting;

	$default = $default / 1000 . 's' if ($unit // '') eq 'ms';
	$default = $default / 86400 . 'd' if ($unit // '') eq 's';
	$default = $default / 1024 / 1024 . 'MB' if ($unit // '') eq 'B';
	$default = 'empty' if $default eq '';
	like($readme, qr/^\| `\Q$name\E` \| `?\Q$default\E`? \|/m, "$name is in README, with its default $default");
}

foreach my $column (lines(q{SELECT attrelid::regclass || ' ' || attname FROM pg_attribute
	WHERE attrelid IN ('conversation_sessions'::regclass, 'session_namespaces'::regclass, 'session_events'::regclass, 'session_stats'::regclass)
	AND attnum > 0 AND attname <> 'event_id'}))
{
	my ($table, $name) = split / /, $column;

	like($reference, qr/\b\Q$name\E\b/, "$table.$name is in the reference");
}

my $tests = slurp_file("$top/test/README.md");
foreach my $file (glob("$top/test/sql/*.sql $top/test/specs/*.spec $top/test/t/*.pl"))
{
	my ($name) = $file =~ m{([^/]+)\.\w+$};

	like($tests, qr/^\| `\Q$name\E` \|/m, "the test $name is in test/README.md");
}

foreach my $state (qw(22023 22004 54000 42704 42501 40001 53400 SST10 55000))
{
	like($reference, qr/^\| [^|]*\b$state\b/m, "error $state is in the reference");
}

leave_nothing($node);
# ---- each error code that the sources raise is in the table of the reference

my (%sqlstate, %raised);

sub learn_codes
{
	my ($source) = @_;

	while ($source =~ /#define (ERRCODE_\w+)\s+MAKE_SQLSTATE\(([^)]*)\)/g)
	{
		my ($name, $letters) = ($1, $2);

		$letters =~ s/[^0-9A-Z]//g;
		$sqlstate{$name} = $letters;
	}
	return;
}

my ($headers) = run_command([ $node->installed_command('pg_config'), '--includedir-server' ]);
learn_codes(slurp_file("$headers/utils/errcodes.h"));
for my $file (glob("$top/src/*.[ch] $top/src/*/*.[ch]"))
{
	my $source = slurp_file($file);

	learn_codes($source);
	$raised{$1} = 1 while $source =~ /errcode\((ERRCODE_\w+)\)/g;
}
my ($table) = slurp_file("$top/docs/reference.md") =~ /^## Errors\n(.*)/ms;
cmp_ok(scalar keys %raised, '>', 15, 'error codes in the sources');
for my $name (sort keys %raised)
{
	like($table, qr/^\|[^|]*\b\Q$sqlstate{$name}\E\b[^|]*\|/m, "$name, $sqlstate{$name}, is in the table of errors");
}

# ---- the files and functions that docs/architecture.md and docs/protocol.md name exist

my %sources;    # names of files
my %functions;    # "file.c:function"
my %words;    # identifiers of ours
my %rule_places;    # "R1 file.c:function" for each SS_RULE(1)

find({ no_chdir => 1, wanted => sub {
	return unless /\.[ch]$/;
	my $base = basename($_);
	my $function = '';

	$sources{$base} = 1;
	for my $line (split /\n/, slurp_file($_))
	{
		if ($line =~ /^(\w+)\(/)
		{
			$function = $1;
			$functions{"$base:$function"} = 1;
		}
		$words{$1} = 1 while $line =~ /\b((?:ss_|SS_|Ss)\w+)/g;
		$rule_places{"R$1 $base:$function"} = 1 while $line =~ /SS_RULE\((\d+)\)/g;
	}
} }, "$top/src");

# Folders are written as in src/: `row/`.
sub check_places
{
	my ($document, $fewest) = @_;
	my $text = slurp_file("$top/$document");
	my @named = $text =~ /`([\w\/]+\.[ch](?::\w+)?)`/g;
	my @gone = grep { my $place = basename($_); !($functions{$place} || $sources{$place}) } @named;
	my @unknown = grep { !$words{$_} } $text =~ /`((?:ss_|SS_|Ss)\w+)`/g;
	my @folders = grep { !-d "$top/src/$_" && !-d "$top/$_" } $text =~ /`([a-z_\/]+\/)`/g;

	cmp_ok(scalar @named, '>', $fewest, "$document names files and functions");
	is("@gone", '', 'all of them exist');
	is("@folders @unknown", ' ', 'and so do its folders, and names without a file');
	return $text;
}

my $architecture = check_places('docs/architecture.md', 150);
my $protocol = check_places('docs/protocol.md', 40);

my @folders = map { substr $_, length("$top/src/") } glob("$top/src/*/");
is(join(' ', grep { $architecture !~ m{^\| `\Q$_\E` \|}m } @folders), '', 'docs/architecture.md has each folder of src in its table');

# ---- docs/protocol.md: each SS_RULE(n) stands in the section of its rule

my %section = $protocol =~ /^### (R\d+): [^\n]*\n(.*?)(?=^###? |\z)/msg;
is(join(' ', sort { substr($a, 1) <=> substr($b, 1) } keys %section), join(' ', map { "R$_" } 1 .. 22),
	'docs/protocol.md has the rules R1 to R22');
for my $rule (sort keys %section)
{
	like($section{$rule}, qr/\*Why:\*.*\*Places:\*\s.*\*Mutant:\*/s, "$rule has its reason, its places and its mutant");
}
my @missing = grep { my ($rule, $place) = split / /; index($section{$rule} // '', "`$place`") < 0 } sort keys %rule_places;
cmp_ok(scalar keys %rule_places, '>=', 22, 'each rule has a place in the code');
is(join(', ', @missing), '', 'docs/protocol.md names each place that tests SS_RULE');
my %knocked_out = map { /^R(\d+)/ ? ($1 => 1) : () } keys %rule_places;
is(join(' ', sort { $a <=> $b } keys %knocked_out), join(' ', 1 .. 22), 'each rule has a mutant in src');

done_testing();
