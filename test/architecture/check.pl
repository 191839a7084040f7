# The structure of src/: which folder may include which, and what a header may declare.
#
#	perl test/architecture/check.pl [FOLDER]
#
# FOLDER holds src/ and test/architecture/folders.list; by default it is the checkout of this file.
# Prints what is wrong, and fails if anything is.
#
# - A file includes files of its own folder, and of the folders that folders.list allows. The list
#   goes from the bottom up: a folder may only include folders whose lines come before its own, so
#   there are no cycles. A dependency that no file has any more is to be taken from the list.
# - No file includes another in a circle; a .c and its .h are taken together.
# - No folder has more than a quarter of the lines of code: lines that are neither blank nor comment.
# - A header declares only what its own .c defines, and no .c declares what another file defines.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Find qw(find);

my $largest_share = 1 / 4;

my $top = $ARGV[0] // dirname(__FILE__) . '/../..';
my @problems;

sub problem
{
	push @problems, @_;
	return;
}

sub slurp
{
	my ($file) = @_;

	open(my $in, '<', $file) or die "$file: $!\n";
	local $/ = undef;
	my $text = <$in>;
	close($in);
	return $text;
}

# Text without comments, string literals and blank lines.
sub code_of
{
	my ($text) = @_;

	$text =~ s{("(?:[^"\\\n]|\\.)*")|('(?:[^'\\\n]|\\.)*')|/\*.*?\*/|//[^\n]*}{defined $1 ? '""' : defined $2 ? $2 : ' '}gse;
	$text =~ s/^\s*\n//mg;
	return $text;
}

# The folder of a file; a file directly in src/ is a folder of its own, under its name without suffix.
sub folder_of
{
	my ($file) = @_;

	return $1 if $file =~ m{^(.*)/};
	return $file =~ s/\.[ch]$//r;
}

# ---- read the sources

my (%code, %includes);    # of a file, by its path below src/

find({ no_chdir => 1, wanted => sub {
	return unless /\.[ch]$/;
	my $file = substr $_, length("$top/src/");
	my $text = slurp($_);

	$code{$file} = code_of($text);
	$includes{$file} = [ grep { -e "$top/src/$_" } $text =~ /^#include "([^"]+)"/mg ];
} }, "$top/src");
die "no sources in $top/src\n" unless %code;

# ---- read the list

my (%allowed, %line_of, %defined_elsewhere);

for (split /\n/, slurp("$top/test/architecture/folders.list"))
{
	next if /^\s*(#|$)/;
	if (/^\@defined-elsewhere (\S+): (.*)/)
	{
		$defined_elsewhere{$1}{$_} = 1 for split ' ', $2;
		next;
	}
	my ($folder, $below) = /^(\w+):(.*)/ or die "folders.list: not understood: $_\n";
	for my $other (split ' ', $below)
	{
		problem("folders.list: $folder may not include $other, whose line comes later") unless exists $line_of{$other};
		$allowed{$folder}{$other} = 0;
	}
	problem("folders.list: $folder has two lines") if exists $line_of{$folder};
	$line_of{$folder} = keys %line_of;
}

# ---- folders include what the list allows

for my $file (sort keys %code)
{
	my $folder = folder_of($file);

	problem("src/$file: folder $folder is not in folders.list") unless exists $line_of{$folder};
	for my $header (@{ $includes{$file} })
	{
		my $other = folder_of($header);

		next if $other eq $folder;
		if (exists $allowed{$folder}{$other})
		{
			$allowed{$folder}{$other}++;
		}
		else
		{
			problem("src/$file includes $header: folders.list does not allow $folder to include $other");
		}
	}
}
for my $folder (sort { $line_of{$a} <=> $line_of{$b} } keys %line_of)
{
	problem("folders.list: there is no folder $folder") unless grep { folder_of($_) eq $folder } keys %code;
	for my $other (sort keys %{ $allowed{$folder} })
	{
		problem("folders.list: $folder does not include $other any more") if $allowed{$folder}{$other} == 0;
	}
}

# ---- files do not include each other in a circle

my %uses;    # a .c and its .h, taken together: which others they include

for my $file (keys %includes)
{
	my $self = $file =~ s/\.[ch]$//r;

	for my $header (@{ $includes{$file} })
	{
		my $other = $header =~ s/\.h$//r;

		$uses{$self}{$other} = 1 if $other ne $self;
	}
}

my %visited;    # 1: on the path from where we began, 2: done

sub visit
{
	my ($self, @path) = @_;

	if (($visited{$self} // 0) == 1)
	{
		shift @path while $path[0] ne $self;
		problem('files include each other in a circle: ' . join(', ', @path, $self));
	}
	return if $visited{$self};
	$visited{$self} = 1;
	visit($_, @path, $self) for sort keys %{ $uses{$self} };
	$visited{$self} = 2;
	return;
}

visit($_) for sort keys %uses;

# ---- no folder is too large

my (%lines, $total);

for my $file (keys %code)
{
	my $n = $code{$file} =~ tr/\n//;

	$lines{ folder_of($file) } += $n;
	$total += $n;
}
for my $folder (sort keys %lines)
{
	problem(sprintf('src/%s has %d of %d lines of code: %.0f %%, more than %.0f %%',
			$folder, $lines{$folder}, $total, 100 * $lines{$folder} / $total, 100 * $largest_share))
		if $lines{$folder} > $largest_share * $total;
}

# ---- a header declares what its own .c defines

# The names of the external functions and variables that a file declares.
sub declared_in
{
	my ($text) = @_;
	my @names;

	while ($text =~ /^[\w ]*\bextern\b([^;{]*)/mg)
	{
		my $declaration = $1;

		if ($declaration =~ /\(\*\s*(\w+)\)/ || $declaration =~ /(\w+)\s*\(/ || $declaration =~ /(\w+)\s*(\[[^\]]*\]\s*)*$/)
		{
			push @names, $1;
		}
	}
	return @names;
}

# Does a file define this function or variable at its outermost level?
sub defines
{
	my ($text, $name) = @_;

	return $text =~ /^\Q$name\E\([^;]*?\)\s*\{/m
		|| $text =~ /^(?!static\b|extern\b|typedef\b)\w[^;={}()]*\b\Q$name\E(\[[^\]]*\])*\s*(=|;)/m
		|| $text =~ /^(?!static\b|extern\b|typedef\b)\w[\w *]*\(\*\Q$name\E\)\(/m;
}

for my $file (sort keys %code)
{
	my @names = declared_in($code{$file});

	if ($file =~ /\.c$/)
	{
		problem("src/$file declares $_, which belongs into a header") for grep { !defines($code{$file}, $_) } @names;
		next;
	}
	my $own = $file =~ s/\.h$/.c/r;
	for my $name (@names)
	{
		next if delete $defined_elsewhere{$file}{$name};
		problem("src/$file declares $name, which " . (exists $code{$own} ? "src/$own does not define" : 'has no .c of its own'))
			unless exists $code{$own} && defines($code{$own}, $name);
	}
}
for my $file (sort keys %defined_elsewhere)
{
	problem("folders.list: src/$file does not declare $_ any more") for sort keys %{ $defined_elsewhere{$file} };
}

print "$_\n" for @problems;
exit(@problems ? 1 : 0);
