# session_window() on whole servers: it restarts the lifetime where reads do, a standby returns the
# same windows and follows changes of token_path, and token_path survives dump and restore.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('windows', init => { allows_streaming => 1 });

sub value
{
	my ($sql, $db) = @_;

	return $node->safe_psql($db // 'postgres', $sql);
}

my $window = q{SELECT string_agg(seq || ':' || tokens, ' ' ORDER BY seq) FROM session_window('s', max_tokens => 20, namespace => 'chat')};

value(q{INSERT INTO session_namespaces (name, sliding, ttl) VALUES ('chat', true, '1 hour')});
value(q{SELECT session_append('s', '[{"role": "user", "content": "1", "n": 9}, {"role": "assistant", "content": "2", "n": 9}, {"role": "user", "content": "3", "n": 9}, {"role": "assistant", "content": "4", "n": 9}]', namespace => 'chat')});

# ---- a window is a read

value(q{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes'});
my $minutes = q{SELECT round(extract(epoch FROM session_ttl('s', 'chat')) / 60)};
is(value($minutes), '30', 'before');
value("BEGIN READ ONLY; $window; COMMIT");
is(value($minutes), '60', 'a window restarts the lifetime, in a READ ONLY transaction');
is(value(q{SELECT version FROM session_fetch('s', 'chat')}), '1', '.. and writes nothing');

# ---- a standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
wait_for_replay($node, $standby);
my $estimated = value($window);
is($standby->safe_psql('postgres', $window), $estimated, 'a standby returns the same window');
value(q{UPDATE session_namespaces SET token_path = '{n}' WHERE name = 'chat'});
wait_for_replay($node, $standby);
is(value($window), '3:9 4:9', 'tokens are at token_path');
is($standby->safe_psql('postgres', $window), '3:9 4:9', '.. on the standby, too');
isnt($estimated, '3:9 4:9', '.. and were estimated before');
$standby->stop;

# ---- dump and restore

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
run_ok('pg_dump', $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres');
value('CREATE DATABASE restored');
run_ok('psql', $node->installed_command('psql'), '-Xq', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-f', $dump, 'restored');
is(value($window, 'restored'), '3:9 4:9', 'token_path survives dump and restore');

leave_nothing($node);
done_testing();
