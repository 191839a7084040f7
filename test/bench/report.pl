#!/usr/bin/perl
# report.pl FOLDER [DOCS]
#	Prints the table of what is in FOLDER/samples.tsv; with DOCS, writes DOCS/bench.md, with plots in DOCS/bench/.
#
# A ratio is that of the two sides in one round; shown are the median of the rounds and their
# extremes, beside the target of claims.tsv. What claims.tsv does not know is an error, and so is
# a claim without samples when the whole is written.
use strict;
use warnings;
use FindBin;

my ($folder, $docs) = @ARGV;
my (%claim, @keys, %sample, @missing);

sub slurp
{
	my ($file) = @_;
	open my $in, '<', $file or return '';
	local $/ = undef;
	return scalar <$in>;
}

sub median
{
	my @v = sort { $a <=> $b } @_;
	return @v % 2 ? $v[ $#v / 2 ] : ($v[ @v / 2 - 1 ] + $v[ @v / 2 ]) / 2;
}

# Three significant digits.
sub short
{
	my ($v) = @_;
	return sprintf '%.3g', $v if $v != 0 && abs($v) < 100 && abs($v) >= 0.001;
	return sprintf '%.1e', $v if $v != 0 && abs($v) < 0.001;
	my $s = sprintf '%.0f', $v;
	1 while $s =~ s/^(\d+)(\d{3})/$1,$2/;
	return $s;
}

for (split /\n/, slurp("$FindBin::Bin/claims.tsv"))
{
	next if /^#|^\s*$/;
	my ($key, $unit, $target, $what) = split /\t/;
	$claim{$key} = { unit => $unit, target => $target, what => $what };
	push @keys, $key;
}
for (split /\n/, slurp("$folder/samples.tsv"))
{
	my ($key, $side, $round, $value) = split /\t/;
	die "report.pl: claims.tsv does not know $key\n" if !$claim{$key};
	$sample{$key}{$round}{$side} = $value;
}

my @rows = ("| what | ours | theirs | unit | ratio | rounds | target | |", "|---|---:|---:|---|---:|---|---:|---|");
my %verdicts = (met => 0, missed => 0);
for my $key (@keys)
{
	my $c = $claim{$key};
	my @rounds = grep { defined $_->{ours} && defined $_->{theirs} && $_->{theirs} != 0 } values %{ $sample{$key} || {} };
	if (!@rounds)
	{
		push @missing, $key;
		next;
	}
	my @ratios = map { $_->{ours} / $_->{theirs} } @rounds;
	my $ratio = median(@ratios);
	my ($min, $max) = (sort { $a <=> $b } @ratios)[ 0, -1 ];
	my ($sign, $bound) = $c->{target} =~ /^([<>]=)([0-9.]+)$/;
	my $verdict = !defined $sign ? '' : ($sign eq '>=' ? $ratio >= $bound : $ratio <= $bound) ? 'met' : 'missed';
	$verdicts{$verdict}++ if $verdict;
	push @rows, sprintf '| %s | %s | %s | %s | **%s** | %s to %s (%d) | %s | %s |', $c->{what},
		short(median(map { $_->{ours} } @rounds)), short(median(map { $_->{theirs} } @rounds)), $c->{unit},
		short($ratio), short($min), short($max), scalar(@ratios),
		defined $sign ? ($sign eq '>=' ? 'at least ' : 'at most ') . $bound : '', $verdict;
}

if (!defined $docs)
{
	print map { "$_\n" } @rows;
	print "\n", slurp($_) for sort glob("$folder/*.md");
	exit 0;
}
my @skipped = split /\n/, slurp("$folder/skipped");
# a benchmark that could not run is excused for the claims that its script names
my $excused = join '', map { /^(\w+):/ ? slurp("$FindBin::Bin/$1.sh") : '' } @skipped;
@missing = grep { my $key = s/-\d+$//r; $excused !~ /\b(?:alternate|sample) "?\Q$key\E/ } @missing;
die "report.pl: no samples of: @missing\n" if @missing;

# ---- plots

my (%plot, @series);
for (split /\n/, slurp("$folder/points.tsv"))
{
	my ($plot, $series, $x, $y) = split /\t/;
	$plot{$plot}{$series}{$x} = $y;
}
mkdir "$docs/bench";
my $plots = '';
my $gnuplot = grep { -x "$_/gnuplot" } split /:/, $ENV{PATH};
push @skipped, 'plots: no gnuplot' if !$gnuplot;
for my $file ($gnuplot ? sort glob("$FindBin::Bin/plots/*.gp") : ())
{
	my ($name) = $file =~ m{([^/]+)\.gp$};
	next if !$plot{$name};
	my $data = "$folder/$name.dat";
	my @names = sort keys %{ $plot{$name} };
	open my $out, '>', $data or die "$data: $!";
	for my $series (@names)
	{
		print $out "\"$series\"\n";
		print $out "$_ $plot{$name}{$series}{$_}\n" for sort { $a <=> $b } keys %{ $plot{$name}{$series} };
		print $out "\n\n";
	}
	close $out;
	# the plot's own file has titles and axes; everything that is the same for all is here
	open my $gp, '|-', 'gnuplot' or die "gnuplot: $!";
	print $gp "set terminal svg size 720,440 font 'sans,12' background '#ffffff'\nset output '$docs/bench/$name.svg'\n",
		"set key outside below center horizontal maxcols 1 noenhanced\nset bmargin ", @names + 4, "\nset grid lt 1 lc rgb '#dddddd' lw 1\nset style data linespoints\n", slurp($file), "\nplot ",
		join(', ', map { "'$data' index $_ using 1:2 title columnheader(1) lw 2 pt 7 ps 0.5" } 0 .. $#names), "\n";
	close $gp or die "gnuplot failed on $name\n";
	my $text = slurp("$FindBin::Bin/plots/$name.md");
	my ($title) = $text =~ /^# (.*)/;
	$text =~ s/^# .*\n+//;
	$plots .= "\n### $title\n\n![$title](bench/$name.svg)\n\n$text";
}

my $machine = slurp("$folder/machine");
my $details = join "\n", map { slurp($_) } sort glob("$folder/*.md");
open my $out, '>', "$docs/bench.md" or die "$docs/bench.md: $!";
print $out slurp("$FindBin::Bin/head.md"), "\n## The machine\n\n$machine\n## Ratios\n\n",
	"$verdicts{met} targets met, $verdicts{missed} missed.\n\n", map({ "$_\n" } @rows),
	(@skipped ? "\nNot measured in this run: " . join(', ', @skipped) . ".\n" : ''),
	($plots ne '' ? "\n## Cost as it grows\n$plots" : ''), ($details ne '' ? "\n## Details\n\n$details" : '');
close $out;
print "report.pl: wrote $docs/bench.md\n";
