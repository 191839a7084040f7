# Address and login of Redis: passwords, users, database numbers, changes by reload, and unknown
# hosts. No password is ever shown.
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

my $secret = 'pass word:@/%é~"$1';
my $redis = new_redis(tcp => 1, password => $secret);
my $open = new_redis();
my $node = new_store('where', conf => "session_store.lease = 1s\nmax_worker_processes = 20\n");
my $file = $node->basedir . '/password';

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

sub password_file
{
	my ($password, $mode) = @_;

	unlink $file;
	PostgreSQL::Test::Utils::append_to_file($file, "$password\n");
	chmod $mode, $file or die "chmod: $!";
	return;
}

# Waits until session_health() says, also in a warning, why there is no cache.
sub says
{
	my ($pattern, $what) = @_;

	return wait_for($node, "SELECT session_health() #>> '{cache,last_error}' ~* '$pattern' AND session_health() #>> '{cache,running}' = 'false'
		AND session_health() ->> 'warnings' ~* 'no cache, and SQL works without it: .*($pattern)'", $what, timeout => 15, show => 1);
}

value(q{INSERT INTO session_namespaces (name, key_prefix, sliding, cache, tombstone) VALUES ('whole', 'whole:', false, 'all', '0')});
is(cache_health($node, 'configured'), 'false', 'without a URL: not configured');
is(health($node, 'warnings'), '[]', '.. and no warning');

# ---- a password in a file

set_conf($node, redis_url => $redis->url);
says('NOAUTH|password', 'no password: session_health() says so');
password_file($secret, 0644);
set_conf($node, redis_password_file => $file);
says('0600', 'a password file that others can read is refused, and session_health() names the mode');
chmod 0640, $file;
usleep(700_000);
says('0600', '.. also if only the group can read it');
chmod 0600, $file;
wait_for_cache($node, $redis, what => 'with mode 0600 it logs in');
value(q{SELECT session_save('s', '{"n": 1}', namespace => 'whole')});
compare_all($node, $redis, '.. and works', all => 1);
is(cache_health($node, 'password_in_url'), 'false', '.. with no password in the URL');

# the password is changed in Redis, then in the file
$redis->cmd('CONFIG', 'SET', 'requirepass', 'another');
$redis->{params}{password} = 'another';
delete $redis->{client};
$redis->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
says('WRONGPASS|invalid', 'a wrong password: session_health() says so');
password_file('another', 0600);
wait_for_cache($node, $redis, what => 'the pusher reads the file again by itself', timeout => 20);
compare_all($node, $redis, '.. and the copies are right');
unlink $file;
$redis->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
says('cannot be read', 'no such file: session_health() says so');
password_file('another', 0600);
wait_for_cache($node, $redis, what => '.. and with the file again');

# ---- a user with the rights that the documentation gives

$redis->cmd('ACL', 'SETUSER', 'pusher', 'on', ">$secret", '~session_store:*', '~whole:*', '~session:*', '+@all', '-@dangerous', '+info');
set_conf($node, redis_password_file => undef, redis_url => $redis->url(user => 'pusher', password => $secret));
wait_for_cache($node, $redis, what => 'a user, and a password in the URL');
value(q{SELECT session_save('s', '{"n": 2}', namespace => 'whole')});
compare_all($node, $redis, '.. works', all => 1);
is(cache_health($node, 'password_in_url'), 'true', '.. and session_health() says that the URL contains a password');
like(health($node, 'warnings'), qr/the password for Redis is in session_store.redis_url, which superusers and members of pg_read_all_settings can read.*server log.*redis_password_file/, '.. and warns, also of the server log');
password_file($secret, 0600);
set_conf($node, redis_password_file => $file, redis_url => $redis->url(user => 'pusher'));
wait_for_cache($node, $redis, what => 'a user, and a password in the file');
is(cache_health($node, 'password_in_url'), 'false', '.. without that warning');
$redis->cmd('ACL', 'SETUSER', 'pusher', '-evalsha', '-eval');
says('NOPERM|permission', 'a user without the right: session_health() says so');
$redis->cmd('ACL', 'SETUSER', 'pusher', '+evalsha', '+eval');
wait_for_cache($node, $redis, what => '.. and with it again');

# ---- another Redis by reload

value(q{SELECT session_save('move' || i, '{"n": 1}', namespace => 'whole') FROM generate_series(1, 300) i});
sync_cache($node);
set_conf($node, redis_password_file => undef, redis_url => $open->url);
wait_for_cache($node, $open, what => 'another URL by reload');
value(q{SELECT session_save('s', '{"n": 3}', namespace => 'whole')});
compare_all($node, $open, '.. where the cache works');
soon('.. and the previous one is left empty', 5, sub { !$redis->keys });
is(cache_health($node, 'redis'), $open->url, '.. health says where');

# the same while sessions are changed
my @lines = in_children(2, sub {
	my ($i, $say) = @_;

	if ($i == 1)
	{
		my $psql = $node->background_psql('postgres');
		for my $n (1 .. 400)
		{
			$psql->query_safe(qq{SELECT session_save('busy' || i, '{"n": $n}', namespace => 'whole') FROM generate_series(1, 5) i});
			usleep(5_000);
		}
		$psql->quit;
		return;
	}
	for my $url ($open->url(db => 2), $open->url(db => 3), $open->url)
	{
		set_conf($node, redis_url => $url);
		usleep(1_200_000);
	}
});
is("@lines", '', 'moved several times while sessions are saved');
wait_for_cache($node, $open, what => '.. it settles');
compare_all($node, $open, '.. with no wrong copy');
is_deeply($open->client(db => $_)->cmd('KEYS', '*'), [], ".. and database $_ is empty") for 2, 3;

# the same while the old Redis hangs
set_conf($node, redis_url => $redis->url(password => 'another'));
wait_for_cache($node, $redis);
$redis->pause;
set_conf($node, redis_url => $open->url);
wait_for_cache($node, $open, what => 'the pusher leaves a Redis that hangs', timeout => 20);
compare_all($node, $open, '.. and right');
$redis->resume;

# ---- a database number for each database

value('CREATE DATABASE second');
value('ALTER DATABASE second SET session_store.redis_db = 5');
create_extension($node, 'second');
wait_for_cache($node, $open, db => 'second', redis_db => 5, what => 'redis_db by ALTER DATABASE SET');
# sessions that are saved before the cache is up are not copied before they are used again
$node->safe_psql('second', q{SELECT session_save('only', '{"second": 1}')});
sync_cache($node, db => 'second');
is($open->client(db => 5)->get('session:only'), '{"second": 1}', '.. has its sessions');
is($open->get('session:only'), undef, '.. and no other database has them');
value('ALTER DATABASE second SET session_store.redis_db = 6');
wait_for_cache($node, $open, db => 'second', redis_db => 6, what => 'another number takes effect by itself', timeout => 20);
soon('.. and the previous one is left empty', 5, sub { !@{ $open->client(db => 5)->cmd('KEYS', '*') } });
value('ALTER DATABASE second SET session_store.redis_db = 99');
wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' ~* 'out of range|DB index'}, 'a number that does not exist: session_health() says so',
	db => 'second', timeout => 15, show => 1);
# keys that are in Redis when the database is dropped expire
within(10, 'DROP DATABASE', sub { value('DROP DATABASE second') });

# ---- switched off and on

value(q{SELECT session_save('s', '{"n": 4}', namespace => 'whole')});
sync_cache($node);
set_conf($node, redis_url => '');
soon('switched off by reload: no key is left', 5, sub { !$open->keys });
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'session_store pusher'}, '.. nor a pusher', timeout => 5);
is(cache_health($node, 'configured'), 'false', '.. and session_health() says so');
is(health($node, 'warnings'), '[]', '.. and has no warning');
value(q{SELECT session_save('s', '{"n": 5}', namespace => 'whole')});
set_conf($node, redis_url => $open->url);
wait_for_cache($node, $open, what => 'switched on again');
value(q{SELECT session_get('s', namespace => 'whole')});
soon('.. with the existing sessions', 3, sub { ($open->get('whole:s') // '') eq '{"n": 5}' });
compare_all($node, $open, '.. and no wrong copy');

# ---- invalid URLs

my $offset = -s $node->logfile;
for my $bad ('http://u:hunter2@host/', 'redis://u:hunter2@', 'redis://u:hunter2@host:port', 'redis://u:hunter2@host/x', 'unix://hunter2', 'redis://:hunter2@host:99999', 'hunter2',
	'redis://h%unter2@host', 'redis://u:hunter2@[::1')
{
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET session_store.redis_url = '$bad'");

	isnt($rc, 0, 'refused: ' . ($bad =~ s/hunter2|unter2/***/r));
	like($err, qr/session_store\.redis_url/, '.. by name');
	unlike($err =~ s/^.*STATEMENT.*$|^LINE.*\n.*//mgr, qr/unter2/, '.. without printing it');
}
# the server logs statements that fail as the client sent them; for a file it must not
$offset = -s $node->logfile;
$node->append_conf('postgresql.conf', "session_store.redis_url = 'http://u:hunter2\@host/'\n");
value('ALTER SYSTEM RESET session_store.redis_url');
$node->reload;
wait_for($node, 'SELECT true', undef, quiet => 1);
soon('a bad URL in the file is reported', 5, sub { count_log($node, qr/invalid value for parameter "session_store\.redis_url"/, $offset) > 0 });
my ($shown) = grep { /hunter2/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset);
is($shown, undef, '.. without printing it');
$node->adjust_conf('postgresql.conf', 'session_store.redis_url', "'" . $open->url . "'");
$node->reload;
wait_for_cache($node, $open, what => 'the cache continues');

# ---- who may see the settings

value('CREATE ROLE plain LOGIN');
is(sqlstate($node, 'SET ROLE plain; SHOW session_store.redis_url'), '42501', 'not every role sees the URL');
is(sqlstate($node, 'SET ROLE plain; SHOW session_store.redis_password_file'), '42501', '.. or the path of the password file');
is(sqlstate($node, 'SET ROLE plain; SET session_store.redis_db = 4'), '42501', '.. or may set the number');

# ---- host names and addresses

# no server has these addresses; the first is unreachable, the second a name
for my $host ('192.0.2.1', 'no-such-host.invalid')
{
	set_conf($node, redis_url => "redis://$host:6379");
	wait_for($node, qq{SELECT session_health() #>> '{cache,redis}' ~ '$host' AND session_health() #>> '{cache,last_error}' <> ''}, "$host: session_health() has an error",
		timeout => 15, show => 1);
	note(cache_health($node, 'last_error'));
	value('CREATE DATABASE victim');
	create_extension($node, 'victim');
	wait_for_pusher($node, undef, db => 'victim');
	usleep(500_000);
	within(6, '.. DROP DATABASE is not held up', sub { value('DROP DATABASE victim') });
	my $began = time;
	value(q{SELECT session_save('s', '{}', namespace => 'whole'); SELECT session_delete('s', namespace => 'whole')});
	in_time(time - $began, 2, '.. nor are sessions');
}

# a name server that never answers: in a private network and mount namespace, where that is possible
my $private = PostgreSQL::Test::Utils::tempdir();
PostgreSQL::Test::Utils::append_to_file("$private/resolv.conf", "nameserver 127.0.0.53\noptions timeout:30 attempts:5\n");
PostgreSQL::Test::Utils::append_to_file("$private/enter.sh", <<"EOS");
set -e
ip link set lo up
mount --bind $private/resolv.conf /etc/resolv.conf
perl -MIO::Socket::INET -e 'my \$s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.53", LocalPort => 53) or die; open my \$f, ">", "$private/pid"; print {\$f} \$\$; close \$f; sleep 600' </dev/null >/dev/null 2>&1 &
while ! [ -s $private/pid ]; do sleep 0.05; kill -0 \$! || exit 1; done
exec "\$@"
EOS
my @enter = ('unshare', '--user', '--mount', '--net', '--map-current-user', '--keep-caps', 'sh', "$private/enter.sh");
SKIP:
{
	my ($out, $err);

	$node->stop;
	skip 'no private network here', 4
	  unless eval { IPC::Run::run([ @enter, 'true' ], '<', \'', '>', \$out, '2>', \$err, IPC::Run::timeout(10)) };
	kill 'KILL', PostgreSQL::Test::Utils::slurp_file("$private/pid");
	unlink "$private/pid";
	$node->append_conf('postgresql.conf', "listen_addresses = ''\n");
	my $started = IPC::Run::run([ @enter, $node->installed_command('pg_ctl'), '-s', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start' ], '<', \'', '>', "$private/out", '2>', "$private/err");
	$node->_update_pid($started);
	ok($started, 'a server whose name server never answers');
	wait_for_pusher($node, '.. has its pusher', timeout => 20);
	wait_for($node, q{SELECT session_health() #>> '{cache,last_error}' <> ''}, '.. session_health() has an error', timeout => 20, show => 1);
	note(cache_health($node, 'last_error'));
	value('CREATE DATABASE victim');
	create_extension($node, 'victim');
	wait_for_pusher($node, undef, db => 'victim');
	usleep(300_000);
	within(6, '.. DROP DATABASE is not held up', sub { value('DROP DATABASE victim') });
	within(6, '.. nor a fast stop', sub { $node->stop('fast') });
	kill 'KILL', PostgreSQL::Test::Utils::slurp_file("$private/pid");
}
$node->start;

# ---- at the end

# each form of the passwords in the logs, whatever was tried
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
$log =~ s/^.*(?:STATEMENT|parameter "session_store\.redis_url" changed to).*$//mg;
ok(index($log, $_) < 0, 'no password is in the log') for $secret, 'pass%20word';
unlike(value('SELECT session_health()::text || session_metrics()'), qr/pass ?word:|pass%20/, '.. nor in health');
unlike(value(q{SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_activity WHERE backend_type LIKE 'session_store%'}), qr/pass ?word:|pass%20/, '.. nor in what the workers show');
unlike(join('', map { readlink("/proc/$_/exe") ? PostgreSQL::Test::Utils::slurp_file("/proc/$_/cmdline") : '' } grep { /\d/ } pusher_pid($node)), qr/pass ?word:|pass%20/,
	'.. nor in ps');
set_conf($node, redis_url => $open->url);
wait_for_cache($node, $open, what => 'and back');
leave_no_redis($node, $open);
# the Redis that hung when it was left keeps its keys until they expire
is($redis->get('session_store:lease'), undef, 'no reader trusts the Redis that was left while it hung');
copies_in($redis);
$redis->stop;
done_testing();
