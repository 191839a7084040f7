# Access: every cell of the tables in docs/security.md, and the Redis accounts on that page.
# Functions, relations, types and settings are read from the catalogs, so that a new one without
# a row fails.
#
# Words
#	cell	what an actor (a column) gets from an object (a row): yes, no (42501), "-" (as if there
#			were nothing), or the kinds of rows that a grant reaches
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Utils;
use SessionStore;
use SessionRedis;
use Test::More;

my $page = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/security.md");
my $node = new_store('access');

sub lines
{
	return split /\n/, $node->safe_psql('postgres', $_[0]);
}

# The rows of the first table under a heading: [{column => cell}], by its header.
sub table_under
{
	my ($heading) = @_;
	my ($section) = $page =~ /^## \Q$heading\E\n(.*?)(?=^## |\z)/ms or die "no section $heading";
	my @rows = map { [ map { s/^ +| +$//gr } split /\|/, s/^\|//r ] } $section =~ /^(\|.*)\|$/mg;
	my @header = @{ shift @rows };
	my @table;

	shift @rows;
	for my $row (@rows)
	{
		last if @$row != @header;
		push @table, { map { $header[$_] => $row->[$_] } 0 .. $#header };
	}
	return @table;
}

# Compares what the page expects with what was found, cell by cell.
my ($cells, @wrong) = (0);

sub cell
{
	my ($where, $found, $expected) = @_;

	$cells++;
	push @wrong, "$where: $found instead of $expected" if !defined $expected || $found ne $expected;
	return;
}

sub cells_are
{
	my ($what) = @_;

	ok($cells > 0 && !@wrong, "$what ($cells cells)");
	diag(join "\n", @wrong) if @wrong;
	($cells, @wrong) = (0);
	return;
}

my $members = q{pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store' AND d.deptype = 'e'};

# ---- the scene

$node->safe_psql('postgres', <<'EOS');
CREATE ROLE nobody;
CREATE ROLE monitor IN ROLE pg_monitor;
CREATE ROLE app;
CREATE ROLE batch BYPASSRLS;
CREATE ROLE somebody;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app, batch;
INSERT INTO session_namespaces (name, cache, sliding, allowed_roles, owner_isolation, audit) VALUES
	('open', 'off', false, NULL, false, true), ('closed', 'off', false, '{somebody}', false, true), ('isolated', 'off', false, NULL, true, true);
-- the session that calls are about
SELECT session_append('s', '[{"m": 1}, {"m": 2}, {"m": 3}]', namespace => n), session_save('s', '{"n": 1}', owner => 'ann', namespace => n),
	session_share('s', 'ed', 'editor', n), session_share('s', 'vic', 'viewer', n) FROM unnest(ARRAY['open', 'closed', 'isolated']) n;
-- and one of which the turn is held
SELECT session_append('held', '{"m": 1}', namespace => n), session_save('held', '{}', owner => 'ann', namespace => n), session_share('held', 'ed', 'editor', n), session_share('held', 'vic', 'viewer', n)
FROM unnest(ARRAY['open', 'closed', 'isolated']) n;
UPDATE conversation_sessions SET turn = 7, turn_until = clock_timestamp() + interval '1 day', turn_holder = 'agent' WHERE session_id = 'held';
SELECT session_save('own', '{}', owner => 'x', namespace => n) FROM unnest(ARRAY['open', 'closed']) n;
SELECT session_hit('c', '1 day', namespace => n) FROM unnest(ARRAY['open', 'closed', 'isolated']) n;
SELECT session_save('own of ' || w, '{}', owner => w, namespace => 'isolated') FROM unnest(ARRAY['ann', 'ed', 'vic', 'sam', 'anon', 'bypass']) w;

-- What a role gets from a statement, under the claims of somebody; then it is undone.  Through an
-- EXECUTE of its own, so that it is not planned before.
CREATE FUNCTION attempt(who name, subject text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN subject IS NULL THEN '' ELSE jsonb_build_object('sub', subject)::text END, true);
	PERFORM set_config('role', who, true);
	EXECUTE statement INTO answer;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = coalesce(answer, '');
EXCEPTION
	WHEN SQLSTATE 'UNDO1' THEN
		RETURN SQLERRM;
	WHEN OTHERS THEN
		RETURN 'error ' || SQLSTATE || ' ' || SQLERRM;
END $$;
GRANT EXECUTE ON FUNCTION attempt(name, text, text) TO PUBLIC;
EOS

# ---- functions

# A call of each, about the session s; $ns, $own and $history stand for those of the column.
my %calls = (
	session_create => q{session_create('{}', namespace => $ns)},
	session_get => q{session_get('s', $ns)},
	session_get_many => q{(SELECT g.session_data FROM session_get_many('{s}', $ns) g)},
	session_fetch => q{(SELECT f.version FROM session_fetch('s', $ns) f)},
	session_exists => q{session_exists('s', $ns)},
	session_ttl => q{session_ttl('s', $ns)},
	session_history => q{(SELECT count(*) FROM session_history('s', namespace => $ns))},
	session_window => q{(SELECT count(*) FROM session_window('s', max_messages => 5, align => 'user', namespace => $ns))},
	session_tail => q{session_tail('s', $ns)},
	session_members => q{(SELECT count(*) FROM session_members('s', $ns))},
	session_count => q{session_count(id_like => 's', namespace => $ns)},
	session_list => q{(SELECT count(*) FROM session_list(id_like => 's', namespace => $ns))},
	session_fork => q{session_fork('s', 'copy', namespace => $ns)},
	session_save => q{session_save('s', '{}', namespace => $ns)},
	session_merge => q{session_merge('s', '{"x": 1}', namespace => $ns)},
	session_incr => q{session_incr('s', '{n}', namespace => $ns)},
	session_append => q{session_append('s', '{"m": 4}', namespace => $ns)},
	session_touch => q{session_touch('s', '2 hours', $ns)},
	session_pop => q{session_pop('s', namespace => $ns)},
	session_trim => q{session_trim('s', 1, $ns)},
	session_replace_tail => q{session_replace_tail('s', 1, '{"m": 8}', namespace => $ns)},
	session_amend => q{session_amend('s', 1, '{"m": 9}', $ns)},
	session_turn_begin => q{session_turn_begin('s', namespace => $ns)},
	session_turn_renew => q{session_turn_renew('held', 7, namespace => $ns)},
	session_turn_end => q{session_turn_end('held', 7, $ns)},
	session_turn => q{(SELECT t.holder FROM session_turn('held', $ns) t)},
	session_compact => q{session_compact('s', 1, '"1"', $ns)},
	session_delete => q{session_delete('s', $ns)},
	session_take => q{session_take('s', $ns)},
	session_regenerate => q{session_regenerate('s', $ns)},
	session_share => q{session_share('s', 'sam', namespace => $ns)},
	session_accept => q{session_accept('s', $ns)},
	session_unshare => q{session_unshare('s', CASE WHEN current_setting('request.jwt.claims') ~ 'vic' THEN 'ed' ELSE 'vic' END, $ns)},
	session_absorb => q{session_absorb($own, 's', $ns) + 1},
	session_delete_all => q{session_delete_all('ann', namespace => $ns)},
	session_clear => q{session_clear($ns, 's')},
	session_export => q{(SELECT count(*) FROM session_export('ann', namespace => $ns))},
	session_forget => q{session_forget('ann', namespace => $ns) -> 'sessions'},
	session_hit => q{(SELECT h.hits FROM session_hit('c', '1 hour', namespace => $ns) h)},
	session_hit_reset => q{session_hit_reset('c', $ns)},
	session_may => q{session_may($ns, 'ann', $history, 'viewer')},
	session_alive => q{session_alive($ns, 's', clock_timestamp(), '2100-01-01', NULL)},
	session_purge => q{session_purge(0, $ns) IS NOT NULL},
	session_health => q{session_health()},
	session_metrics => q{session_metrics()},
	session_cache_sync => q{session_cache_sync('0') IS NOT NULL},
	session_cache_verify => q{session_cache_verify()},
	session_cache_flush => q{session_cache_flush()},
	session_cache_takeover => q{session_cache_takeover()},
	session_json_encode => q{session_json_encode('"\u0000"')},
	session_json_decode => q{session_json_decode('1')},
	session_contains => q{session_contains('{"a": 1}', '{}')},
	session_effective_expiry => q{session_effective_expiry($ns, 's', '2100-01-01')},
	session_store_wake => q{session_store_wake() IS NOT NULL});
# those of triggers are one row; when called as functions they all raise the same error
my @trigger_functions = lines("SELECT p.proname FROM $members JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE p.prorettype = 'trigger'::regtype");
$calls{$_} = "$_()" for @trigger_functions;

# The columns: role, subject, namespace.
my %actors = (
	'no grant' => [ 'nobody', undef, 'open' ],
	'pg_monitor' => [ 'monitor', undef, 'open' ],
	'EXECUTE, open' => [ 'app', undef, 'open' ],
	'EXECUTE, closed' => [ 'app', undef, 'closed' ],
	'owner' => [ 'app', 'ann', 'isolated' ],
	'editor' => [ 'app', 'ed', 'isolated' ],
	'viewer' => [ 'app', 'vic', 'isolated' ],
	'stranger' => [ 'app', 'sam', 'isolated' ],
	'no claims' => [ 'app', undef, 'isolated' ],
	'BYPASSRLS' => [ 'batch', undef, 'isolated' ]);
# not on the page: the result is that of BYPASSRLS
my ($superuser) = lines('SELECT current_user');

sub call_by
{
	my ($name, $role, $subject, $ns) = @_;
	my $call = $calls{$name};
	my $who = $role eq 'batch' || $role eq $superuser ? 'bypass' : $subject // 'anon';
	my $own = $ns eq 'isolated' ? "own of $who" : 'own';

	$call =~ s/\$ns/'$ns'/g;
	$call =~ s/\$own/'$own'/g;
	$call =~ s/\$history/(SELECT id FROM history_of WHERE namespace = '$ns')/g;
	return sprintf 'SELECT attempt(%s, %s, %s)', map { defined $_ ? "\$q\$$_\$q\$" : 'NULL' } $role, $subject, "SELECT ($call)::text";
}

# What a result means.  There is no Redis, and triggers are not called: both errors mean that the
# privilege was there.
sub meaning
{
	my ($answer) = @_;

	return 'no' if $answer =~ /^error 42501/;
	return 'yes' if $answer =~ /^error (55000|39P01|0A000)/;
	return $answer if $answer =~ /^error/;
	return $answer eq '' || $answer =~ /^(?:0|f|false|\[\])$/ ? '-' : 'yes';
}

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE history_of AS SELECT namespace, history_id AS id FROM conversation_sessions WHERE session_id = 's';
GRANT SELECT ON history_of TO PUBLIC;
EOS
my %expected;
for my $row (table_under('Functions'))
{
	for my $name (map { $_ eq 'functions of triggers' ? @trigger_functions : $_ } split /, /, $row->{function})
	{
		$expected{$name} = $row;
	}
}
my @functions = lines("SELECT p.proname FROM $members JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid ORDER BY 1");
is(join(' ', sort keys %expected), join(' ', @functions), 'docs/security.md has each function, and no other');
is(join(' ', sort keys %calls), join(' ', @functions), '.. and so has this test');
my (@queries, @asked);
for my $name (@functions)
{
	for my $column (sort keys %actors, '')
	{
		my @actor = $column eq '' ? ($superuser, undef, 'isolated') : @{ $actors{$column} };

		push @queries, call_by($name, @actor);
		push @asked, [ "$name for " . ($column eq '' ? 'the superuser' : $column), $expected{$name}{ $column eq '' ? 'BYPASSRLS' : $column } ];
	}
}
my @answers = split /\x02\n?/, $node->safe_psql('postgres', join '', map { "$_ || E'\\x02';\n" } @queries);
is(scalar @answers, scalar @asked, 'each call has a result');
cell($asked[$_][0], meaning($answers[$_]), $asked[$_][1]) for 0 .. $#asked;
cells_are('functions');
is($node->safe_psql('postgres', q{SELECT count(*) FROM session_events WHERE event NOT IN ('created', 'shared')}), 0, 'none of these calls had an effect');

# ---- relations

# Rows by the reason for which they may be hidden: where they are, and how one is inserted.
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE granted;
DELETE FROM conversation_sessions; DELETE FROM conversation_history; DELETE FROM conversation_history_ended; DELETE FROM session_members; DELETE FROM session_events; DELETE FROM session_samples;
CREATE TABLE border (label text, namespace text, owner text);
INSERT INTO border VALUES ('open', 'open', 'ann'), ('closed', 'closed', 'ann'), ('mine', 'isolated', 'ann'), ('shared', 'isolated', 'bob'), ('other', 'isolated', 'bob');
SELECT session_append(label, '{"m": 1}', namespace => namespace), session_save(label, '{}', owner => owner, namespace => namespace), session_share(label, 'of ' || label, 'viewer', namespace) FROM border;
SELECT session_share('shared', 'ann', 'viewer', 'isolated');
INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
SELECT n, clock_timestamp(), false, 1, 0, 0, 0, 0, 10, 10, 0 FROM unnest(ARRAY['open', 'closed', 'isolated']) n ON CONFLICT DO NOTHING;
INSERT INTO session_orphans (history_id) VALUES (gen_random_uuid());
INSERT INTO session_operations (keep_until, history_id, result, namespace, operation_id, operation_hash) SELECT 'infinity', gen_random_uuid(), 1, n, 'op', '' FROM unnest(ARRAY['open', 'closed', 'isolated']) n;
INSERT INTO session_cache_claims (system_identifier, database_oid, data_directory, timeline, redis, moved, tokens, epochs) VALUES (1, 1, 'x', 1, 'x', false, '{1}', '{1}');
INSERT INTO conversation_history_ended (namespace, history_id) SELECT n, gen_random_uuid() FROM unnest(ARRAY['open', 'closed', 'isolated']) n;
GRANT SELECT ON border TO PUBLIC;
EOS
# For each relation: the expression of a row's label, a column that can be set to itself, and what an
# INSERT of a label writes.
my $by_namespace = q{CASE namespace WHEN 'isolated' THEN 'other' ELSE namespace END};
my %relations = (
	conversation_sessions => [ 'session_id', 'session_data', q{(namespace, session_id, session_data, owner_id) SELECT namespace, 'new', '{}', owner FROM border} ],
	conversation_messages => [ 'session_id', 'seq', q{(namespace, session_id, seq, message) SELECT namespace, 'new', 1, '{}' FROM border} ],
	conversation_history => [ q{'open'::text}, 'message', q{(history_id, seq, message) SELECT gen_random_uuid(), 1, '{}' FROM border} ],
	conversation_history_ended => [ $by_namespace, 'from_seq', q{(namespace, history_id) SELECT namespace, gen_random_uuid() FROM border} ],
	session_members => [ q{substr(nullif(member, 'ann'), 4)}, 'role', q{(history_id, member) SELECT gen_random_uuid(), 'x' FROM border} ],
	session_events => [ 'session_id', 'detail', q{(namespace, session_id, owner_id, event) SELECT namespace, 'new', owner, 'created' FROM border} ],
	session_namespaces => [ q{CASE name WHEN 'isolated' THEN 'other' ELSE name END}, 'ttl', q{(name) SELECT label || ' new' FROM border} ],
	session_operations => [ $by_namespace, 'result', q{(keep_until, history_id, result, namespace, operation_id, operation_hash) SELECT now(), gen_random_uuid(), 1, namespace, 'op', '' FROM border} ],
	session_counters => [ $by_namespace, 'hits', q{(resets_at, hits, namespace, counter_id) SELECT now(), 1, namespace, 'new ' || label FROM border} ],
	session_orphans => [ q{'open'::text}, 'seen_at', q{(history_id) SELECT gen_random_uuid() FROM border} ],
	session_cache_claims => [ q{'open'::text}, 'timeline', q{(system_identifier, database_oid, data_directory, timeline, redis, moved, tokens, epochs) SELECT 2, 2, 'x', 1, 'x', false, '{1}', '{1}' FROM border} ],
	session_samples => [ $by_namespace, 'sessions', q{(namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb) SELECT label || ' new', now(), false, 1, 1, 1, 1, 1, 1, 1, 1 FROM border} ],
	session_stats => [ $by_namespace, 'sessions', q{(namespace) SELECT namespace FROM border} ]);
my @labels = qw(open mine shared closed other);
my %rows = map { my $row = $_; map { $_ => $row } split /, /, $row->{relation} } table_under('Tables and views');
my @relations = lines("SELECT c.relname FROM $members JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid WHERE c.relkind NOT IN ('i', 'c', 't') ORDER BY 1");

is(join(' ', sort keys %rows), join(' ', @relations), 'docs/security.md has each relation, and no other');
is(join(' ', sort keys %relations), join(' ', @relations), '.. and so has this test');

sub attempt
{
	my ($role, $subject, $statement) = @_;

	return $node->safe_psql('postgres', sprintf 'SELECT attempt(%s, %s, %s)', map { defined $_ ? "\$q\$$_\$q\$" : 'NULL' } $role, $subject, $statement);
}

# The labels that a verb reaches, as the page writes them.
sub reached
{
	my ($role, $relation, $verb) = @_;
	my ($label, $column, $insert) = @{ $relations{$relation} };
	my %statement = (
		SELECT => "SELECT string_agg(DISTINCT l, ' ') FROM (SELECT $label AS l FROM $relation) s",
		UPDATE => "WITH done AS (UPDATE $relation SET $column = $column RETURNING $label AS l) SELECT string_agg(DISTINCT l, ' ') FROM done",
		DELETE => "WITH done AS (DELETE FROM $relation RETURNING $label AS l) SELECT string_agg(DISTINCT l, ' ') FROM done");
	my %found;

	if ($verb eq 'INSERT')
	{
		for my $l (@labels)
		{
			my $answer = attempt($role, 'ann', "WITH done AS (INSERT INTO $relation $insert WHERE label = '$l' RETURNING 1) SELECT 'done' FROM done");

			return $answer if $answer =~ /^error (?!42501|55000)/;
			$found{$l} = 1 if $answer eq 'done';
		}
		return %found ? join(', ', grep { $found{$_} } @labels) : 'no';
	}
	my $answer = attempt($role, 'ann', $statement{$verb});
	return 'no' if $answer =~ /^error (42501|55000)/;
	return $answer if $answer =~ /^error/;
	$found{$_} = 1 for split / /, $answer;
	return 'everything' if $found{open} && $found{closed} && $found{other};
	return join(', ', grep { $found{$_} } @labels) || 'nothing';
}

for my $relation (grep { $relations{$_} } @relations)
{
	my $view = $relation eq 'session_stats' || $relation eq 'conversation_messages';

	for my $verb (qw(SELECT INSERT UPDATE DELETE))
	{
		# an EXECUTE on every function gives no table
		cell("$verb on $relation without a grant", reached($_, $relation, $verb), $rows{$relation}{'no grant'}) for qw(nobody app);
		cell("$verb on $relation by pg_monitor", reached('monitor', $relation, $verb), $verb eq 'SELECT' ? $rows{$relation}{pg_monitor} : 'no');
		$node->safe_psql('postgres', "GRANT $verb ON $relation TO granted");
		$node->safe_psql('postgres', "GRANT SELECT ON $relation" . ($relation eq 'session_members' ? ', conversation_sessions' : '') . ' TO granted');
		cell("$verb on $relation", reached('granted', $relation, $verb), $rows{$relation}{$verb});
		$node->safe_psql('postgres', 'DROP OWNED BY granted');
	}
	next if $view;
	for my $do ([ TRUNCATE => "TRUNCATE $relation" ], [ REFERENCES => "ALTER TABLE referrer ADD FOREIGN KEY (n) REFERENCES $relation" ],
		[ TRIGGER => "CREATE TRIGGER t BEFORE INSERT ON $relation FOR EACH ROW EXECUTE FUNCTION fires()" ])
	{
		my ($privilege, $statement) = @$do;

		# a wrong key is refused after the check of the privilege, a table without a key before
		my $run = sub {
			my $answer = attempt('granted', undef, "DO \$do\$BEGIN EXECUTE \$e\$$statement\$e\$; END\$do\$");

			$answer = 'error 42501' if $answer =~ /no primary key/ && $node->safe_psql('postgres', "SELECT has_table_privilege('granted', '$relation', '$privilege')") eq 'f';
			return $answer =~ /^error 42501/ ? 'no' : 'yes';
		};
		$node->safe_psql('postgres', 'CREATE SCHEMA IF NOT EXISTS granted; CREATE TABLE IF NOT EXISTS granted.referrer (n int); ALTER TABLE granted.referrer OWNER TO granted; GRANT USAGE, CREATE ON SCHEMA granted TO granted;
			CREATE OR REPLACE FUNCTION granted.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$; ALTER FUNCTION granted.fires() OWNER TO granted');
		$statement =~ s/referrer/granted.referrer/;
		$statement =~ s/fires/granted.fires/;
		cell("$privilege on $relation without a grant", $run->(), 'no');
		$node->safe_psql('postgres', "GRANT $privilege ON $relation TO granted");
		cell("$privilege on $relation", $run->(), 'yes');
		$node->safe_psql('postgres', 'DROP OWNED BY granted; DROP SCHEMA IF EXISTS granted CASCADE');
	}
}
cells_are('relations');
$node->safe_psql('postgres', 'DELETE FROM session_cache_claims');

# a grant on columns reaches these columns
$node->safe_psql('postgres', 'GRANT SELECT (session_id, namespace), UPDATE (session_data) ON conversation_sessions TO granted');
cell('a granted column', attempt('granted', 'ann', q{SELECT count(session_id) FROM conversation_sessions}), 3);
cell('another column', attempt('granted', 'ann', q{SELECT count(session_data) FROM conversation_sessions}) =~ /^error 42501/ ? 'no' : 'yes', 'no');
cell('an update of it', attempt('granted', 'ann', q{WITH done AS (UPDATE conversation_sessions SET session_data = '1' RETURNING session_id) SELECT count(*) FROM done}), 2);
cell('an update of another', attempt('granted', 'ann', q{WITH done AS (UPDATE conversation_sessions SET ttl = '1 s' RETURNING session_id) SELECT count(*) FROM done}) =~ /^error 42501/ ? 'no' : 'yes', 'no');
$node->safe_psql('postgres', 'DROP OWNED BY granted');
cells_are('columns');

# ---- types

$node->safe_psql('postgres', 'CREATE SCHEMA types; GRANT CREATE, USAGE ON SCHEMA types TO PUBLIC');
for my $type (lines("SELECT t.typname FROM $members JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid JOIN pg_type t ON t.oid = c.reltype
	UNION SELECT t.typname FROM $members JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid AND t.typelem = 0 ORDER BY 1"))
{
	my $make = "DO \$do\$BEGIN EXECUTE 'CREATE TABLE types.t (a public.$type)'; END\$do\$";

	cell("$type for $_", attempt($_, undef, $make) =~ /^error 42501/ ? 'no' : 'yes', 'no') for qw(nobody app monitor batch);
	cell("$type of the superuser", attempt($superuser, undef, $make) =~ /^error 42501/ ? 'no' : 'yes', 'yes');
	$node->safe_psql('postgres', "GRANT USAGE ON TYPE public.$type TO granted");
	cell("$type with a grant", attempt('granted', undef, $make) =~ /^error 42501/ ? 'no' : 'yes', 'yes');
	$node->safe_psql('postgres', 'DROP OWNED BY granted');
}
cells_are('types');

# pg_upgrade grants it again, and session_health() says what to do
$node->safe_psql('postgres', q{UPDATE pg_type SET typacl = NULL WHERE typname IN ('conversation_sessions', 'session_stats')});
my ($remedy) = $node->safe_psql('postgres', q{SELECT session_health() ->> 'warnings'}) =~ /run (REVOKE USAGE ON TYPE public.conversation_sessions, public.session_stats FROM PUBLIC)/;
ok(defined $remedy, 'session_health() reports types with default privileges');
$node->safe_psql('postgres', $remedy // '');
unlike($node->safe_psql('postgres', q{SELECT session_health() ->> 'warnings'}), qr/USAGE/, '.. and is content when they are closed');

# pg_dump does not dump what was revoked there
my ($dumped, $complaints);
ok(IPC::Run::run([ $node->installed_command('pg_dump'), '-d', $node->connstr('postgres'), '-f', PostgreSQL::Test::Utils::tempdir() . '/dump' ], '>', \$dumped, '2>', \$complaints), 'pg_dump');
is($complaints, '', '.. complains of nothing');

# ---- settings

my %settings = map { $_->{setting} => $_ } table_under('Settings');
my @settings = lines(q{SELECT name FROM pg_settings WHERE name LIKE 'session_store.%' ORDER BY 1});
is(join(' ', sort keys %settings), join(' ', @settings), 'docs/security.md has each setting, and no other');
for my $setting (@settings)
{
	my $value = $node->safe_psql('postgres', "SELECT quote_literal(boot_val) FROM pg_settings WHERE name = '$setting'");
	my $set = attempt('app', undef, "SELECT set_config('$setting', $value, true)");
	my $read = attempt('app', undef, "SELECT current_setting('$setting')");

	cell("SET $setting", $set =~ /^error (42501|55P02)/ ? 'no' : $set =~ /^error/ ? $set : 'yes', $settings{$setting}{'SET by an application'});
	cell("SHOW $setting", $read =~ /^error 42501/ ? 'no' : $read =~ /^error/ ? $read : 'yes', $settings{$setting}{'read by an application'});
	cell("SHOW $setting by pg_monitor", attempt('monitor', undef, "SELECT current_setting('$setting')") =~ /^error/ ? 'no' : 'yes', 'yes');
}
cells_are('settings');

# ---- in a schema whose default privileges favor a role the extension grants nothing, either

$node->safe_psql('postgres', 'CREATE DATABASE favoured');
$node->safe_psql('favoured', <<'EOS');
CREATE SCHEMA sessions;
GRANT USAGE ON SCHEMA sessions TO nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA sessions GRANT ALL ON TABLES TO nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA sessions GRANT ALL ON FUNCTIONS TO nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA sessions GRANT ALL ON TYPES TO nobody;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO nobody;
CREATE EXTENSION session_store SCHEMA sessions;
EOS
is($node->safe_psql('favoured', <<'EOS'), '', 'default privileges grant nothing');
SELECT string_agg(name, ' ' ORDER BY name) FROM (
	SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'sessions'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('nobody', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
	UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'sessions'::regnamespace AND proname NOT IN ('session_may', 'session_alive') AND has_function_privilege('nobody', oid, 'EXECUTE')
	UNION ALL SELECT oid::regtype::text FROM pg_type WHERE typnamespace = 'sessions'::regnamespace AND has_type_privilege('nobody', oid, 'USAGE')) n
EOS

# ---- the examples of the page, in its order

$node->safe_psql('postgres', 'CREATE DATABASE examples');
create_extension($node, 'examples');
for my $example ($page =~ /^```sql\n(.*?)^```/msg)
{
	my ($rc, $out, $err) = $node->psql('examples', $example, on_error_stop => 1);

	is($rc, 0, 'example: ' . ($example =~ /^(.*)$/m)[0]) or diag($err);
}
# the claims of the page about them
sub in_examples
{
	my ($role, $subject, $statement) = @_;

	return [ $node->psql('examples', "SET ROLE $role; SET request.jwt.claims = '{\"sub\": \"$subject\"}'; $statement") ]->[1];
}
$node->safe_psql('examples', 'CREATE ROLE reader; GRANT EXECUTE ON FUNCTION my_session TO reader; GRANT SELECT ON my_sessions TO reader; GRANT SELECT ON conversation_sessions TO reader;');
is(in_examples('reader', 'ann', q{SELECT my_session('of ann'), my_session('of bob')}), '{"a": 1}|', 'a SECURITY DEFINER function of a role that isolation binds');
$node->safe_psql('examples', "ALTER FUNCTION my_session(text) OWNER TO $superuser");
is(in_examples('reader', 'ann', q{SELECT my_session('of ann'), my_session('of bob')}), '{"a": 1}|{"b": 1}', "a superuser's shows everything, as the page says");
is(in_examples('reader', 'ann', q{SELECT string_agg(session_id, ' ') FROM my_sessions}), 'of ann', 'a view with security_invoker');
$node->safe_psql('examples', 'ALTER VIEW my_sessions RESET (security_invoker)');
is(in_examples('reader', 'ann', q{SELECT string_agg(session_id, ' ' ORDER BY session_id) FROM my_sessions}), 'of ann of bob', 'one without shows everything, as the page says');
is(in_examples('shop', 'ann', q{SELECT session_save('x', '{}', namespace => 'shop')}), '1', 'the shop may save');
is($node->safe_psql('examples', q{SELECT has_function_privilege('shop', 'session_clear(text, text, text)', 'EXECUTE')}), 'f', '.. and may not clear');
$node->safe_psql('postgres', 'DROP DATABASE examples');
$node->safe_psql('postgres', 'DROP DATABASE favoured');

# ---- Redis with the accounts of the page and no others

my $redis = new_redis();
my $secret = 'p455w0rd';
my $admin = $redis->client;
my @accounts = $page =~ /^    (ACL SETUSER .*)$/mg;
my ($pusher_account) = grep { /SETUSER session_store/ } @accounts;
is(scalar @accounts, 5, 'the accounts of the page');
for my $account (@accounts)
{
	is($admin->cmd(split / /, $account =~ s/PASSWORD/$secret/r), 'OK', $account =~ s/ >.*//r);
}
$redis->{params}{password} = $secret;

# from now on, with connections that had to log in
sub as_account { return $redis->client(user => $_[0], password => $secret); }
sub answer_of
{
	my ($client, @command) = @_;
	my $answer = eval { $client->cmd(@command) };

	return $@ =~ /^redis says: (\w+)/ ? $1 : $@ ne '' ? $@ : defined $answer ? 'yes' : 'nil';
}
$admin = as_account('admin');
$redis->{client} = $admin;
$admin->cmd('ACL', 'LOG', 'RESET');
$admin->cmd('CONFIG', 'RESETSTAT');
PostgreSQL::Test::Utils::append_to_file($node->data_dir . '/redis_password', $secret);
chmod 0600, $node->data_dir . '/redis_password';
$node->safe_psql('postgres', <<'EOS');
DELETE FROM conversation_sessions; DELETE FROM session_namespaces;
INSERT INTO session_namespaces (name, key_prefix, cache, sliding, tail_prefix) VALUES ('shop', 'shop:', 'all', false, 'shop-tail:'), ('team', 'team[1]*:', 'all', false, NULL);
EOS
set_conf($node, redis_password_file => 'redis_password', redis_url => $redis->url(user => 'session_store'));
wait_for($node, q{SELECT session_cache_sync('1 s')}, 'the cache runs under its account', timeout => 20);

# everything that the pusher does: copies, tails, touches, logouts, the removal of a prefix,
# verification, takeover
$node->safe_psql('postgres', $_) for (
	q{SELECT session_save('a', '{"a": 1}', namespace => 'shop'), session_append('a', '{"m": 1}', namespace => 'shop'), session_save('b', '{}', namespace => 'shop'), session_save('t', '{"t": 1}', namespace => 'team'), session_save('d', '{}')},
	q{SELECT session_cache_sync()}, q{SELECT session_touch('a', '2 hours', 'shop')}, q{SELECT session_cache_sync()}, q{SELECT session_delete('b', 'shop')}, q{SELECT session_cache_verify()}, q{SELECT session_cache_flush('shop')},
	q{SELECT session_save('a', '{"a": 2}', namespace => 'shop')}, q{SELECT session_cache_sync()}, q{SELECT session_cache_takeover()}, q{SELECT session_save('a', '{"a": 3}', namespace => 'shop'), session_save('t', '{"t": 2}', namespace => 'team'), session_append('a', '{"m": 2}', namespace => 'shop')},
	q{SELECT session_cache_sync('10 s')});
is(answer_of(as_account('shop'), 'GET', 'shop:a'), 'yes', 'copies are there');
is_deeply($admin->cmd('ACL', 'LOG'), [], 'Redis refused the pusher nothing');
# the server's own counters of commands, minus those of the test's connections
wait_for($node, q{SELECT (session_health() #>> '{cache,redis_memory_bytes}')::bigint > 0}, 'it asked for the memory', timeout => 30);
my %used = map { $_ => 1 } $admin->cmd('INFO', 'commandstats') =~ /^cmdstat_([^:]+):calls=[1-9]/mg;
my %granted = map { $_ => 1 } grep { !/^@/ } $pusher_account =~ /\+(\S+)/g;
delete $used{$_} for qw(auth acl|log acl|setuser config|resetstat config acl ping multi hello keys echo monitor get);
is(join(' ', sort keys %used), join(' ', sort keys %granted), 'the pusher has the commands that it uses, and no others');

# commands that its account may not use
my $pusher = as_account('session_store');
is(answer_of($pusher, @$_), 'NOPERM', "the pusher: @$_") for [ 'FLUSHALL' ], [ 'KEYS', '*' ], [ 'SWAPDB', 0, 1 ], [ 'CONFIG', 'GET', '*' ], [ 'SET', 'other:x', 1 ], [ 'GET', 'shop:a' ], [ 'MGET', 'other:x' ], [ 'ACL', 'LIST' ], [ 'MGET', 'team1x:t' ],
  [ 'SUBSCRIBE', 'c' ], [ 'PUBLISH', 'c', 'x' ], [ 'SCRIPT', 'FLUSH' ], [ 'CLIENT', 'LIST' ], [ 'SHUTDOWN' ], [ 'EVAL', 'return 1', 0 ];

# readers: their own prefix and the lease, read-only
$admin->cmd('SET', 'team1x:t', '"of another namespace, which the bare glob matches"', 'PX', 60000);
my %reads = (shop => { 'shop:a' => 'yes', 'shop-tail:a' => 'yes', 'session_store:lease' => 'yes', 'team[1]*:t' => 'NOPERM', 'session:d' => 'NOPERM', 'session_store:guard' => 'NOPERM', 'team1x:t' => 'NOPERM' },
	team => { 'shop:a' => 'NOPERM', 'session_store:lease' => 'yes', 'team[1]*:t' => 'yes', 'session:d' => 'NOPERM', 'session_store:guard' => 'NOPERM', 'team1x:t' => 'NOPERM' });
for my $account (sort keys %reads)
{
	my $client = as_account($account);

	for my $key (sort keys %{ $reads{$account} })
	{
		my $found = answer_of($client, 'GET', $key);

		# the lease is there and then not
		cell("GET $key by $account", $key =~ /lease/ && $found eq 'nil' ? 'yes' : $found, $reads{$account}{$key});
		cell("@$_ by $account", answer_of($client, @$_), 'NOPERM') for [ 'SET', $key, 'x' ], [ 'DEL', $key ], [ 'EXPIRE', $key, 1 ], [ 'TTL', $key ], [ 'GETDEL', $key ];
		cell("strong read of $key by $account", answer_of($client, 'MGET', 'session_store:lease', $key), $reads{$account}{$key});
	}
	cell("@$_ by $account", answer_of($client, @$_), 'NOPERM') for [ 'KEYS', '*' ], [ 'SCAN', 0 ], [ 'FLUSHALL' ], [ 'RANDOMKEY' ], [ 'DBSIZE' ], [ 'INFO' ], [ 'CONFIG', 'GET', '*' ], [ 'MONITOR' ], [ 'ACL', 'LIST' ], [ 'EVAL', 'return 1', 0 ],
	  [ 'SELECT', 1 ], [ 'CLIENT', 'LIST' ], [ 'SUBSCRIBE', 'c' ], [ 'SCRIPT', 'LOAD', 'return 1' ];
}
# a client that did not log in
{
	local $redis->{params}{password};
	my $stranger = $redis->client;

	cell("@$_ without an account", answer_of($stranger, @$_), 'NOAUTH') for [ 'GET', 'shop:a' ], [ 'KEYS', '*' ], [ 'FLUSHALL' ], [ 'INFO' ], [ 'PING' ];
	cell('AUTH default', answer_of($stranger, 'AUTH', 'default', 'x'), 'WRONGPASS');
	cell('AUTH', answer_of($stranger, 'AUTH', 'x'), 'ERR');
}
cells_are('Redis');
$admin->cmd('DEL', 'team1x:t');

$node->safe_psql('postgres', 'DROP OWNED BY nobody, monitor, app, batch, somebody, granted');
sync_cache($node);
$redis->{params}{password} = $secret;
{
	no warnings 'redefine';
	local *SessionRedis::client = sub { return $admin };
	leave_no_redis($node, $redis);
}
done_testing();
