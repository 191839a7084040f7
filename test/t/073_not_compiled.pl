# No statement of the extension is compiled (JIT): its functions load no compiler in a backend in which
# that is allowed, as it is by default. It takes many times as long as the statement.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('compiled', conf => "jit = on\n");
my $library = $node->config_data('--pkglibdir') . '/llvmjit.so';

plan skip_all => 'the server has no compiler' if !-e $library;

my $psql = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $psql->query_safe('SELECT pg_backend_pid()');

# Is the compiler loaded in that backend?
sub is_loaded
{
	return slurp_file("/proc/$pid/maps") =~ /llvmjit/ ? 1 : 0;
}

$psql->query_safe($_) for (
	q{INSERT INTO session_namespaces (name, key_prefix, audit, owner_isolation) VALUES ('apart', 'apart:', true, true)},
	q{SELECT session_save('s', '{"n": 1}', owner => 'u'), session_append('s', '[{"m": 1}, {"m": 2}]')},
	q{SELECT session_save('s', '{"n": 1}', owner => 'u', namespace => 'apart')});
# twice: a statement is planned when it runs for the first time
for my $call ((
		q{session_get('s')}, q{count(*) FROM session_fetch('s')}, q{session_ttl('s')}, q{session_exists('s')}, q{session_touch('s', '2 hours')}, q{session_merge('s', '{"k": 1}')},
		q{count(*) FROM session_history('s')}, q{count(*) FROM session_list()}, q{count(*) FROM session_list(owner => 'u', filter => '{"n": 1}')},
		q{session_count()}, q{session_count(namespace => 'apart')},
		q{count(*) FROM session_list(id_prefix => 's', with_data => true)}, q{session_count(id_prefix => 's')}, q{session_clear('default', id_prefix => 'nothing')}, q{session_fork('s')}, q{session_share('s', 'bob', namespace => 'apart')},
		q{count(*) FROM session_members('s', 'apart')}, q{count(*) FROM session_stats}, q{session_purge()}, q{count(*) FROM session_history('s', after => 0, first => 1)}, q{count(*) FROM session_window('s', 100, 2)}, q{session_amend('s', 1, '{"m": 9}')}, q{session_compact('s', 1, '1')}, q{session_tail('s')}, q{session_pop('s', from_start => true)}, q{session_pop('s')}, q{session_trim('s', 1)},
		q{session_regenerate('s')}, q{session_save('s2', '{}', owner => 'u')}, q{session_delete('s2')}, q{session_delete_all('u')}, q{count(*) FROM session_export('u')}, q{session_forget('u')},
		q{session_hit('h', '1 hour')}, q{session_hit('h', NULL, by => -1)}, q{session_hit('h', NULL, by => 0)}, q{session_hit_reset('h')},
		q{session_clear('apart')}, q{session_health() IS NULL}, q{session_metrics() IS NULL}) x 2)
{
	# (that a session is gone the second time does not matter)
	$psql->query("SELECT $call");
	fail("$call loads the compiler"), last if is_loaded();
}
is(is_loaded(), 0, 'no function loads the compiler');

$psql->query('SET jit_above_cost = 0; SELECT count(*) FROM pg_class WHERE relname > $$a$$');
is(is_loaded(), 1, '.. which the test would detect');
$psql->quit;
leave_nothing($node);
done_testing();
