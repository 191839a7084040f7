# The lists of columns in src/table/columns.h are what the install script creates.  Tables that are
# altered while a call waits for them: the call raises an error or works, and never misreads a column.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SessionStore;
use Test::More;

my $node = new_store('altered', conf => <<'EOC');
session_store.purge_interval = 0
autovacuum = off
restart_after_crash = off
EOC

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, key_prefix, audit, audit_saves) VALUES ('audited', 'audited:', true, true);
INSERT INTO session_namespaces (name, key_prefix, owner_isolation, max_sessions_per_owner, hash_keys) VALUES ('apart', 'apart:', true, 3, true);
SELECT session_save('s', '{"n": 1}', owner => 'u'), session_append('s', '[{"m": 1}, {"m": 2}, {"m": 3}]');
SELECT session_save('d', '{}', namespace => 'audited'), session_save('gone', '{}', ttl => '1 ms');
SELECT session_append('gone2', '{"m": 1}'), session_delete('gone2');
SELECT session_share('s', 'friend');
INSERT INTO session_samples VALUES ('seen', now(), false, 1, 2, 3, 4, 5, 6, 7, 8);
EOS

# The lists in src/table/columns.h are what the install script creates: each table, and each column
# with its number, name, type and NOT NULL.
{
	my $header = slurp_file("$FindBin::RealBin/../../src/table/columns.h");
	my @listed;

	while ($header =~ /^#define SS_([A-Z_]+)\(COLUMN\)((?:.*\\\n)+.*)/mg)
	{
		my ($table, $columns, $number) = (lc $1, $2, 0);

		push @listed, join(' ', $table, ++$number, $1, $2, $3)
		  while $columns =~ /COLUMN\(\w+,\s+"(\w+)",\s+(\w+),\s+SS_(\w+)\)/g;
	}
	my @created = split /\n/, value(<<'EOS');
SELECT c.relname, a.attnum, a.attname,
	CASE WHEN t.typname LIKE '\_%' THEN upper(substr(t.typname, 2)) || 'ARRAYOID' ELSE upper(t.typname) || 'OID' END,
	CASE WHEN (c.relname, a.attname) IN (('conversation_history_ended', 'ended_at'), ('session_events', 'event_id'))
		THEN 'UNCHECKED' WHEN a.attnotnull THEN 'NOT_NULL' ELSE 'NULLABLE' END
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store'
JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND c.relkind = 'r'
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 JOIN pg_type t ON t.oid = a.atttypid
ORDER BY c.relname, a.attnum
EOS
	tr/|/ / foreach @created;
	is(join("\n", sort @listed), join("\n", sort @created),
		'src/table/columns.h lists the tables and columns that the install script creates');
	cmp_ok(scalar @created, '>', 70, '.. and there are many of them');
}

# Each table that C code reads, with ways to alter it and the calls that read it.
my %sessions = (
	'ttl is a bigint' => 'ALTER COLUMN ttl DROP DEFAULT, ALTER COLUMN ttl TYPE int8 USING 12345',
	'session_data is a bigint' => 'ALTER COLUMN session_data TYPE int8 USING 12345',
	'owner_id is a bigint' => 'ALTER COLUMN owner_id TYPE int8 USING 12345',
	'history_id is a bigint' => 'ALTER COLUMN history_id TYPE int8 USING 12345',
	'summary is a bigint' => 'ALTER COLUMN summary TYPE int8 USING 12345',
	'summary_up_to is a text' => 'ALTER COLUMN summary_up_to TYPE text USING \'x\'',
	'ttl is gone' => 'DROP COLUMN ttl CASCADE',
	'ttl has another name' => 'RENAME COLUMN ttl TO t',
	'session_data may be NULL, and is' => 'ALTER COLUMN session_data DROP NOT NULL',
	'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
);
my @calls = (
	q{session_get('s')}, q{(SELECT version FROM session_fetch('s'))}, q{session_save('s', '{"n": 2}')}, q{session_merge('s', '{"n": 3}')},
	q{session_incr('s', '{n}')}, q{session_touch('s', '2 hours')}, q{session_delete('d', 'audited')}, q{session_append('s', '{"m": 4}')},
	q{(SELECT count(*) FROM session_history('s'))}, q{session_amend('s', 1, '{"m": 9}')}, q{session_compact('s', 1, '"1"')}, q{session_tail('s')}, q{(SELECT count(*) FROM session_window('s', 100))}, q{session_pop('s')}, q{session_trim('s', 1)}, q{session_fork('s')},
	q{session_absorb('d', 's')}, q{session_share('s', 'x')}, q{session_unshare('s', 'x')}, q{(SELECT count(*) FROM session_members('s'))},
	q{session_regenerate('s')}, q{session_count()}, q{(SELECT count(*) FROM session_list())}, q{session_delete_all('u')},
	q{(SELECT count(*) FROM session_export('u'))}, q{session_forget('u')},
	q{session_clear('audited')}, q{session_purge()}, q{session_exists('s')}, q{session_ttl('s')}, q{session_health() IS NULL},
	q{session_metrics() IS NULL}, q{session_create('{}', namespace => 'audited')}, q{session_create('{}', owner => 'u', namespace => 'apart')},
	q{session_may('apart', 'u', gen_random_uuid(), 'editor')},
);
my %tables = (
	conversation_sessions => [ \%sessions, \@calls ],
	session_namespaces => [ {
			'ttl is a bigint' => 'ALTER COLUMN ttl DROP DEFAULT, ALTER COLUMN ttl TYPE int8 USING 12345',
			'cache is a bigint' => 'DROP CONSTRAINT session_namespaces_cache_check, ALTER COLUMN cache DROP DEFAULT, ALTER COLUMN cache TYPE int8 USING 12345',
			'allowed_roles is a text' => 'ALTER COLUMN allowed_roles TYPE text USING \'x\'',
			'durability is gone' => 'DROP COLUMN durability',
			'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
		}, [ q{session_get('s', 'audited')}, q{session_save('s', '{}', namespace => 'audited')}, q{session_delete('d', 'audited')},
			q{session_may('audited')}, q{session_purge()}, q{session_list(namespace => 'audited')}, q{session_health() IS NULL}, q{session_metrics() IS NULL} ] ],
	conversation_history => [ {
			'message is a bigint' => 'ALTER COLUMN message TYPE int8 USING 12345',
			'created_at is a text' => 'ALTER COLUMN created_at DROP DEFAULT, ALTER COLUMN created_at TYPE text USING \'x\'',
			'seq is a text' => 'ALTER COLUMN seq TYPE text USING seq::text',
			'message may be NULL, and is' => 'ALTER COLUMN message DROP NOT NULL',
			'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
		}, [ q{(SELECT count(*) FROM session_history('s'))}, q{session_append('s', '{"m": 4}')}, q{session_append('s', '{"m": 4}', operation_id => 'o')}, q{session_amend('s', 1, '{"m": 9}')}, q{session_compact('s', 1, '"1"')}, q{session_tail('s')}, q{session_pop('s')}, q{session_trim('s', 1)}, q{session_fork('s')},
			q{session_absorb('d', 's')}, q{session_purge()} ] ],
	conversation_history_ended => [ {
			'history_id is a bigint' => 'ALTER COLUMN history_id TYPE int8 USING 12345',
			'from_seq is a text' => 'ALTER COLUMN from_seq DROP DEFAULT, ALTER COLUMN from_seq TYPE text USING \'x\'',
			'entry_id is a bigint' => 'ALTER COLUMN entry_id DROP DEFAULT, ALTER COLUMN entry_id TYPE int8 USING 12345',
			'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
		}, [ q{session_purge()}, q{session_delete('s')}, q{session_absorb('d', 's')} ] ],
	session_operations => [ {
			'operation_hash is a bigint' => 'ALTER COLUMN operation_hash TYPE int8 USING 12345',
			'result is a text' => 'ALTER COLUMN result TYPE text USING \'x\'',
			'keep_until is a bigint' => 'ALTER COLUMN keep_until TYPE int8 USING 12345',
			'operation_hash may be NULL, and is' => 'ALTER COLUMN operation_hash DROP NOT NULL',
			'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
		}, [ q{session_append('s', '{"m": 4}', operation_id => 'o')}, q{session_append('s', '{"m": 5}', operation_id => 'p')}, q{session_absorb('d', 's')}, q{session_purge()} ] ],
	session_members => [ {
			'member is a bigint' => 'DROP CONSTRAINT session_members_member_check, ALTER COLUMN member TYPE int8 USING 12345',
			'role is a bigint' => 'DROP CONSTRAINT session_members_role_check, ALTER COLUMN role DROP DEFAULT, ALTER COLUMN role TYPE int8 USING 12345',
			'created_at is a text' => 'ALTER COLUMN created_at DROP DEFAULT, ALTER COLUMN created_at TYPE text USING \'x\'',
			'accepted is a text' => 'DROP COLUMN accepted, ADD COLUMN accepted text DEFAULT \'x\'',
			'one column more' => 'ADD COLUMN more text DEFAULT \'x\'',
		}, [ q{(SELECT count(*) FROM session_members('s'))}, q{session_share('s', 'x')}, q{session_unshare('s', 'x')}, q{session_accept('s')}, q{session_fork('s')} ] ],
	session_samples => [ {
			'namespace is a bigint' => 'DROP CONSTRAINT session_samples_pkey, ALTER COLUMN namespace TYPE int8 USING 12345',
			'sessions is a text' => 'ALTER COLUMN sessions TYPE text USING \'x\'',
			'over_1mb may be NULL, and is' => 'ALTER COLUMN over_1mb DROP NOT NULL',
		}, [ q{session_health() IS NULL}, q{session_metrics() IS NULL} ] ],
	session_counters => [ {
			'counter_id is a bigint' => 'DROP CONSTRAINT session_counters_pkey, DROP CONSTRAINT session_counters_counter_id_check, ALTER COLUMN counter_id TYPE int8 USING 12345',
			'hits is a text' => 'DROP CONSTRAINT session_counters_hits_check, ALTER COLUMN hits TYPE text USING \'x\'',
			'resets_at may be NULL, and is' => 'ALTER COLUMN resets_at DROP NOT NULL',
		}, [ q{(session_hit('h', '1 hour')).hits}, q{(session_hit('h', NULL, by => -1)).hits}, q{(session_hit('h', NULL, by => 0)).hits}, q{session_hit_reset('h')}, q{session_purge()} ] ],
	session_events => [ {
			'event is a bigint' => 'ALTER COLUMN event TYPE int8 USING 12345',
			'detail is a bigint' => 'ALTER COLUMN detail TYPE int8 USING 12345',
			'session_id is gone' => 'DROP COLUMN session_id',
		}, [ q{session_save('d', '{}', namespace => 'audited')}, q{session_delete('d', 'audited')}, q{session_health() IS NULL} ] ],
);
# Objects that depend on the columns would prevent that they are altered. The views are members of the
# extension.
my $free = <<'EOS';
ALTER EXTENSION session_store DROP VIEW conversation_messages;
ALTER EXTENSION session_store DROP VIEW session_stats;
DROP VIEW session_stats, conversation_messages;
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass) FROM pg_policy
		UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
		WHERE NOT indisprimary AND indrelid = current_setting('regress.name')::regclass
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;
EOS

# Each case in a copy of the database: one connection alters the table, while the others, which have
# prepared plans, call and wait for it. Then it commits.
value(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()});
my $calls = 0;

sub try_case
{
	my ($table, $what, $alteration, $direct) = @_;
	my $db = "altered" . ++$calls;
	my $name = "$table, $what, direct_rows $direct";
	my (@callers, $out, $n);

	value("CREATE DATABASE $db TEMPLATE pristine");
	$node->safe_psql($db, "SET regress.name = '$table'; $free");
	my $alter = $node->background_psql($db);
	$alter->query_safe('SELECT pg_advisory_lock(1)');
	for my $call (@{ $tables{$table}[1] })
	{
		my $script = <<"EOS";
SET application_name = 'caller'; SET session_store.direct_rows = $direct; SET client_min_messages = fatal;
BEGIN; SELECT $call; ROLLBACK;
SELECT pg_advisory_lock_shared(1);
BEGIN; SELECT $call;
\\echo SQLSTATE :SQLSTATE
ROLLBACK;
EOS
		my $caller = { call => $call, out => '' };
		my $file = PostgreSQL::Test::Utils::tempdir_short() . '/script';
		append_to_file($file, $script);
		$caller->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($db), '-f', $file ], '<', \'', '>', \$caller->{out}, '2>&1');
		push @callers, $caller;
	}
	$n = @callers;
	$node->poll_query_until('postgres', "SELECT count(*) = $n FROM pg_stat_activity WHERE application_name = 'caller' AND datname = '$db' AND wait_event = 'advisory'")
	  or die "$name: not all callers are ready";
	$alter->query_safe("BEGIN; ALTER TABLE $table $alteration");
	$alter->query_safe("ALTER TABLE $table DISABLE TRIGGER USER; UPDATE $table SET $1 = NULL") if $what =~ /^(\w+) may be NULL/;
	$alter->query_safe('SELECT pg_advisory_unlock(1)');
	# each waits for the table, or for another that does, or has returned without it
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'caller' AND datname = '$db' AND (wait_event_type IS DISTINCT FROM 'Lock' OR wait_event = 'advisory')")
	  or die "$name: a caller neither waits nor ends";
	$alter->query_safe('COMMIT');
	$alter->quit;
	$_->{run}->finish for @callers;
	my @lost = grep { $_->{out} !~ /SQLSTATE \w{5}/ } @callers;
	is(@lost ? "$lost[0]{call}: $lost[0]{out}" : '', '', "$name: each of $n calls has a result");
	my %states;
	$states{$_->{out} =~ /SQLSTATE (\w{5})/ ? $1 : 'none'}++ for @callers;
	note(join ', ', map { "$states{$_} times $_" } sort keys %states);
	my @odd = grep { $_->{out} =~ /SQLSTATE XX/ } @callers;
	is(@odd ? "$odd[0]{call}: $odd[0]{out}" : '', '', '.. none of which is an internal error');
	if ($what =~ /more/)
	{
		my @failed = grep { $_->{out} !~ /SQLSTATE 00000/ } @callers;
		is(@failed ? "$failed[0]{call}: $failed[0]{out}" : '', '', '.. and all succeed');
	}
	value("DROP DATABASE $db WITH (FORCE)") if !@lost;
	return !@lost;
}

value('ALTER DATABASE postgres IS_TEMPLATE true');
$node->safe_psql('template1', 'CREATE DATABASE pristine TEMPLATE postgres');
value('DROP EXTENSION session_store CASCADE');
CASES: for my $table (reverse sort keys %tables)
{
	for my $what (sort keys %{ $tables{$table}[0] })
	{
		for my $direct ($table eq 'conversation_sessions' ? qw(on off) : qw(off))
		{
			last CASES unless try_case($table, $what, $tables{$table}[0]{$what}, $direct);
		}
	}
}
leave_nothing($node);
done_testing;
