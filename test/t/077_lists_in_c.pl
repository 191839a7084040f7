# What C code says and the install script says as well: our triggers, the default policy, and limits of
# lengths.  (Columns: 016_altered_tables.pl.)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('lists');

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub source
{
	return slurp_file("$FindBin::RealBin/../../src/$_[0]");
}

# The list in src/table/triggers.c is what the install script creates: each trigger with its table, its
# function, and when it fires.
{
	my $source = source('table/triggers.c');
	my %bits = (ROW => 1, BEFORE => 2, INSERT => 4, DELETE => 8, UPDATE => 16, TRUNCATE => 32);
	my %macros = $source =~ /^#define (\w+) \(?(\w[^()\n]*)\)?$/mg;
	my $names = join '|', keys %macros;
	my @listed;

	while ($source =~ /^\t\{"(\w+)", "(\w+)", "(\w+)",\s+([\w |]+),\s+(?:true|false)\}/mg)
	{
		my ($table, $name, $function, $type) = ($1, $2, $3, $4);
		my $value = 0;

		1 while $type =~ s/\b($names)\b/$macros{$1}/;
		$value |= $bits{$_} foreach $type =~ /TRIGGER_TYPE_(\w+)/g;
		push @listed, "$table $name $function $value A";
	}
	my @created = split /\n/, value(<<'EOS');
SELECT t.tgrelid::regclass, t.tgname, t.tgfoid::regproc, t.tgtype, t.tgenabled
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store'
JOIN pg_trigger t ON t.tgrelid = d.objid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND NOT t.tgisinternal
EOS
	tr/|/ / foreach @created;
	is(join("\n", sort @listed), join("\n", sort @created),
		'src/table/triggers.c lists the triggers that the install script creates');
	cmp_ok(scalar @created, '>=', 9, '.. all of them');
}

# The defaults in src/table/namespaces.h, the policy of namespace "default" without a row, are those of the
# columns.
{
	my $header = source('table/namespaces.h');
	my %unit = (USECS_PER_SEC => 1_000_000, true => 't', false => 'f');
	my (%listed, %created);

	while ($header =~ /^#define SS_DEFAULT_(\w+) (.+)$/mg)
	{
		my ($column, $value) = (lc $1, $2);

		$column =~ s/_us$//;
		next if $column eq 'prefix'; # the prefix of that namespace alone, which is not the column's default
		$value =~ s/INT64CONST\((\d+)\)/$1/;
		$value =~ s/\b(\w+)\b/$unit{$1} \/\/ $1/ge unless $value =~ s/^"(.*)"$/$1/;
		$value = $1 * $2 if $value =~ /^\((\d+) \* (\d+)\)$/;
		$listed{$column} = $value;
	}
	value('CREATE TABLE defaults (LIKE session_namespaces INCLUDING DEFAULTS)');
	value(q{INSERT INTO defaults (name, key_prefix) VALUES ('x', 'x:')});
	foreach my $column (split /\n/, value(<<'EOS'))
SELECT attname FROM pg_attribute WHERE attrelid = 'session_namespaces'::regclass AND attnum > 0 AND atthasdef
EOS
	{
		$created{$column} = value("SELECT $column FROM defaults");
		$created{$column} = value("SELECT (extract(epoch FROM $column) * 1000000)::bigint FROM defaults")
		  if $column =~ /^(?:ttl|cache_ttl|tombstone|operation_keep)$/;
	}
	is_deeply(\%listed, \%created, 'src/table/namespaces.h has the defaults of the columns');
	cmp_ok(scalar keys %created, '>=', 15, '.. all of them');
}

# Members are checked by a constraint, other names by C code: the limit is the same.
{
	my ($max) = source('base/key.h') =~ /^#define SS_NAME_MAX (\d+)$/m;

	like(value(q{SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'session_members_member_check'}),
		qr/octet_length\(member\) >= 1\b.*octet_length\(member\) <= $max\b/, 'the limit of a member is that of other names');
}

done_testing();
