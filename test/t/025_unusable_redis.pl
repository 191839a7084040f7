# Servers that are not a Redis, or a Redis that cannot serve: sessions work as without a cache,
# session_health() says what is wrong, and nothing grows, hangs or crashes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

my $real = new_redis();
my $node = new_store('lying', conf => "session_store.lease = 1s\n");
my %liars;

END
{
	my $rc = $?;

	# child processes exit without this
	for my $pid (keys %liars)
	{
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	$? = $rc;
}

# A server on a free port that handles each connection by code; returns its URL and process id.
sub liar
{
	my ($code) = @_;
	my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', Proto => 'tcp')
	  or die "cannot listen: $!";
	my $url = 'redis://127.0.0.1:' . $listener->sockport;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		my @kept;
		while (my $connection = $listener->accept)
		{
			eval { $code->($connection) };
			# a connection that is not closed hangs
			push @kept, $connection if $connection->opened;
			shift @kept if @kept > 50;
		}
		POSIX::_exit(0);
	}
	$liars{$pid} = 1;
	return ($url, $pid);
}

# Answers each command with the same until the other side disconnects.
sub answering
{
	my ($answer) = @_;

	return sub {
		my ($connection) = @_;
		my $buffer;

		while (IO::Select->new($connection)->can_read(3) && sysread $connection, $buffer, 65536)
		{
			my $commands = () = $buffer =~ /^\*\d+\r\n\$\d+\r\n[A-Z]/mg;

			syswrite $connection, $answer x $commands;
		}
		close $connection;
	};
}

# Greets as a Redis does, and answers each script with the same.
sub greeting
{
	my ($answer) = @_;

	return sub {
		my ($connection) = @_;
		my $buffer;

		while (IO::Select->new($connection)->can_read(3) && sysread $connection, $buffer, 65536)
		{
			syswrite $connection, $1 eq 'EVALSHA' ? $answer : $1 eq 'SCRIPT' ? "\$40\r\n" . 'a' x 40 . "\r\n" : "+OK\r\n"
			  while $buffer =~ /^\*\d+\r\n\$\d+\r\n([A-Z]+)/mg;
		}
		close $connection;
	};
}

# Sends without being asked, as long as the other side reads.
sub pouring
{
	my ($first, $then, $pause, $most) = @_;

	return sub {
		my ($connection) = @_;
		my $sent = 0;

		syswrite $connection, $first;
		while ($sent < $most && IO::Select->new($connection)->can_write(3) && syswrite $connection, $then)
		{
			$sent += length $then;
			usleep(1_000_000 * $pause) if $pause;
		}
		close $connection;
	};
}

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

# The memory of the pusher, in MB.
sub memory_of
{
	my ($pid) = @_;

	return 0 unless $pid && -r "/proc/$pid/status";
	my ($kilobytes) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return ($kilobytes // 0) / 1024;
}

my $simple = join '', map { chr(ord('a') + $_ % 26) } 1 .. 65536;
# [name, how it handles a connection, what session_health() says about it]
my @liars = (
	[ 'accepts and never answers', sub { }, qr/time/i ],
	[ 'closes at once', sub { close $_[0] }, qr/./ ],
	[ 'answers HTTP', answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), qr/./ ],
	[ 'answers a byte per second', pouring('', '*', 1, 1000), qr/./ ],
	[ 'answers a byte per second of a string', pouring("\$1000\r\n", 'x', 1, 1000), qr/./ ],
	[ 'announces 512 MB and sends some', pouring("\$536870912\r\n", $simple, 0, 536_870_912), qr/./ ],
	[ 'sends a line without an end', pouring('+', $simple, 0, 536_870_912), qr/./ ],
	[ 'sends arrays in arrays', answering("*1\r\n" x 10_000), qr/./ ],
	[ 'sends answers that were not asked for', pouring("+OK\r\n", "+OK\r\n" x 1000, 0, 50_000_000), qr/./ ],
	[ 'sends a negative length', answering("\$-7\r\n"), qr/./ ],
	[ 'answers always OK', answering("+OK\r\n"), qr/./ ],
	[ 'answers everything with a number', answering(":1\r\n"), qr/./ ],
	[ 'answers always nil', answering("\$-1\r\n"), qr/./ ],
	[ 'answers an empty array', answering("*0\r\n"), qr/./ ],
	[ 'answers our script with nonsense', answering("*5\r\n\$2\r\nOK\r\n\$1\r\nx\r\n\$1\r\ny\r\n\$-1\r\n*1\r\n:5\r\n"), qr/./ ],
	[ 'answers a time far from ours', answering("*5\r\n\$2\r\nOK\r\n\$12\r\n999999999999\r\n\$1\r\n0\r\n:0\r\n*0\r\n"), undef ],
	[ 'answers LATE to requests without a deadline', greeting("*3\r\n\$4\r\nLATE\r\n:@{[ int time ]}\r\n:0\r\n"), qr/no sense/ ],
	[ 'answers LOST although no request expects a batch', greeting("*3\r\n\$4\r\nLOST\r\n:@{[ int time ]}\r\n:0\r\n"), qr/no sense/ ],
	[ 'answers with an error of odd bytes', answering("-ERR \x01\xff\xfe odd\r\n"), qr/ERR \?\?\? odd/ ],
	[ 'answers noise', answering(join '', map { chr(7 * $_ % 256) } 1 .. 3000), qr/./ ],
	(map { [ "answers -$_->[0]", answering("-$_->[0]\r\n"), $_->[1] ] }
		  [ 'ERR unknown command', qr/unknown command/ ],
		[ q{OOM command not allowed when used memory > 'maxmemory'.}, qr/OOM/ ],
		[ q{READONLY You can't write against a read only replica.}, qr/READONLY/ ],
		[ 'NOAUTH Authentication required.', qr/NOAUTH|password/ ],
		[ 'LOADING Redis is loading the dataset in memory', qr/LOADING/ ],
		[ 'MOVED 3999 127.0.0.1:6381', qr/MOVED|luster/ ],
		[ "NOPERM this user has no permissions to run the '%n%s%x' command", qr/NOPERM/ ]),
);

my $growth = 0;
for my $liar (@liars)
{
	my ($what, $code, $says) = @$liar;
	my ($url, $pid) = liar($code);
	my $before = pusher_pid($node);

	set_conf($node, redis_url => $url);
	wait_for_pusher($node, undef, but => $before || 0, timeout => 40);
	my $pusher = pusher_pid($node);
	my $memory = memory_of($pusher);
	my ($start, $slowest, $rounds, $wrong) = (time, 0, 0, 0);
	my $psql = $node->background_psql('postgres');

	while (time - $start < 2.5 || (defined $says && cache_health($node, 'last_error') !~ $says && time - $start < 8))
	{
		$rounds++;
		for my $step (
			[ qq{SELECT session_save('s$rounds', '{"n": $rounds}')}, '1' ],
			[ qq{SELECT session_get('s$rounds')}, qq{{"n": $rounds}} ],
			[ qq{SELECT session_delete('s$rounds')}, 't' ])
		{
			my $began = time;
			my $answer = $psql->query_safe($step->[0]);
			my $took = time - $began;

			# the first fenced change waits for a lease that an earlier owner may have
			$slowest = $took if $took > $slowest && $rounds > 1;
			$wrong++ if $answer ne $step->[1];
		}
		value(q{DELETE FROM conversation_sessions});
		usleep(20_000);
	}
	$psql->quit;
	is($wrong, 0, "a server that $what: sessions work ($rounds rounds)");
	in_time($slowest, 1.5, '.. promptly');
	my $error = cache_health($node, 'last_error');
	like($error, $says, '.. and health says why there is no cache') if defined $says;
	note("last_error: $error");
	is(cache_health($node, 'running'), 'false', '.. and that the cache does not run');
	isnt(health($node, 'warnings'), '[]', '.. and warns') if defined $says;
	is(value(q{SELECT session_cache_sync('100 ms')}), 'f', '.. and Redis is not in sync');
	is(pusher_pid($node), $pusher, '.. the pusher is the same');
	my $more = memory_of($pusher) - $memory;
	$growth = $more if $more > $growth;
	cmp_ok($more, '<', 40, sprintf('.. and grew by %.1f MB', $more));
	kill 'KILL', $pid;
	waitpid $pid, 0;
	delete $liars{$pid};
}
diag(sprintf 'a pusher grew by %.1f MB at most', $growth);

# the log is not flooded
my $lines = count_log($node, qr/no cache:/);
cmp_ok($lines, '<=', 4 * @liars, "the log has $lines lines about it");

# ---- a Redis that cannot serve

# Valkey names its mode differently from Redis
my $mode = "server_mode:cluster\r\n";
my ($valkey, $valkey_pid) = liar(answering(sprintf "\$%d\r\n%s\r\n", length $mode, $mode));
set_conf($node, redis_url => $valkey);
wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' ~* 'cluster'}, 'a cluster of Valkey is refused, with a clear message', timeout => 15, show => 1);
kill 'KILL', $valkey_pid;
waitpid $valkey_pid, 0;
delete $liars{$valkey_pid};

my $replica = new_redis();
$replica->cmd('REPLICAOF', '127.0.0.1', '1');
set_conf($node, redis_url => $replica->url);
wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' ~ 'READONLY|replica|MASTERDOWN'}, 'a replica: health says so', timeout => 15, show => 1);
$replica->stop;

# the port of its bus would be higher by 10,000, which may be too high
my $cluster = new_redis(tcp => 1, conf => [
	'--cluster-enabled', 'yes', '--cluster-port', PostgreSQL::Test::Cluster::get_free_port() ]);
set_conf($node, redis_url => $cluster->url);
wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' ~* 'cluster'}, 'Redis Cluster is refused, with a clear message', timeout => 15, show => 1);
$cluster->stop;
is(value(q{SELECT session_save('s', '{}')}), '1', 'sessions work');

# a port where nothing listens, and an address that does not answer
set_conf($node, redis_url => 'redis://127.0.0.1:1');
wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' ~* 'refused'}, 'nothing listens: session_health() says so', timeout => 10, show => 1);
wait_for($node, q{SELECT session_health() #>> '{cache,breaker}' = 'open' AND session_health() #>> '{cache,using_fallback}' = 'true'}, '.. the breaker is open', timeout => 5, show => 1);

# ---- a usable Redis again

set_conf($node, redis_url => $real->url);
wait_for_cache($node, $real, what => 'with a usable Redis the cache is up');
value(q{SELECT session_save('s', '{"n": 1}')});
compare_all($node, $real, '.. and right');
is(cache_health($node, 'breaker'), 'closed', '.. and the breaker closed');
wait_for($node, q{SELECT session_health() ->> 'warnings' = '[]'}, '.. with no warning', timeout => 5, show => 1);
leave_no_key($node, $real);
$real->stop;

# ---- a server that is stopped while it is connected to such a Redis

# the last one announces an array that would need gigabytes if it were believed
for my $liar ((grep { $_->[0] =~ /never answers|byte per second$|512 MB/ } @liars),
	[ 'announces an array of a billion', answering("*1000000000\r\n:1\r\n") ])
{
	my ($url, $pid) = liar($liar->[1]);

	value('CREATE EXTENSION session_store') unless value(q{SELECT count(*) FROM pg_extension WHERE extname = 'session_store'});
	set_conf($node, redis_url => $url);
	wait_for_pusher($node, undef, timeout => 40);
	usleep(1_000_000);
	within(5, "CREATE DATABASE and DROP DATABASE beside a server that $liar->[0]", sub {
		value('CREATE DATABASE victim');
		value('DROP DATABASE victim');
	});
	within(6, '.. DROP EXTENSION', sub { value('DROP EXTENSION session_store') });
	value('CREATE EXTENSION session_store');
	wait_for_pusher($node, undef, timeout => 40);
	usleep(1_000_000);
	within(5, '.. a fast stop', sub { $node->stop('fast') });
	$node->start;
	wait_for_pusher($node, undef);
	usleep(500_000);
	kill 'KILL', $pid;
	waitpid $pid, 0;
	delete $liars{$pid};
}
my ($url) = liar(sub { });
set_conf($node, redis_url => $url);
usleep(1_500_000);
leave_nothing($node);
done_testing();
