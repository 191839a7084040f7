# Changes that wait at the fence: each that docs/redis.md lists, and no others. Measured by the
# commits that waited while a lease was alive. The copy of a fenced change may already have been
# deleted, so it gets several attempts; a change that is not fenced never waits.
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
my $node = new_cached_store('fenced', $redis, conf => "session_store.lease = 10s\nsession_store.purge_interval = 0\n");

sub value
{
	return $node->safe_psql('postgres', $_[0]);
}

value(<<'EOS');
INSERT INTO session_namespaces (name, cache, sliding, tail_prefix) VALUES ('f', 'all', false, 'tail:');
INSERT INTO session_namespaces (name, cache, sliding) VALUES ('slides', 'all', true);
INSERT INTO session_namespaces (name, cache, sliding, max_sessions_per_owner) VALUES ('quota', 'all', false, 1);
ALTER DATABASE postgres SET session_store.namespace = 'f';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RAISE EXCEPTION 'kept'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON conversation_history FOR EACH ROW WHEN (OLD.message OPERATOR(pg_catalog.?) 'kept') EXECUTE FUNCTION refuse();
CREATE FUNCTION react() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
	CASE OLD.message->>'do'
		WHEN 'delete' THEN DELETE FROM conversation_sessions WHERE namespace = 'f' AND session_id = OLD.message->>'session';
		WHEN 'alter' THEN UPDATE conversation_history SET message = '{"m": 0}'
			WHERE history_id = (SELECT history_id FROM conversation_sessions WHERE namespace = 'f' AND session_id = OLD.message->>'session');
		WHEN 'pop' THEN
			BEGIN
				PERFORM session_pop(OLD.message->>'session', namespace => 'f');
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
	END CASE;
	RETURN OLD;
END
$$;
CREATE TRIGGER react BEFORE DELETE ON conversation_history FOR EACH ROW WHEN (OLD.message OPERATOR(pg_catalog.?) 'do') EXECUTE FUNCTION react();
EOS

# The sessions of each change are made first: $s is a session with messages, $t another, which has a summary.
my $setup = q{SELECT session_save('$s', '{"n": 1}', owner => 'ann'), session_append('$s', '[{"m": 1}, {"m": 2}, {"m": 3}]'), session_save('$t', '{"n": 2}'), session_append('$t', '{"m": 4}'); SELECT session_compact('$t', 1, '"4"')};
my $row = q{namespace = 'f' AND session_id = '$s'};
my $messages = qq{history_id = (SELECT history_id FROM conversation_sessions WHERE $row)};
my @fenced = (
	[ 'session_delete', q{SELECT session_delete('$s')} ],
	[ 'session_take', q{SELECT session_take('$s')} ],
	[ 'session_delete_all', q{SELECT session_delete_all('ann')} ],
	[ 'session_clear', q{SELECT session_clear('f', '$s')} ],
	[ 'session_clear by a prefix', q{SELECT session_clear('f', id_prefix => '$s')} ],
	[ 'session_regenerate', q{SELECT session_regenerate('$s')} ],
	[ 'session_regenerate under a given id', q{SELECT session_regenerate('$s', new_session_id => 'id given to the session $s')} ],
	[ 'session_absorb, for its source', q{SELECT session_absorb('$t', '$s')} ],
	[ 'session_trim', q{SELECT session_trim('$s', 1)} ],
	[ 'session_append with keep', q{SELECT session_append('$s', '{"m": 9}', keep => 1)} ],
	[ 'session_amend', q{SELECT session_amend('$s', 2, '{"m": 0}')} ],
	[ 'session_compact', q{SELECT session_compact('$s', 2, '"1 and 2"')} ],
	[ 'session_compact by statements', q{SET session_store.direct_rows = off; SELECT session_compact('$s', 2, '"1 and 2"')} ],
	[ 'UPDATE that removes a summary', q{UPDATE conversation_sessions SET summary = NULL, summary_up_to = NULL WHERE session_id = '$t'} ],
	[ 'session_amend that removes a summary', q{SELECT session_amend('$t', 1, '{"m": 0}')} ],
	[ 'DELETE of a session', "DELETE FROM conversation_sessions WHERE $row" ],
	[ 'TRUNCATE of sessions', 'TRUNCATE conversation_sessions' ],
	[ 'UPDATE that sets dead_until', "UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 minute' WHERE $row" ],
	[ 'UPDATE that sets expires_at in the past', "UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE $row" ],
	[ 'session_save with an expires_at in the past', q{SELECT session_save('$s', '{}', expires_at => '2000-01-01')} ],
	[ 'session_touch with an expires_at in the past', q{SELECT session_touch('$s', expires_at => clock_timestamp() - interval '1 ms')} ],
	[ 'the same for a session that a pending touch keeps alive', qq{UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 s' WHERE $row;
		SELECT session_touch('\$s'); SELECT pg_sleep(1.1); SELECT session_touch('\$s', expires_at => clock_timestamp() - interval '1 ms')} ],
	[ 'UPDATE that removes the ttl of a session that only a touch keeps alive', q{SELECT session_save('$s', '{}', namespace => 'slides');
		BEGIN; UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 s' WHERE namespace = 'slides' AND session_id = '$s';
		SELECT session_get('$s', 'slides'); SELECT pg_sleep(1.1);
		UPDATE conversation_sessions SET ttl = NULL, expires_at = expires_at WHERE namespace = 'slides' AND session_id = '$s'; COMMIT} ],
	[ 'UPDATE of the id', "UPDATE conversation_sessions SET session_id = '\$s moved' WHERE $row" ],
	[ 'UPDATE that takes the history away', "UPDATE conversation_sessions SET history_id = NULL WHERE $row" ],
	[ 'DELETE of a message', "DELETE FROM conversation_history WHERE $messages AND seq = 2" ],
	[ 'UPDATE of a message', "UPDATE conversation_history SET message = '{\"m\": 0}' WHERE $messages AND seq = 2" ],
	[ 'DELETE of a session after a pop that failed', qq{DO \$do\$ BEGIN PERFORM session_append('\$s', '{"kept": 1}'); BEGIN PERFORM session_pop('\$s'); RAISE 'popped';
		EXCEPTION WHEN raise_exception THEN ASSERT SQLERRM <> 'popped'; END; DELETE FROM conversation_sessions WHERE $row; END \$do\$} ],
	[ 'DELETE of another session by a trigger of a pop', q{SELECT session_append('$s', '{"do": "delete", "session": "$t"}'); SELECT session_pop('$s')} ],
	[ 'UPDATE of messages of another session by a trigger of the purge', q{SELECT session_append('$s gone', '{"do": "alter", "session": "$t"}'), session_touch('$s gone', '1 ms');
		SELECT pg_sleep(0.01); SELECT session_purge()} ],
	[ 'TRUNCATE of messages', 'TRUNCATE conversation_history' ],
	[ 'a save with fence = all', q{SET session_store.fence = 'all'; SELECT session_save('$s', '{"n": 3}')} ],
	[ 'a pop with fence = all', q{SET session_store.fence = 'all'; SELECT session_pop('$s')} ]);
my @not_fenced = (
	[ 'session_save', q{SELECT session_save('$s', '{"n": 3}')} ],
	[ 'session_save with a short ttl', q{SELECT session_save('$s', '{"n": 3}', ttl => '2 s')} ],
	[ 'session_save that creates one', q{SELECT session_save('$s new', '{}')} ],
	[ 'session_touch with a short ttl', q{SELECT session_touch('$s', '2 s')} ],
	[ 'session_save and session_touch with a fixed expiry', q{SELECT session_save('$s', '{}', expires_at => clock_timestamp() + interval '1 day');
		SELECT session_touch('$s', expires_at => clock_timestamp() + interval '1 hour')} ],
	[ 'session_merge and session_incr', q{SELECT session_merge('$s', '{"x": 1}'), session_incr('$s', '{n}')} ],
	[ 'session_append', q{SELECT session_append('$s', '{"m": 5}')} ],
	[ 'session_pop', q{SELECT session_pop('$s', 2)} ],
	[ 'session_replace_tail', q{SELECT session_replace_tail('$s', 2, '{"m": 9}')} ],
	[ 'session_append with a patch, and keep that removes nothing', q{SELECT session_append('$s', '{"m": 9}', patch => '{"p": 1}', keep => 1000)} ],
	[ 'session_pop that removes a summary', q{SELECT session_pop('$t')} ],
	[ 'session_replace_tail that removes a summary', q{SELECT session_replace_tail('$t', 1, '{"m": 5}')} ],
	[ 'session_pop from the start', q{SELECT session_pop('$s', 2, from_start => true)} ],
	[ 'session_pop with a trigger in which a call fails', q{SELECT session_append('$t', '{"kept": 1}'), session_append('$s', '{"do": "pop", "session": "$t"}'); SELECT session_pop('$s')} ],
	[ 'session_fork', q{SELECT session_fork('$s', '$s copy')} ],
	[ 'session_share', q{SELECT session_share('$s', 'bob')} ],
	[ 'an eviction', q{SELECT session_save('$s', '{}', owner => '$s', namespace => 'quota'), session_save('$t', '{}', owner => '$s', namespace => 'quota')} ],
	[ 'the purge', q{SELECT session_save('$s gone', '{}', ttl => '1 ms'); SELECT pg_sleep(0.01); SELECT session_purge()} ],
	[ 'UPDATE of a document', "UPDATE conversation_sessions SET session_data = '{}' WHERE $row" ],
	[ 'UPDATE to an earlier expires_at', "UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE $row" ],
	[ 'INSERT of a message', "INSERT INTO conversation_history (history_id, seq, message) SELECT history_id, 100, '{}' FROM conversation_sessions WHERE $row" ]);
my $n = 0;

# How many commits of a change have waited, while there was a lease before.
sub waited
{
	my ($statement) = @_;
	my $id = 's' . ++$n;

	s/\$s/$id/g, s/\$t/${id}t/g for my @statements = ($setup, $statement);
	value($statements[0]);
	wait_for_cache($node, $redis, timeout => 30);
	my $before = cache_health($node, 'fenced');
	$node->safe_psql('postgres', $statements[1]);
	return cache_health($node, 'fenced') - $before;
}

for my $change (@fenced)
{
	my ($what, $statement) = @$change;

	soon("$what waits", 30, sub { waited($statement) > 0 });
}
for my $change (@not_fenced)
{
	my ($what, $statement) = @$change;

	is(waited($statement) + waited($statement), 0, "$what does not wait");
}

# A session that a foreign key deletes together with another one has not expired when the other one is
# purged.
value('ALTER TABLE conversation_sessions ADD COLUMN parent text COLLATE "C", ADD CONSTRAINT parents FOREIGN KEY (namespace, parent) REFERENCES conversation_sessions ON DELETE CASCADE');
soon('DELETE of a session by a foreign key when another one is purged waits', 30, sub {
	waited(qq{SELECT session_save('\$s gone', '{}'); UPDATE conversation_sessions SET parent = '\$s gone' WHERE $row;
		SELECT session_touch('\$s gone', '1 ms'); SELECT pg_sleep(0.01); SELECT session_purge()}) > 0;
});
is(value(q{SELECT session_exists('s' || } . $n . ')'), 'f', '.. and the session is gone');
value('ALTER TABLE conversation_sessions DROP COLUMN parent');

$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET session_store.namespace');
leave_no_redis($node, $redis);
done_testing();
