# rediss://: the certificate and the host name are checked if the build has TLS; otherwise the
# setting is refused with an explanation.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionRedis;
use SessionStore;
use Test::More;

my $redis = new_redis();
my $node = new_cached_store('tls', $redis);

if (cache_health($node, 'tls') ne 'true')
{
	set_conf($node, redis_url => "rediss://localhost:1");
	wait_for($node, "SELECT session_health() #>> '{cache,last_error}' LIKE '%without%'",
		'without TLS in the build, session_health() says so');
	is($node->safe_psql('postgres', q{SELECT session_save('a', '{}')}), '1', '.. and SQL works');
	leave_nothing($node);
	done_testing();
	exit;
}
if (!grep { -x "$_/openssl" } split /:/, $ENV{PATH})
{
	leave_nothing($node);
	plan skip_all => 'no program openssl to make certificates with';
}

# ---- a certificate authority, and certificates for this host and for another

my $dir = PostgreSQL::Test::Utils::tempdir_short();

sub openssl
{
	my ($out, $err);

	IPC::Run::run([ 'openssl', @_ ], '<', \'', '>', \$out, '2>', \$err) or die "openssl @_: $err";
	return;
}

sub certificate
{
	my ($name, $host) = @_;

	append_to_file("$dir/$name.ext", "subjectAltName = DNS:$host\n");
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr",
		'-subj', "/CN=$host");
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key",
		'-CAcreateserial', '-days', '2', '-out', "$dir/$name.crt", '-extfile', "$dir/$name.ext");
	return;
}

openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/ca.key", '-out', "$dir/ca.crt",
	'-days', '2', '-subj', '/CN=an authority');
certificate('right', 'localhost');
certificate('wrong', 'elsewhere.invalid');

sub tls_redis
{
	my ($name) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $tls = new_redis(conf => [
		'--tls-port', $port, '--tls-cert-file', "$dir/$name.crt", '--tls-key-file', "$dir/$name.key",
		'--tls-ca-cert-file', "$dir/ca.crt", '--tls-auth-clients', 'no' ]);

	return ($tls, "rediss://localhost:$port");
}

my ($right, $right_url) = tls_redis('right');
my ($wrong, $wrong_url) = tls_redis('wrong');

# ---- nothing trusts that authority yet

set_conf($node, redis_url => "$right_url");
wait_for($node, "SELECT session_health() #>> '{cache,last_error}' ~* 'certificate'",
	'a certificate of an unknown authority is refused');
is(scalar $right->keys('*'), 0, '.. and nothing was written');

# ---- with the authority in the environment of the server

$node->stop('fast');
{
	local $ENV{SSL_CERT_FILE} = "$dir/ca.crt";
	$node->start;
}
wait_for($node, "SELECT session_health() #>> '{cache,state}' = 'running'", 'a good certificate is accepted');
$node->safe_psql('postgres', q{SELECT session_save('a', '{"x": 1}')});
is($node->safe_psql('postgres', 'SELECT session_cache_sync()'), 't', 'a saved session is copied');
is($right->get('session:a'), '{"x": 1}', '.. as it is');
$node->safe_psql('postgres',
	q{SELECT session_save('big', jsonb_build_object('text', repeat('0123456789', 80000)))});
is($node->safe_psql('postgres', 'SELECT session_cache_sync()'), 't', '.. and so is a large document');
is(length $right->get('session:big'), 800012, '.. completely');

set_conf($node, redis_url => "$wrong_url");
wait_for($node, "SELECT session_health() #>> '{cache,last_error}' ~* 'certificate|hostname'",
	'a certificate for another host is refused');
is(scalar $wrong->keys('*'), 0, '.. and nothing was written');
is(scalar $right->keys('*'), 0, 'the Redis of before was emptied');

leave_nothing($node);
done_testing();
