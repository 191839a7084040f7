/* session_store: install script. Installed under the version of the control file. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION session_store" to load this file. \quit

-- The target schema may belong to somebody hostile and may already hold objects
-- of any name. So nothing here is CREATE OR REPLACE or IF NOT EXISTS (a name that
-- is taken is an error), and every type, function and operator is qualified.

--
-- Namespaces: a policy and a border each.
--
CREATE TABLE @extschema@.session_namespaces (
	name pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	key_prefix pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	ttl pg_catalog.interval NOT NULL DEFAULT '1 hour',
	sliding pg_catalog.bool NOT NULL DEFAULT true,
	max_lifetime pg_catalog.interval,
	cache pg_catalog.text NOT NULL DEFAULT 'hot',
	cache_ttl pg_catalog.interval NOT NULL DEFAULT '5 minutes',
	hot_uses pg_catalog.int4 NOT NULL DEFAULT 1,
	hash_keys pg_catalog.bool NOT NULL DEFAULT false,
	max_bytes pg_catalog.int8 NOT NULL DEFAULT 8388608,
	max_sessions_per_owner pg_catalog.int4,
	on_quota pg_catalog.text NOT NULL DEFAULT 'evict',
	tombstone pg_catalog.interval NOT NULL DEFAULT '5 minutes',
	allowed_roles pg_catalog.name[],
	owner_isolation pg_catalog.bool NOT NULL DEFAULT false,
	audit pg_catalog.bool NOT NULL DEFAULT false,
	events_keep pg_catalog.interval NOT NULL DEFAULT '30 days',
	durability pg_catalog.text NOT NULL DEFAULT 'strict',
	tail_prefix pg_catalog.text COLLATE pg_catalog."C",
	tail_size pg_catalog.int4 NOT NULL DEFAULT 20,
	audit_saves pg_catalog.bool NOT NULL DEFAULT false,
	CONSTRAINT session_namespaces_pkey PRIMARY KEY (name),
	CONSTRAINT session_namespaces_cache_check
		CHECK (cache OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'hot', 'all']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_on_quota_check
		CHECK (on_quota OPERATOR(pg_catalog.=) ANY (ARRAY['evict', 'refuse']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_durability_check
		CHECK (durability OPERATOR(pg_catalog.=) ANY (ARRAY['strict', 'relaxed']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_hot_uses_check CHECK (hot_uses OPERATOR(pg_catalog.>=) 1),
	CONSTRAINT session_namespaces_max_bytes_check
		CHECK (max_bytes OPERATOR(pg_catalog.>=) 16::pg_catalog.int8
			   AND max_bytes OPERATOR(pg_catalog.<=) 268435455::pg_catalog.int8),
	CONSTRAINT session_namespaces_max_sessions_per_owner_check
		CHECK (max_sessions_per_owner OPERATOR(pg_catalog.>=) 1),
	CONSTRAINT session_namespaces_tail_size_check
		CHECK (tail_size OPERATOR(pg_catalog.>=) 1 AND tail_size OPERATOR(pg_catalog.<=) 1000)
);

COMMENT ON TABLE @extschema@.session_namespaces IS
	'session_store: one policy per namespace; plain SQL to read and to change. "default" is built in and has no row until somebody inserts one.';

CREATE FUNCTION @extschema@.session_namespaces_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_namespaces_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_namespaces_guard() IS
	'session_store: checks a policy and tells every backend that it changed';

CREATE TRIGGER session_namespaces_check BEFORE INSERT OR UPDATE ON @extschema@.session_namespaces
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_namespaces_guard();
CREATE TRIGGER session_namespaces_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.session_namespaces
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_namespaces_guard();
CREATE TRIGGER session_namespaces_truncate AFTER TRUNCATE ON @extschema@.session_namespaces
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_namespaces_guard();
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_check;
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_change;
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_truncate;

--
-- Sessions.
--
-- The order of the columns is for the write-ahead log: an update on the same page
-- logs only what lies between the first and the last byte that changed.  What never
-- changes in a session's life stands first, then the counters of the history, then
-- what a save changes, side by side.  A touch logs expires_at alone.
--
-- Keys compare as bytes (collation "C"): faster, and an index that no upgrade of a
-- collation library can break.
--
CREATE TABLE @extschema@.conversation_sessions (
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	check_at pg_catalog.timestamptz NOT NULL,
	ttl pg_catalog.interval NOT NULL,
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL DEFAULT 'default',
	session_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	owner_id pg_catalog.text COLLATE pg_catalog."C",
	last_seq pg_catalog.int8 NOT NULL DEFAULT 0,
	message_count pg_catalog.int8 NOT NULL DEFAULT 0,
	version pg_catalog.int8 NOT NULL DEFAULT 1,
	updated_at pg_catalog.timestamptz NOT NULL,
	expires_at pg_catalog.timestamptz NOT NULL,
	session_data pg_catalog.jsonb NOT NULL,
	history_id pg_catalog.uuid,
	dead_until pg_catalog.timestamptz,
	CONSTRAINT conversation_sessions_pkey PRIMARY KEY (namespace, session_id)
) WITH (
	-- Room on each page for the next version of one row: at 1 KB a document 80 % makes
	-- 99.9 % of random saves HOT and the table does not grow; at 90 % it is 74 %, and
	-- the table triples (test/bench/storage.sh).
	fillfactor = 80,
	-- What the purge removes is room for new sessions once vacuum has been there.
	-- At its default pace vacuum falls behind a store that turns over quickly: table and
	-- indexes grow to 5 and 10 times; at ten times the pace to 1.9 and 3.3 times
	-- (test/bench/churn.sh).
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2,
	toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0.2
);

-- Ids and owners are short: never compressed or moved out while the document can be.
ALTER TABLE @extschema@.conversation_sessions
	ALTER COLUMN namespace SET STORAGE MAIN,
	ALTER COLUMN session_id SET STORAGE MAIN,
	ALTER COLUMN owner_id SET STORAGE MAIN;

-- The purge looks here, and nowhere else.
CREATE INDEX conversation_sessions_check_at ON @extschema@.conversation_sessions (check_at);
-- Listing: immutable columns, so that a save costs no index.  "POSIX" sorts as "C" does,
-- but is another collation to the planner, which so can never take one of these for a
-- look-up by id (on a small table it would, and keep the plan when the table has grown).
CREATE INDEX conversation_sessions_created ON @extschema@.conversation_sessions
	(namespace, created_at, session_id COLLATE pg_catalog."POSIX");
CREATE INDEX conversation_sessions_owner ON @extschema@.conversation_sessions
	(namespace, owner_id, created_at, session_id COLLATE pg_catalog."POSIX") WHERE owner_id IS NOT NULL;

-- A conversation belongs to one session at a time.  Few statements touch this index: a
-- session gets its history_id with its first message, and keeps it.
CREATE UNIQUE INDEX conversation_sessions_history ON @extschema@.conversation_sessions (history_id)
	WHERE history_id IS NOT NULL;

COMMENT ON TABLE @extschema@.conversation_sessions IS
	'session_store: the truth; one row per session. A row whose expires_at has passed is no session any more, purged or not.';
COMMENT ON COLUMN @extschema@.conversation_sessions.check_at IS
	'when the row is worth a look by the purge: never later than its end, raised by the purge alone';
COMMENT ON COLUMN @extschema@.conversation_sessions.ttl IS
	'every change starts this lifetime anew';
COMMENT ON COLUMN @extschema@.conversation_sessions.version IS
	'counts the changes of session_data and owner_id';
COMMENT ON COLUMN @extschema@.conversation_sessions.dead_until IS
	'until when a deleted id cannot be used again (the row is then its tombstone)';
COMMENT ON COLUMN @extschema@.conversation_sessions.history_id IS
	'names the conversation: its messages in conversation_history and its members, whatever id the session has';

CREATE FUNCTION @extschema@.session_row_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_row_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_row_guard() IS
	'session_store: keeps the invariants of a session row for calls, plain SQL, COPY and replication alike';

CREATE TRIGGER session_row_guard BEFORE INSERT OR UPDATE ON @extschema@.conversation_sessions
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_row_guard();
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER session_row_guard;

-- Triggers fire in the order of their names, and this one must see the row as it will be.
CREATE FUNCTION @extschema@.session_change_note() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_change_note_1_0';
COMMENT ON FUNCTION @extschema@.session_change_note() IS
	'session_store: notes which copies in Redis a transaction makes out of date';

CREATE TRIGGER zz_session_change BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.conversation_sessions
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_change_note();
CREATE TRIGGER zz_session_truncate BEFORE TRUNCATE ON @extschema@.conversation_sessions
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_change_note();
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change;
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER zz_session_truncate;

--
-- Conversations: messages that are appended and never changed, and who else may see them.
--
-- Both hang on history_id rather than on the session's id, so that a new id moves nothing
-- and the end of a session, which takes its history_id away, hides all of it at once.
-- What is hidden so is queued in conversation_history_ended, and the purge removes it by
-- and by.
--
CREATE TABLE @extschema@.conversation_history (
	history_id pg_catalog.uuid NOT NULL,
	seq pg_catalog.int8 NOT NULL,
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	operation_last pg_catalog.int8,
	message pg_catalog.jsonb NOT NULL,
	operation_id pg_catalog.text COLLATE pg_catalog."C",
	operation_hash pg_catalog.bytea,
	CONSTRAINT conversation_history_pkey PRIMARY KEY (history_id, seq)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2,
	toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0.2
);
CREATE UNIQUE INDEX conversation_history_operation ON @extschema@.conversation_history
	(history_id, operation_id) WHERE operation_id IS NOT NULL;
COMMENT ON TABLE @extschema@.conversation_history IS
	'session_store: the messages of conversations; read them by session_history() or the view conversation_messages';
COMMENT ON COLUMN @extschema@.conversation_history.operation_id IS
	'of the append that began with this message, if it gave one; beside it the hash of all its messages, and the seq of the last';

CREATE TABLE @extschema@.session_members (
	history_id pg_catalog.uuid NOT NULL,
	member pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	role pg_catalog.text COLLATE pg_catalog."C" NOT NULL DEFAULT 'viewer',
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	accepted pg_catalog.bool NOT NULL DEFAULT true,
	CONSTRAINT session_members_pkey PRIMARY KEY (history_id, member),
	CONSTRAINT session_members_role_check
		CHECK (role OPERATOR(pg_catalog.=) ANY (ARRAY['viewer', 'editor', 'owner']::pg_catalog.text[])),
	CONSTRAINT session_members_member_check
		CHECK (pg_catalog.octet_length(member) OPERATOR(pg_catalog.>=) 1
			   AND pg_catalog.octet_length(member) OPERATOR(pg_catalog.<=) 200)
);
-- What was shared with somebody who wants it: what others share without being asked costs a
-- listing nothing.  "POSIX", as above: a look-up of one member never uses it.
CREATE INDEX session_members_member ON @extschema@.session_members (member COLLATE pg_catalog."POSIX")
	WHERE accepted;
COMMENT ON TABLE @extschema@.session_members IS
	'session_store: with whom conversations are shared, and in which role';
COMMENT ON COLUMN @extschema@.session_members.accepted IS
	'with owner isolation, listings and counts of the member include the session';

-- The key is random, and one conversation may stand there twice: on a subscriber both the
-- publisher's entry arrives and the trigger there makes another.
CREATE TABLE @extschema@.conversation_history_ended (
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	history_id pg_catalog.uuid NOT NULL,
	from_seq pg_catalog.int8 NOT NULL DEFAULT 0,
	ended_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	entry_id pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	CONSTRAINT conversation_history_ended_pkey PRIMARY KEY (entry_id)
);
CREATE INDEX conversation_history_ended_history ON @extschema@.conversation_history_ended
	(history_id);
COMMENT ON TABLE @extschema@.conversation_history_ended IS
	'session_store: conversations whose session is gone, for the purge';

-- Not in dumps: where a dump is restored, the time begins again.
CREATE TABLE @extschema@.session_orphans (
	history_id pg_catalog.uuid NOT NULL,
	seen_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT session_orphans_pkey PRIMARY KEY (history_id)
);
COMMENT ON TABLE @extschema@.session_orphans IS
	'session_store: conversations that have messages or members but no session, and since when the keeper knows';

-- lz4 saves large documents several times faster than pglz; not every server has it.
DO $$
BEGIN
	ALTER TABLE @extschema@.conversation_sessions ALTER COLUMN session_data SET COMPRESSION lz4;
	ALTER TABLE @extschema@.conversation_history ALTER COLUMN message SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;

CREATE FUNCTION @extschema@.session_history_note() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_history_note_1_0';
COMMENT ON FUNCTION @extschema@.session_history_note() IS
	'session_store: notes which tails in Redis a transaction makes out of date';

CREATE TRIGGER zz_history_change BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.conversation_history
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_history_note();
-- After, and so also after the trigger on sessions, should both be truncated at once.
CREATE TRIGGER zz_history_truncate AFTER TRUNCATE ON @extschema@.conversation_history
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_history_note();
ALTER TABLE @extschema@.conversation_history ENABLE ALWAYS TRIGGER zz_history_change;
ALTER TABLE @extschema@.conversation_history ENABLE ALWAYS TRIGGER zz_history_truncate;

--
-- Lifecycle events of the namespaces that audit.
--
-- The key is time and a random id rather than a sequence: a sequence is not
-- replicated, and its copies would collide after a switch-over.
--
CREATE TABLE @extschema@.session_events (
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	event_id pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	session_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	owner_id pg_catalog.text COLLATE pg_catalog."C",
	event pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	actor pg_catalog.name NOT NULL DEFAULT CURRENT_USER,
	detail pg_catalog.jsonb,
	CONSTRAINT session_events_pkey PRIMARY KEY (namespace, created_at, event_id)
);
COMMENT ON TABLE @extschema@.session_events IS
	'session_store: what happened to sessions, in namespaces with audit; kept for events_keep';

--
-- The keeper's last look at each namespace.  A table, so that a standby shows it too.
--
CREATE TABLE @extschema@.session_samples (
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	sampled_at pg_catalog.timestamptz NOT NULL,
	estimated pg_catalog.bool NOT NULL,
	sessions pg_catalog.int8 NOT NULL,
	expired pg_catalog.int8 NOT NULL,
	tombstones pg_catalog.int8 NOT NULL,
	owned pg_catalog.int8 NOT NULL,
	messages pg_catalog.int8 NOT NULL,
	total_bytes pg_catalog.int8 NOT NULL,
	max_bytes pg_catalog.int8 NOT NULL,
	over_1mb pg_catalog.int8 NOT NULL,
	CONSTRAINT session_samples_pkey PRIMARY KEY (namespace)
);
COMMENT ON TABLE @extschema@.session_samples IS
	'session_store: the numbers behind session_stats, written by the keeper';

--
-- Which database last claimed which Redis.  The pusher writes a row before it claims one,
-- and that replaces all others.  It is copied with the database and dumped, so that a copy
-- finds that it is one, and waits for session_cache_takeover().
--
-- There is no key: rows of another database, from a data-only restore, must not collide with
-- our own.  For publications of all tables the whole row is the replica identity.
--
CREATE TABLE @extschema@.session_cache_claims (
	system_identifier pg_catalog.int8 NOT NULL,
	database_oid pg_catalog.oid NOT NULL,
	data_directory pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	timeline pg_catalog.int8 NOT NULL,
	redis pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	moved pg_catalog.bool NOT NULL,
	tokens pg_catalog.int8[] NOT NULL,
	epochs pg_catalog.int8[] NOT NULL,
	claimed_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
ALTER TABLE @extschema@.session_cache_claims REPLICA IDENTITY FULL;
COMMENT ON TABLE @extschema@.session_cache_claims IS
	'session_store: the last claim of a Redis, written by the pusher of the database that made it';
COMMENT ON COLUMN @extschema@.session_cache_claims.data_directory IS
	'inode and birth time of global/pg_control: another one in every copy of the data directory';
COMMENT ON COLUMN @extschema@.session_cache_claims.moved IS
	'a Redis claimed before this one may still hold a lease';
COMMENT ON COLUMN @extschema@.session_cache_claims.tokens IS
	'of this claim and those before, newest first: what the guard in Redis may show';
COMMENT ON COLUMN @extschema@.session_cache_claims.epochs IS
	'the epoch of each token';

CREATE FUNCTION @extschema@.session_cache_claims_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_claims_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_claims_guard() IS
	'session_store: keeps the claims of a publisher out of its subscribers, which are no copies of it';

CREATE TRIGGER session_cache_claims_guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.session_cache_claims
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_cache_claims_guard();
ALTER TABLE @extschema@.session_cache_claims ENABLE ALWAYS TRIGGER session_cache_claims_guard;

--
-- Access.  The functions check their caller in C and then act as the owner of the
-- tables; whoever was granted a table all the same meets the same rule as a policy.
--
CREATE FUNCTION @extschema@.session_may(
	namespace pg_catalog.text, owner pg_catalog.text = NULL, history_id pg_catalog.uuid = NULL,
	role pg_catalog.text = 'viewer') RETURNS pg_catalog.bool
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_may_1_0';
COMMENT ON FUNCTION @extschema@.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text) IS
	'session_store: may the current role use sessions of this namespace (and owner, or shared so) as viewer, editor or owner?';

ALTER TABLE @extschema@.session_namespaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.conversation_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_samples ENABLE ROW LEVEL SECURITY;
-- nobody has a policy here: messages are read through the view, which asks the session
ALTER TABLE @extschema@.conversation_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.conversation_history_ended ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_cache_claims ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_orphans ENABLE ROW LEVEL SECURITY;

-- A policy is not for those that it binds to change.
CREATE POLICY session_namespaces_read ON @extschema@.session_namespaces FOR SELECT
	USING (@extschema@.session_may(name, NULL::pg_catalog.text, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
-- What an editor may not change in a row, session_row_guard refuses.
CREATE POLICY conversation_sessions_read ON @extschema@.conversation_sessions FOR SELECT
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'viewer'::pg_catalog.text));
CREATE POLICY conversation_sessions_begin ON @extschema@.conversation_sessions FOR INSERT
	WITH CHECK (@extschema@.session_may(namespace, owner_id, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
CREATE POLICY conversation_sessions_change ON @extschema@.conversation_sessions FOR UPDATE
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'editor'::pg_catalog.text))
	WITH CHECK (@extschema@.session_may(namespace, owner_id, history_id, 'editor'::pg_catalog.text));
CREATE POLICY conversation_sessions_end ON @extschema@.conversation_sessions FOR DELETE
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'owner'::pg_catalog.text));
-- Events are written by the functions alone, and removed by the keeper: a grant reads them.
CREATE POLICY session_events_read ON @extschema@.session_events FOR SELECT
	USING (@extschema@.session_may(namespace, owner_id, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
CREATE POLICY session_samples_read ON @extschema@.session_samples FOR SELECT
	USING (@extschema@.session_may(namespace, NULL::pg_catalog.text, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
-- Who may see a session may see its members; sharing is for the functions.
CREATE POLICY session_members_read ON @extschema@.session_members FOR SELECT
	USING (EXISTS (SELECT FROM @extschema@.conversation_sessions s
				   WHERE s.history_id OPERATOR(pg_catalog.=) session_members.history_id));

--
-- Types that calls return.
--
CREATE TYPE @extschema@.session_record AS (
	namespace pg_catalog.text,
	session_id pg_catalog.text,
	session_data pg_catalog.jsonb,
	owner_id pg_catalog.text,
	version pg_catalog.int8,
	created_at pg_catalog.timestamptz,
	updated_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz,
	message_count pg_catalog.int8
);
COMMENT ON TYPE @extschema@.session_record IS 'session_store: a session as session_fetch returns it';

CREATE TYPE @extschema@.session_summary AS (
	namespace pg_catalog.text,
	session_id pg_catalog.text,
	owner_id pg_catalog.text,
	version pg_catalog.int8,
	created_at pg_catalog.timestamptz,
	updated_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz,
	message_count pg_catalog.int8,
	page_cursor pg_catalog.text
);
COMMENT ON TYPE @extschema@.session_summary IS 'session_store: a row of session_list';

--
-- One session.
--
CREATE FUNCTION @extschema@.session_create(
	data pg_catalog.jsonb = '{}', ttl pg_catalog.interval = NULL, owner pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_create_1_0';
COMMENT ON FUNCTION @extschema@.session_create(pg_catalog.jsonb, pg_catalog.interval, pg_catalog.text, pg_catalog.text) IS
	'session_store: new session under a random id of 256 bits, which is returned';

CREATE FUNCTION @extschema@.session_save(
	session_id pg_catalog.text, data pg_catalog.jsonb, ttl pg_catalog.interval = NULL,
	owner pg_catalog.text = NULL, if_version pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_save_1_0';
COMMENT ON FUNCTION @extschema@.session_save(pg_catalog.text, pg_catalog.jsonb, pg_catalog.interval, pg_catalog.text, pg_catalog.int8, pg_catalog.text) IS
	'session_store: store a document, creating the session if need be; returns its version';

CREATE FUNCTION @extschema@.session_get(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_get_1_0';
COMMENT ON FUNCTION @extschema@.session_get(pg_catalog.text, pg_catalog.text) IS
	'session_store: the document of a living session, else NULL; never writes';

CREATE FUNCTION @extschema@.session_fetch(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS SETOF @extschema@.session_record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1
	AS 'MODULE_PATHNAME', 'session_fetch_1_0';
COMMENT ON FUNCTION @extschema@.session_fetch(pg_catalog.text, pg_catalog.text) IS
	'session_store: a living session with all that is known of it, or no row';

CREATE FUNCTION @extschema@.session_touch(
	session_id pg_catalog.text, ttl pg_catalog.interval = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.timestamptz
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_touch_1_0';
COMMENT ON FUNCTION @extschema@.session_touch(pg_catalog.text, pg_catalog.interval, pg_catalog.text) IS
	'session_store: start the lifetime anew (or give it another); returns the expiry that now holds';

CREATE FUNCTION @extschema@.session_merge(
	session_id pg_catalog.text, patch pg_catalog.jsonb, if_version pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_merge_1_0';
COMMENT ON FUNCTION @extschema@.session_merge(pg_catalog.text, pg_catalog.jsonb, pg_catalog.int8, pg_catalog.text) IS
	'session_store: apply a JSON merge patch (RFC 7396) under the row lock; returns the new document';

CREATE FUNCTION @extschema@.session_incr(
	session_id pg_catalog.text, path pg_catalog.text[], by pg_catalog.numeric = 1,
	max pg_catalog.numeric = NULL, namespace pg_catalog.text = NULL) RETURNS pg_catalog.numeric
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_incr_1_0';
COMMENT ON FUNCTION @extschema@.session_incr(pg_catalog.text, pg_catalog.text[], pg_catalog.numeric, pg_catalog.numeric, pg_catalog.text) IS
	'session_store: add to a number in the document; NULL, and no change, if it would pass max';

CREATE FUNCTION @extschema@.session_delete(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_delete_1_0';
COMMENT ON FUNCTION @extschema@.session_delete(pg_catalog.text, pg_catalog.text) IS
	'session_store: end a session; its id stays dead for the tombstone of its namespace';

CREATE FUNCTION @extschema@.session_regenerate(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_regenerate_1_0';
COMMENT ON FUNCTION @extschema@.session_regenerate(pg_catalog.text, pg_catalog.text) IS
	'session_store: give the session a new random id; the old one is dead';

CREATE FUNCTION @extschema@.session_exists(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_exists_1_0';
COMMENT ON FUNCTION @extschema@.session_exists(pg_catalog.text, pg_catalog.text) IS
	'session_store: is there a living session of this id? Does not slide it';

CREATE FUNCTION @extschema@.session_ttl(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.interval
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_ttl_1_0';
COMMENT ON FUNCTION @extschema@.session_ttl(pg_catalog.text, pg_catalog.text) IS
	'session_store: what is left of a session''s life, else NULL; does not slide it';

--
-- Conversations.
--
CREATE FUNCTION @extschema@.session_append(
	session_id pg_catalog.text, messages pg_catalog.jsonb, operation_id pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_append_1_0';
COMMENT ON FUNCTION @extschema@.session_append(pg_catalog.text, pg_catalog.jsonb, pg_catalog.text, pg_catalog.text) IS
	'session_store: append a message, or an array of them, to a session''s history; returns the seq of the last';

CREATE FUNCTION @extschema@.session_history(
	session_id pg_catalog.text, last pg_catalog.int4 = NULL, before pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL,
	OUT seq pg_catalog.int8, OUT message pg_catalog.jsonb, OUT created_at pg_catalog.timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 20
	AS 'MODULE_PATHNAME', 'session_history_1_0';
COMMENT ON FUNCTION @extschema@.session_history(pg_catalog.text, pg_catalog.int4, pg_catalog.int8, pg_catalog.text) IS
	'session_store: the last messages of a session (NULL: all), or the last before a seq; oldest first';

CREATE FUNCTION @extschema@.session_pop(
	session_id pg_catalog.text, n pg_catalog.int4 = 1, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_pop_1_0';
COMMENT ON FUNCTION @extschema@.session_pop(pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS
	'session_store: take the last messages off a session''s history; returns them as an array, oldest first';

CREATE FUNCTION @extschema@.session_trim(
	session_id pg_catalog.text, keep pg_catalog.int4, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_trim_1_0';
COMMENT ON FUNCTION @extschema@.session_trim(pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS
	'session_store: remove all messages but the last ones; returns how many went';

CREATE FUNCTION @extschema@.session_fork(
	session_id pg_catalog.text, new_session_id pg_catalog.text = NULL, up_to pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_fork_1_0';
COMMENT ON FUNCTION @extschema@.session_fork(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.text) IS
	'session_store: a new session with the document and the messages (up to a seq) of another; returns its id';

CREATE FUNCTION @extschema@.session_absorb(
	target pg_catalog.text, source pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_absorb_1_0';
COMMENT ON FUNCTION @extschema@.session_absorb(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: merge the source into the target and end it; returns how many messages moved';

CREATE FUNCTION @extschema@.session_share(
	session_id pg_catalog.text, member pg_catalog.text, role pg_catalog.text = 'viewer',
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_share_1_0';
COMMENT ON FUNCTION @extschema@.session_share(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: share a session with somebody as viewer, editor or owner';

CREATE FUNCTION @extschema@.session_unshare(
	session_id pg_catalog.text, member pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_unshare_1_0';
COMMENT ON FUNCTION @extschema@.session_unshare(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: share a session with somebody no more';

CREATE FUNCTION @extschema@.session_accept(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_accept_1_0';
COMMENT ON FUNCTION @extschema@.session_accept(pg_catalog.text, pg_catalog.text) IS
	'session_store: have a session that was shared with the caller in its listings and counts';

CREATE FUNCTION @extschema@.session_members(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL,
	OUT member pg_catalog.text, OUT role pg_catalog.text, OUT created_at pg_catalog.timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'session_members_1_0';
COMMENT ON FUNCTION @extschema@.session_members(pg_catalog.text, pg_catalog.text) IS
	'session_store: with whom a session is shared, and in which role';

--
-- Many sessions.
--
CREATE FUNCTION @extschema@.session_delete_all(
	owner pg_catalog.text, except_session_id pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_delete_all_1_0';
COMMENT ON FUNCTION @extschema@.session_delete_all(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: log an owner out everywhere, save perhaps here; returns how many sessions ended';

CREATE FUNCTION @extschema@.session_clear(
	namespace pg_catalog.text, id_like pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_clear_1_0';
COMMENT ON FUNCTION @extschema@.session_clear(pg_catalog.text, pg_catalog.text) IS
	'session_store: end every session of a namespace, or those whose id is LIKE the pattern';

CREATE FUNCTION @extschema@.session_count(
	owner pg_catalog.text = NULL, id_like pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_count_1_0';
COMMENT ON FUNCTION @extschema@.session_count(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: how many sessions live, exactly; costs the rows that it counts';

CREATE FUNCTION @extschema@.session_list(
	owner pg_catalog.text = NULL, id_like pg_catalog.text = NULL, filter pg_catalog.jsonb = NULL,
	after pg_catalog.text = NULL, page_size pg_catalog.int4 = 50, namespace pg_catalog.text = NULL)
	RETURNS SETOF @extschema@.session_summary
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 50
	AS 'MODULE_PATHNAME', 'session_list_1_0';
COMMENT ON FUNCTION @extschema@.session_list(pg_catalog.text, pg_catalog.text, pg_catalog.jsonb, pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS
	'session_store: a page of living sessions, newest first; hand a row''s page_cursor back as "after" for what follows it';

--
-- Upkeep.
--
CREATE FUNCTION @extschema@.session_purge(
	max_rows pg_catalog.int8 = NULL, namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_purge_1_0';
COMMENT ON FUNCTION @extschema@.session_purge(pg_catalog.int8, pg_catalog.text) IS
	'session_store: remove expired rows, one batch of 10,000 by default; call again while it returns that many';

CREATE FUNCTION @extschema@.session_health() RETURNS pg_catalog.jsonb
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_health_1_0';
COMMENT ON FUNCTION @extschema@.session_health() IS
	'session_store: is everything as it should be, and if not, what to do';

CREATE FUNCTION @extschema@.session_metrics() RETURNS pg_catalog.text
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_metrics_1_0';
COMMENT ON FUNCTION @extschema@.session_metrics() IS
	'session_store: counters and gauges in the Prometheus text format';

--
-- The cache.
--
CREATE FUNCTION @extschema@.session_cache_sync(timeout pg_catalog.interval = '5 seconds')
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_sync_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_sync(pg_catalog.interval) IS
	'session_store: wait until Redis has what anybody committed before this call; false after the timeout or without a cache';

CREATE FUNCTION @extschema@.session_cache_verify(
	sample pg_catalog.int4 = 1000, OUT checked pg_catalog.int8, OUT stale pg_catalog.int8,
	OUT missing pg_catalog.int8, OUT orphaned pg_catalog.int8) RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_verify_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_verify(pg_catalog.int4) IS
	'session_store: compare a sample of Redis with the table; what is wrong is counted and put right';

CREATE FUNCTION @extschema@.session_cache_flush(namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_flush_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_flush(pg_catalog.text) IS
	'session_store: delete the copies of a namespace in Redis, or of all; returns how many there were';

CREATE FUNCTION @extschema@.session_cache_takeover() RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_takeover_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_takeover() IS
	'session_store: make this server the owner of its Redis, whoever was';

-- (With OFFSET it cannot be updated, which would write to session_samples as its owner.)
CREATE VIEW @extschema@.session_stats WITH (security_barrier) AS
	SELECT s.namespace,
		   s.sessions,
		   s.owned,
		   s.expired,
		   s.tombstones,
		   s.messages,
		   s.total_bytes,
		   CASE WHEN s.sessions OPERATOR(pg_catalog.>) 0::pg_catalog.int8
			   THEN s.total_bytes OPERATOR(pg_catalog./) s.sessions END AS avg_bytes,
		   s.max_bytes,
		   s.over_1mb,
		   s.estimated,
		   s.sampled_at,
		   pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.sampled_at AS age
	FROM @extschema@.session_samples s
	WHERE @extschema@.session_may(s.namespace, NULL::pg_catalog.text, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text)
	   OR pg_catalog.pg_has_role('pg_monitor'::pg_catalog.name, 'USAGE'::pg_catalog.text)
	OFFSET 0;
COMMENT ON VIEW @extschema@.session_stats IS
	'session_store: a row per namespace, as the keeper last saw it, and how long ago that was';

-- Internal: what the purge, the functions and the views ask about a row's real end.
CREATE FUNCTION @extschema@.session_effective_expiry(
	namespace pg_catalog.text, session_id pg_catalog.text, expires_at pg_catalog.timestamptz)
	RETURNS pg_catalog.timestamptz
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_effective_expiry_1_0';
COMMENT ON FUNCTION @extschema@.session_effective_expiry(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz) IS
	'session_store: expires_at, or what reads have made of it since';

-- Internal: the filter of session_list.  A high cost, so that a condition is evaluated last.
CREATE FUNCTION @extschema@.session_contains(
	document pg_catalog.jsonb, filter pg_catalog.jsonb) RETURNS pg_catalog.bool
	LANGUAGE C IMMUTABLE PARALLEL RESTRICTED COST 1000
	AS 'MODULE_PATHNAME', 'session_contains_1_0';
COMMENT ON FUNCTION @extschema@.session_contains(pg_catalog.jsonb, pg_catalog.jsonb) IS
	'session_store: document @> filter, interruptible and in bounded time';

-- Internal: what the view of messages asks about a row, which by itself tells nobody anything.
CREATE FUNCTION @extschema@.session_alive(
	namespace pg_catalog.text, session_id pg_catalog.text, created_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz, dead_until pg_catalog.timestamptz)
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_alive_1_0';
COMMENT ON FUNCTION @extschema@.session_alive(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
	'session_store: is a row that says so a living session?';

-- The messages of living sessions, of those that the caller may see.
CREATE VIEW @extschema@.conversation_messages WITH (security_barrier) AS
	SELECT s.namespace, s.session_id, h.seq, h.message, h.created_at
	FROM @extschema@.conversation_sessions s
		JOIN @extschema@.conversation_history h ON h.history_id OPERATOR(pg_catalog.=) s.history_id
	WHERE @extschema@.session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until)
		AND @extschema@.session_may(s.namespace, s.owner_id, s.history_id, 'viewer'::pg_catalog.text);
COMMENT ON VIEW @extschema@.conversation_messages IS
	'session_store: the messages of living sessions that the caller may see';

-- Internal: tells the launcher, at commit, to look at this database.
CREATE FUNCTION @extschema@.session_store_wake() RETURNS pg_catalog.void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_store_wake_1_0';
COMMENT ON FUNCTION @extschema@.session_store_wake() IS
	'session_store: ask the launcher to look at this database';

--
-- What a dump must carry: the rows that are the users'.
--
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_namespaces', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_sessions', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_history', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_history_ended', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_members', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_events', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_cache_claims', '');

--
-- Nothing here is for everybody, nor for whom ALTER DEFAULT PRIVILEGES favours in this
-- schema (as some platforms set it for their web roles): all that was granted by
-- default is taken back, and then granted what is meant.
--
-- Types as well: a column of one of our row types in somebody else's table would make
-- DROP EXTENSION fail, and ADD COLUMN in an upgrade.  The row type of a table is no member
-- of the extension before PostgreSQL 17, so types are found through their tables.
--
DO $$
DECLARE
	command pg_catalog.text;
BEGIN
	FOR command IN
		SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', o.kind, o.name,
								 CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC'
								 ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
		FROM pg_catalog.pg_depend d
			JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
				AND e.extname OPERATOR(pg_catalog.=) 'session_store'::pg_catalog.name
			JOIN (SELECT 'FUNCTION' AS kind, 'pg_catalog.pg_proc'::pg_catalog.regclass AS class, p.oid AS member,
						 p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, p.proowner AS owner,
						 COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
				  FROM pg_catalog.pg_proc p
				  UNION ALL
				  SELECT 'TABLE', 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid,
						 c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner,
						 COALESCE(c.relacl, pg_catalog.acldefault('r', c.relowner))
				  FROM pg_catalog.pg_class c WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v}'::"char"[])
				  UNION ALL
				  SELECT 'TYPE',
						 CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'c'::"char" THEN 'pg_catalog.pg_type'
						 ELSE 'pg_catalog.pg_class' END::pg_catalog.regclass,
						 CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'c'::"char" THEN t.oid ELSE c.oid END,
						 t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner,
						 COALESCE(t.typacl, pg_catalog.acldefault('T', t.typowner))
				  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.reltype
				  WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,c}'::"char"[])) o
				ON o.class OPERATOR(pg_catalog.=) d.classid AND o.member OPERATOR(pg_catalog.=) d.objid,
			LATERAL pg_catalog.aclexplode(o.acl) a
		WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
			AND d.deptype OPERATOR(pg_catalog.=) 'e'::"char"
			AND a.grantee OPERATOR(pg_catalog.<>) o.owner
	LOOP
		EXECUTE command;
	END LOOP;
	-- pg_dump never dumps privileges on the row type of a table, and warns of each that an
	-- extension is on record to have changed
	DELETE FROM pg_catalog.pg_init_privs i
	WHERE i.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
		AND EXISTS (SELECT FROM pg_catalog.pg_class c
						JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::"char"
						JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
							AND e.extname OPERATOR(pg_catalog.=) 'session_store'::pg_catalog.name
					WHERE c.reltype OPERATOR(pg_catalog.=) i.objoid AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v}'::"char"[]));
END
$$;

-- The policies and the view of messages need these: one answers about the caller alone, the
-- other about a row that the caller has in hand.
GRANT EXECUTE ON FUNCTION @extschema@.session_alive(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text) TO PUBLIC;

-- Monitoring is what pg_monitor is for; it shows numbers, never a session.
GRANT EXECUTE ON FUNCTION @extschema@.session_health(), @extschema@.session_metrics() TO pg_monitor;
GRANT SELECT ON @extschema@.session_stats TO pg_monitor;

SELECT @extschema@.session_store_wake();
