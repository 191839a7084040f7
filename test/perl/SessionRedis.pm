# A Redis of the test, a client to read it, and servers whose pusher writes to it.
#
# Words
#	redis	a server that this process started: redis-server, or the program in
#			SS_REDIS_SERVER, on a socket in a temporary folder, or on a free port of 127.0.0.1
#	client	a connection to it, which speaks RESP in core Perl
#	copy	what Redis holds of a session
#
# Rules
#	A redis is stopped by its process id, by the process that started it, at the
#	latest when that ends. Every test ends with leave_no_key(): DROP EXTENSION must
#	leave none of our keys.
package SessionRedis;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_redis new_cached_store redis_conf set_conf
  cache_health wait_for_cache sync_cache pusher_pid wait_for_pusher
  crash compare_all copies_in leave_no_key leave_no_redis watched in_children
  waits_at_commit tails_after_commits
);

# What the pusher itself keeps in Redis.
our ($lease, $guard) = ('session_store:lease', 'session_store:guard');

my %running;	# pid => redis, of this process
my $number = 0;

# ------------------------------------------------------------------- a server

# new_redis(tcp => 1, save => 1, password => text, conf => [arguments]): starts a server. With save =>
# 1 it can load and write an RDB file; it never does so by itself.
sub new_redis
{
	my (%params) = @_;
	my $self = bless { params => \%params, dir => PostgreSQL::Test::Utils::tempdir_short() },
	  'SessionRedis';

	$self->{name} = 'redis' . ++$number;
	if ($params{tcp})
	{
		$self->{port} = PostgreSQL::Test::Cluster::get_free_port();
	}
	else
	{
		$self->{socket} = "$self->{dir}/redis.sock";
	}
	return $self->start;
}

sub _program
{
	my @names = defined $ENV{SS_REDIS_SERVER} ? ($ENV{SS_REDIS_SERVER}) : qw(redis-server valkey-server);

	for my $name (@names)
	{
		return $name if $name =~ m{/} && -x $name;
		for my $dir (split(/:/, $ENV{PATH} // ''), qw(/usr/bin /usr/local/bin))
		{
			return "$dir/$name" if -x "$dir/$name";
		}
	}
	BAIL_OUT("no Redis server is here: @names");
	return;
}

sub start
{
	my ($self) = @_;
	my $program = _program();
	my @where = $self->{port}
	  ? ('--port', $self->{port}, '--bind', '127.0.0.1')
	  : ('--port', 0, '--unixsocket', $self->{socket}, '--unixsocketperm', '700');
	my @how = ('--dir', $self->{dir}, '--save', '', '--appendonly', 'no', '--daemonize', 'no',
		'--logfile', "$self->{dir}/log");

	push @how, @{ $self->{params}{conf} // [] };
	# in a file, because servers differ in how they read quotes on the command line
	my $file = "$self->{dir}/redis.conf";
	open my $conf, '>', $file or die "$file: $!";
	printf {$conf} "requirepass \"%s\"\n", $self->{params}{password} =~ s/(.)/sprintf '\\x%02x', ord $1/gers
	  if defined $self->{params}{password};
	close $conf;
	unlink $self->{socket} if $self->{socket};
	unlink "$self->{dir}/dump.rdb" unless $self->{params}{save};

	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$self->{dir}/out";
		open STDERR, '>>', "$self->{dir}/out";
		no warnings 'exec';	# reached when there is no such program
		exec { $program } $program, $file, @where, @how;
		POSIX::_exit(127);
	}
	@$self{qw(pid owner)} = ($pid, $$);
	$running{$pid} = $self;
	delete $self->{client};

	my $give_up = time + 20;
	until (eval { $self->cmd('PING') eq 'PONG' })
	{
		if (time > $give_up)
		{
			diag(-e "$self->{dir}/log" ? PostgreSQL::Test::Utils::slurp_file("$self->{dir}/log") : '');
			BAIL_OUT("$program does not start: $@");
		}
		usleep(10_000);
	}
	return $self;
}

sub _gone
{
	my ($self) = @_;

	waitpid $self->{pid}, 0;
	delete $running{ $self->{pid} };
	delete $self->{pid};
	delete $self->{client};
	return $self;
}

sub stop
{
	my ($self) = @_;

	return $self unless $self->{pid};
	kill 'CONT', $self->{pid};
	kill 'TERM', $self->{pid};
	return $self->_gone;
}

sub kill9
{
	my ($self) = @_;

	kill 'KILL', $self->{pid};
	return $self->_gone;
}

sub pause
{
	my ($self) = @_;

	kill 'STOP', $self->{pid};
	return $self;
}

sub resume
{
	my ($self) = @_;

	kill 'CONT', $self->{pid};
	return $self;
}

sub restart
{
	my ($self) = @_;

	return $self->stop->start;
}

# The URL for session_store.redis_url; at most one of these: user, password, db.
sub url
{
	my ($self, %params) = @_;
	my $login = join ':', map { s/([^A-Za-z0-9])/sprintf '%%%02x', ord $1/ger }
	  grep { defined } $params{user} // (defined $params{password} ? '' : undef), $params{password};

	$login .= '@' if $login ne '';
	return "unix://$login$self->{socket}" . (defined $params{db} ? "?db=$params{db}" : '')
	  if $self->{socket};
	return "redis://${login}127.0.0.1:$self->{port}" . (defined $params{db} ? "/$params{db}" : '');
}

# ------------------------------------------------------------------- a client

# A connection of its own, for another process, another database or another user. client(db => 1, user
# => .., password => .., timeout => seconds)
sub client
{
	my ($self, %params) = @_;
	my $socket = $self->{socket}
	  ? IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $self->{socket})
	  : IO::Socket::INET->new(Proto => 'tcp', PeerAddr => "127.0.0.1:$self->{port}");

	die "redis: cannot connect: $!\n" unless $socket;
	my $client = bless { socket => $socket, in => '', timeout => $params{timeout} // 10 },
	  'SessionRedis::Client';
	my $password = $params{password} // $self->{params}{password};
	$client->cmd('AUTH', $params{user} // 'default', $password) if defined $password;
	$client->cmd('SELECT', $params{db}) if $params{db};
	return $client;
}

# Runs a command on the server's own connection, which is made when it is first needed. An error dies.
sub cmd
{
	my ($self, @args) = @_;

	$self->{client} //= $self->client;
	my $answer = eval { $self->{client}->cmd(@args) };
	my $error = $@;

	delete $self->{client} if $error && $error !~ /^redis says/;
	die $error if $error;
	return $answer;
}

sub get { my ($self, $key) = @_; return $self->cmd('GET', $key); }
sub mget { my ($self, @keys) = @_; return @{ $self->cmd('MGET', @keys) }; }
sub flushall { my ($self) = @_; return $self->cmd('FLUSHALL'); }
sub pttl { my ($self, $key) = @_; return $self->cmd('PTTL', $key); }

# The keys that match a pattern, sorted; by default all.
sub keys
{
	my ($self, $pattern) = @_;
	my @keys = sort @{ $self->cmd('KEYS', $pattern // '*') };

	return @keys;
}

# What a strong reader gets: the value if there is a lease, else undef.
sub strong
{
	my ($self, $key) = @_;
	my ($there, $value) = $self->mget($lease, $key);

	return defined $there ? $value : undef;
}

package SessionRedis::Client;

use Errno ();
use Time::HiRes ();

sub send
{
	my ($self, @args) = @_;
	my $out = '*' . @args . "\r\n" . join '', map { '$' . length($_) . "\r\n$_\r\n" } @args;

	local $SIG{PIPE} = 'IGNORE';
	while (length $out)
	{
		my $n = syswrite $self->{socket}, $out;
		next if !defined $n && $!{EINTR};
		die "redis: cannot write: $!\n" unless defined $n;
		substr $out, 0, $n, '';
	}
	return;
}

# Reads until there are n bytes.
sub _fill
{
	my ($self, $give_up) = @_;
	my $select = IO::Select->new($self->{socket});
	my $left;

	# can_read also returns after a signal, such as that of a child that ended
	do
	{
		$left = $give_up - Time::HiRes::time();
		die "redis: no answer\n" unless $left > 0;
	} until $select->can_read($left);
	my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
	return if !defined $n && $!{EINTR};	# a signal here, too
	die "redis: the connection is closed\n" unless $n;
	return;
}

sub _line
{
	my ($self, $give_up) = @_;

	$self->_fill($give_up) until $self->{in} =~ s/^(.*?)\r\n//s;
	return $1;
}

sub answer
{
	my ($self, $give_up) = @_;
	my ($kind, $rest) = $self->_line($give_up) =~ /^(.)(.*)$/s;

	return $rest if $kind eq '+' || $kind eq ':';
	return bless \$rest, 'SessionRedis::Error' if $kind eq '-';
	return undef if $rest == -1;
	return [ map { $self->answer($give_up) } 1 .. $rest ] if $kind eq '*';
	$self->_fill($give_up) while length $self->{in} < $rest + 2;
	my $value = substr $self->{in}, 0, $rest;
	substr $self->{in}, 0, $rest + 2, '';
	return $value;
}

sub cmd
{
	my ($self, @args) = @_;

	$self->send(@args);
	my $answer = $self->answer(Time::HiRes::time() + $self->{timeout});
	die "redis says: $$answer\n" if ref $answer eq 'SessionRedis::Error';
	return $answer;
}

sub get { my ($self, $key) = @_; return $self->cmd('GET', $key); }
sub mget { my ($self, @keys) = @_; return @{ $self->cmd('MGET', @keys) }; }

package SessionRedis;

# watched(redis, code): the commands that Redis got while code ran, one a line; those of scripts have
# "lua]".
sub watched
{
	my ($self, $code) = @_;
	my $client = $self->client;
	my $end = "end of watch $$ " . ++$number;
	my @lines;

	$client->cmd('MONITOR');
	$code->();
	$self->cmd('ECHO', $end);
	until (@lines && $lines[-1] =~ /$end/)
	{
		push @lines, $client->answer(time + 10);
	}
	pop @lines;
	return @lines;
}

# ------------------------------------------------------- servers with a cache

# Lines for postgresql.conf.
sub redis_conf
{
	my ($redis, %params) = @_;

	return sprintf "session_store.redis_url = '%s'\n", $redis->url(%params);
}

# Settings of a running server, changed by reload.
sub set_conf
{
	my ($node, %settings) = @_;

	for my $name (sort CORE::keys %settings)
	{
		$node->safe_psql('postgres',
			defined $settings{$name} ? "ALTER SYSTEM SET session_store.$name = '$settings{$name}'"
			: "ALTER SYSTEM RESET session_store.$name");
	}
	$node->reload;
	return;
}

# As new_store, with a redis, and waits until the cache is up.
sub new_cached_store
{
	my ($name, $redis, %params) = @_;
	my $node = new_store($name, %params, conf => redis_conf($redis) . ($params{conf} // ''));

	wait_for_cache($node, $redis) unless defined $params{extension} && !$params{extension};
	return $node;
}

# cache_health($node, 'state'): one value of session_health() -> 'cache'.
sub cache_health
{
	my ($node, $name, $dbname) = @_;

	return health($node, "cache,$name", $dbname);
}

# Waits until strong readers may trust Redis; what => text names the test.
sub wait_for_cache
{
	my ($node, $redis, %params) = @_;
	my $dbname = $params{db} // 'postgres';
	my $client = $redis->client(db => $params{redis_db});
	my $timeout = $params{timeout} // 15;
	my $start = time;
	my $up = 0;

	while (!$up && time - $start < SessionStore::limit_of($timeout, time - $start))
	{
		$up = defined $client->get($lease)
		  && $node->safe_psql($dbname, q{SELECT session_cache_sync('1 s')}) eq 't';
		usleep(20_000) unless $up;
	}
	my $what = sprintf '%s (%.1f s)', $params{what} // 'the cache is up', time - $start;
	ok($up, $what) if defined $params{what} || !$up;
	diag(scalar $node->psql($dbname, q{SELECT jsonb_pretty(session_health() -> 'cache')})) unless $up;
	return $up;
}

# Waits until everything that was committed is in Redis; the test fails otherwise.
sub sync_cache
{
	my ($node, %params) = @_;
	my $timeout = $params{timeout} // 10;
	my $start = time;
	my $synced = 'f';

	while ($synced ne 't' && time - $start < SessionStore::limit_of($timeout, time - $start))
	{
		$synced = $node->safe_psql($params{db} // 'postgres', q{SELECT session_cache_sync('1 s')});
	}
	fail("session_cache_sync within $timeout s") if $synced ne 't';
	return;
}

# Changes the tail of the session "strong" and reads strongly after each COMMIT; with stopped => 1 the
# pusher is stopped meanwhile. Returns how often the lease was there, and which other values were seen.
#   numbers	for each of them
#   change	the statement
#   tail	the tail that it makes
#   becomes	waits until Redis has a tail, so that there is a copy for the next change to delete
sub tails_after_commits
{
	my ($node, $redis, $what, %params) = @_;
	my ($trusted, @old) = (0);

	for my $i (@{ $params{numbers} })
	{
		my $want = $params{tail}->($i);
		my $pusher;

		if ($params{stopped})
		{
			wait_for_cache($node, $redis);
			$pusher = pusher_pid($node);
			kill 'STOP', $pusher;
		}
		$node->safe_psql('postgres', $params{change}->($i));
		my ($held, $copy) = $redis->mget($lease, 'tail:strong');
		kill 'CONT', $pusher if defined $pusher;
		$trusted++ if defined $held;
		push @old, "$i: $copy" if defined $held && defined $copy && $copy ne $want;
		$params{becomes}->('strong', $want, "$what $i" . ($params{stopped} ? ', while the pusher is stopped' : '')) or last;
	}
	return ($trusted, join ' ', @old);
}

sub pusher_pid
{
	my ($node, $dbname) = @_;

	$dbname //= 'postgres';
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'session_store pusher' AND datname = '$dbname'");
}

# Waits for a pusher other than that with the given process id.
sub wait_for_pusher
{
	my ($node, $what, %params) = @_;
	my $dbname = $params{db} // 'postgres';
	my $but = $params{but} || 0;

	return wait_for($node,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'session_store pusher' AND datname = '$dbname' AND pid <> $but",
		$what, timeout => $params{timeout} // 10, quiet => !defined $what);
}

# Commits the transaction of a background session while Redis does not answer, and ends the session.
# Returns whether the COMMIT waited at the fence.
sub waits_at_commit
{
	my ($node, $redis, $psql, $pid) = @_;

	$redis->pause;
	$psql->query_until(qr/committing/, "\\echo committing\nCOMMIT;\n");
	wait_for($node, "SELECT state = 'idle' OR wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid",
		'the COMMIT waits or is done', quiet => 1);
	my $state = $node->safe_psql('postgres', "SELECT state FROM pg_stat_activity WHERE pid = $pid");
	$redis->resume;
	$psql->query_safe('SELECT 1');
	$psql->quit;
	return $state eq 'active';
}

# Kills the postmaster, and starts the server again as soon as its old processes have ended.
sub crash
{
	my ($node, %params) = @_;
	my @stopped = @{ $params{stopped} // [] };

	$node->kill9;
	kill 'KILL', @stopped if @stopped;
	for (1 .. 100)
	{
		# after a start that failed the node would take the old postmaster's file for its own
		usleep(100_000);
		undef $node->{_pid};
		return 1 if $node->start(fail_ok => 1);
	}
	return fail('the server starts after a crash');
}

# The copies in Redis by key: all keys but the pusher's own.
sub copies_in
{
	my ($redis, %params) = @_;
	my $client = $redis->client(db => $params{redis_db});
	my @keys = grep { !/^session_store:/ } @{ $client->cmd('KEYS', '*') };
	my %copies;

	@copies{@keys} = $client->mget(@keys) if @keys;
	for my $key (@keys)
	{
		# gone since, or without an expiry
		my $left = $client->cmd('PTTL', $key);
		delete $copies{$key} if !defined $copies{$key} || $left == -2;
		fail("a copy that never ends: $key") if $left == -1;
	}
	return \%copies;
}

# Checks after a sync that every copy is that of a living session and equal to its row and, with all =>
# 1, that none is missing (of namespaces whose cache is "all", not sliding).
sub compare_all
{
	my ($node, $redis, $what, %params) = @_;
	my $dbname = $params{db} // 'postgres';

	sync_cache($node, %params) unless $params{no_sync};
	my $copies = copies_in($redis, %params);
	# the copies first: a session that ends in between has ended
	my %rows = map { my @row = split /\x01/; $row[0] => \@row } split /\n/,
	  $node->safe_psql($dbname, <<'EOS');
SELECT coalesce(n.key_prefix, 'session:')
	|| CASE WHEN n.hash_keys THEN encode(sha256(convert_to(s.session_id, 'UTF8')), 'hex') ELSE s.session_id END
	|| E'\x01' || s.session_data || E'\x01' || (coalesce(n.cache, 'hot') = 'all' AND NOT n.sliding) || E'\x01' || (s.expires_at > clock_timestamp())
FROM conversation_sessions s LEFT JOIN session_namespaces n ON n.name = s.namespace
WHERE s.expires_at > clock_timestamp() - interval '100 ms' AND s.dead_until IS NULL AND coalesce(n.cache, 'hot') <> 'off'
EOS
	my @wrong;
	for my $key (sort CORE::keys %$copies)
	{
		my $row = $rows{$key};

		push @wrong, "$key: no such session, but $copies->{$key}" unless $row;
		push @wrong, "$key: $copies->{$key} instead of $row->[1]" if $row && $row->[1] ne $copies->{$key};
	}
	if ($params{all})
	{
		push @wrong, map { "$_: missing" }
		  grep { $rows{$_}[2] eq 'true' && $rows{$_}[3] eq 'true' && !exists $copies->{$_} } sort CORE::keys %rows;
	}
	my $n = CORE::keys %$copies;
	ok(!@wrong, "$what ($n copies are right)");
	diag(@wrong . " are wrong, such as\n" . join "\n", splice @wrong, 0, 8) if @wrong;
	return $n;
}

# Runs code in n processes at once, each with its number and a function that writes a line; returns all
# lines. The processes end without the END blocks and destructors of this one.
sub in_children
{
	my ($n, $code) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my @pids;

	for my $i (1 .. $n)
	{
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			open my $out, '>', "$dir/lines$i" or POSIX::_exit(1);
			eval { $code->($i, sub { print {$out} "@_\n" }); 1 } or print {$out} "died: $@";
			close $out;
			POSIX::_exit(0);
		}
		push @pids, $pid;
	}
	waitpid $_, 0 for @pids;
	return map { split /\n/, PostgreSQL::Test::Utils::slurp_file("$dir/lines$_") } 1 .. $n;
}

# ---------------------------------------------------------------------- the end

# After DROP EXTENSION none of our keys is in Redis; other => [keys] that the test itself has written
# stay.
sub leave_no_key
{
	my ($node, $redis, %params) = @_;
	my $name = $params{name} // $redis->{name};
	my $client = $redis->client(db => $params{redis_db});
	my @other = sort @{ $params{other} // [] };
	my @left;

	$node->safe_psql($params{db} // 'postgres', 'DROP EXTENSION session_store CASCADE')
	  unless $params{dropped};
	my $give_up = time + 10;
	do
	{
		usleep(20_000);
		@left = sort @{ $client->cmd('KEYS', '*') };
	} until "@left" eq "@other" || time > $give_up;
	is("@left", "@other", "$name: no key of ours is left");
	return;
}

# leave_no_key, then stops the server and Redis.
sub leave_no_redis
{
	my ($node, $redis, %params) = @_;

	leave_no_key($node, $redis, %params);
	leave_nothing($node, %params);
	$redis->stop;
	return;
}

END
{
	my $rc = $?;

	# a child of the test has inherited the list, but did not start the servers
	for my $pid (CORE::keys %running)
	{
		next unless $running{$pid}{owner} == $$;
		kill 'CONT', $pid;
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	$? = $rc;
}

1;
