/* session_store: install script. Installed under the version of the control file. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION session_store" to load this file. \quit

-- The target schema may belong to a hostile role and may already contain objects of
-- any name. Therefore nothing here uses CREATE OR REPLACE or IF NOT EXISTS (a name
-- that is taken is an error), and every type, function and operator is qualified.

--
-- Namespaces: each is a policy and an access boundary.
--
CREATE TABLE @extschema@.session_namespaces (
	name pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	key_prefix pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	ttl pg_catalog.interval DEFAULT '1 hour',
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
	operation_keep pg_catalog.interval NOT NULL DEFAULT '1 day',
	token_path pg_catalog.text[],
	turns pg_catalog.text NOT NULL DEFAULT 'optional',
	CONSTRAINT session_namespaces_pkey PRIMARY KEY (name),
	CONSTRAINT session_namespaces_cache_check
		CHECK (cache OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'hot', 'all']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_on_quota_check
		CHECK (on_quota OPERATOR(pg_catalog.=) ANY (ARRAY['evict', 'refuse']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_durability_check
		CHECK (durability OPERATOR(pg_catalog.=) ANY (ARRAY['strict', 'relaxed']::pg_catalog.text[])),
	CONSTRAINT session_namespaces_turns_check
		CHECK (turns OPERATOR(pg_catalog.=) ANY (ARRAY['optional', 'required']::pg_catalog.text[])),
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
	'session_store: the policy of each namespace; change it with plain SQL. The namespace "default" is built in and needs no row.';

CREATE FUNCTION @extschema@.session_namespaces_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_namespaces_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_namespaces_guard() IS
	'session_store: trigger function that checks a policy and invalidates the cached policies of all backends';

CREATE TRIGGER session_namespaces_check BEFORE INSERT OR UPDATE ON @extschema@.session_namespaces
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_namespaces_guard();
CREATE TRIGGER session_namespaces_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.session_namespaces
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_namespaces_guard();
CREATE TRIGGER session_namespaces_truncate AFTER TRUNCATE ON @extschema@.session_namespaces
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_namespaces_guard();
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_check;
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_change;
ALTER TABLE @extschema@.session_namespaces ENABLE ALWAYS TRIGGER session_namespaces_truncate;
COMMENT ON TRIGGER session_namespaces_check ON @extschema@.session_namespaces IS
	'session_store: checks a policy before it is written';
COMMENT ON TRIGGER session_namespaces_change ON @extschema@.session_namespaces IS
	'session_store: invalidates the cached policies, and flushes copies in Redis that end earlier';
COMMENT ON TRIGGER session_namespaces_truncate ON @extschema@.session_namespaces IS
	'session_store: as session_namespaces_change, for TRUNCATE';

--
-- Sessions.
--
-- The order of the columns saves WAL: an update on the same page logs only the bytes
-- between the first and the last that changed.  Columns that never change come first,
-- then the counters of the history, then the columns that a save changes, side by side.
-- A touch changes only expires_at.  The columns of a turn and of a summary are last, as
-- most sessions have none.
--
-- Keys are compared bytewise (collation "C"), which is faster, and no upgrade of a
-- collation library can corrupt their indexes.
--
CREATE TABLE @extschema@.conversation_sessions (
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	check_at pg_catalog.timestamptz NOT NULL,
	ttl pg_catalog.interval DEFAULT '-1 microsecond',
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
	turn pg_catalog.int8,
	turn_until pg_catalog.timestamptz,
	turn_holder pg_catalog.text COLLATE pg_catalog."C",
	summary pg_catalog.jsonb,
	summary_up_to pg_catalog.int8,
	CONSTRAINT conversation_sessions_pkey PRIMARY KEY (namespace, session_id)
) WITH (
	-- Leave room on each page for the next version of one row.  With documents of 1 kB,
	-- 99.9 % of random saves are HOT at 80 %, and the table does not grow; at 90 % only
	-- 74 % are, and the table triples (test/bench/storage.sh).
	fillfactor = 80,
	-- New sessions reuse the space of purged rows once it has been vacuumed.  At the
	-- default cost delay autovacuum cannot keep up if sessions are short-lived: the table
	-- and its indexes grow to 5 and 10 times their size; with a tenth of the delay, to 1.9
	-- and 3.3 times (test/bench/churn.sh).
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2,
	toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0.2
);

-- Ids and owners are short: compress and move out the document first.
ALTER TABLE @extschema@.conversation_sessions
	ALTER COLUMN namespace SET STORAGE MAIN,
	ALTER COLUMN session_id SET STORAGE MAIN,
	ALTER COLUMN owner_id SET STORAGE MAIN,
	ALTER COLUMN turn_holder SET STORAGE MAIN;

-- The only index that the purge scans.
CREATE INDEX conversation_sessions_check_at ON @extschema@.conversation_sessions (check_at);
COMMENT ON INDEX @extschema@.conversation_sessions_check_at IS
	'session_store: for the purge';
-- For listings.  All columns are immutable, so that saves stay HOT.  "POSIX" sorts like "C"
-- but is another collation for the planner, which therefore never uses these indexes to look
-- up an id.  (On a small table it would, and keep that plan when the table has grown.)
CREATE INDEX conversation_sessions_created ON @extschema@.conversation_sessions
	(namespace, created_at, session_id COLLATE pg_catalog."POSIX");
CREATE INDEX conversation_sessions_owner ON @extschema@.conversation_sessions
	(namespace, owner_id, created_at, session_id COLLATE pg_catalog."POSIX") WHERE owner_id IS NOT NULL;

-- A conversation belongs to one session at a time.  The index is rarely updated: a session
-- gets its history_id with its first message or member, and keeps it.
CREATE UNIQUE INDEX conversation_sessions_history ON @extschema@.conversation_sessions (history_id)
	WHERE history_id IS NOT NULL;
COMMENT ON INDEX @extschema@.conversation_sessions_created IS
	'session_store: for listings, newest first';
COMMENT ON INDEX @extschema@.conversation_sessions_owner IS
	'session_store: for listings of one owner, newest first';
COMMENT ON INDEX @extschema@.conversation_sessions_history IS
	'session_store: finds the session of a conversation';

COMMENT ON TABLE @extschema@.conversation_sessions IS
	'session_store: one row per session, or per tombstone of an ended session. A session whose expires_at has passed no longer exists, whether its row was purged or not.';
COMMENT ON COLUMN @extschema@.conversation_sessions.check_at IS
	'when the purge examines the row next: never later than the session ends; only the purge moves it to a later time';
COMMENT ON COLUMN @extschema@.conversation_sessions.ttl IS
	'lifetime: every change sets expires_at to the current time plus ttl; null: expires_at is fixed. The default stands for the ttl of the namespace';
COMMENT ON COLUMN @extschema@.conversation_sessions.version IS
	'incremented by each change of session_data or owner_id';
COMMENT ON COLUMN @extschema@.conversation_sessions.dead_until IS
	'not null in a tombstone: until then the id of the ended session cannot be reused';
COMMENT ON COLUMN @extschema@.conversation_sessions.turn IS
	'token of the turn that was given last; tokens of a row only grow';
COMMENT ON COLUMN @extschema@.conversation_sessions.turn_until IS
	'when the turn ends by itself; null: it was ended, or none was given';
COMMENT ON COLUMN @extschema@.conversation_sessions.turn_holder IS
	'who holds the turn, as given to session_turn_begin()';
COMMENT ON COLUMN @extschema@.conversation_sessions.history_id IS
	'identifies the conversation: its messages in conversation_history and its members in session_members';
COMMENT ON COLUMN @extschema@.conversation_sessions.summary IS
	'stands in for the messages up to summary_up_to where a model or a reader of Redis gets the conversation; null: there is none';

CREATE FUNCTION @extschema@.session_row_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_row_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_row_guard() IS
	'session_store: trigger function that enforces the invariants of a session row, for calls, plain SQL, COPY and replication alike';

CREATE TRIGGER session_row_guard BEFORE INSERT OR UPDATE ON @extschema@.conversation_sessions
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_row_guard();
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER session_row_guard;
COMMENT ON TRIGGER session_row_guard ON @extschema@.conversation_sessions IS
	'session_store: enforces the invariants of the row';

-- Triggers fire in the order of their names; this one must fire last, to see the final row.
CREATE FUNCTION @extschema@.session_change_note() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_change_note_1_0';
COMMENT ON FUNCTION @extschema@.session_change_note() IS
	'session_store: trigger function that records which copies in Redis a transaction invalidates';

CREATE TRIGGER zz_session_change BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.conversation_sessions
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_change_note();
CREATE TRIGGER zz_session_truncate BEFORE TRUNCATE ON @extschema@.conversation_sessions
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_change_note();
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change;
ALTER TABLE @extschema@.conversation_sessions ENABLE ALWAYS TRIGGER zz_session_truncate;
COMMENT ON TRIGGER zz_session_change ON @extschema@.conversation_sessions IS
	'session_store: records which copies in Redis the change invalidates';
COMMENT ON TRIGGER zz_session_truncate ON @extschema@.conversation_sessions IS
	'session_store: as zz_session_change, for TRUNCATE';

--
-- Conversations: messages, and the members with whom they are shared.
--
-- These refer to history_id rather than to the session id.  So a session can get a new id
-- without moving them, and the end of a session, which sets its history_id to NULL, hides
-- them at once.  The conversation is then queued in conversation_history_ended, and the
-- purge removes it in batches.
--
CREATE TABLE @extschema@.conversation_history (
	history_id pg_catalog.uuid NOT NULL,
	seq pg_catalog.int8 NOT NULL,
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	message pg_catalog.jsonb NOT NULL,
	CONSTRAINT conversation_history_pkey PRIMARY KEY (history_id, seq)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2,
	toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0.2
);
COMMENT ON TABLE @extschema@.conversation_history IS
	'session_store: messages of conversations; read them with session_history() or the view conversation_messages';

-- What was carried out under an operation_id, so that it is not carried out twice.
CREATE TABLE @extschema@.session_operations (
	keep_until pg_catalog.timestamptz NOT NULL,
	history_id pg_catalog.uuid NOT NULL,
	result pg_catalog.int8 NOT NULL,
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	operation_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	operation_hash pg_catalog.bytea NOT NULL,
	CONSTRAINT session_operations_pkey PRIMARY KEY (history_id, operation_id)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2
);
CREATE INDEX session_operations_keep_until ON @extschema@.session_operations (keep_until);
COMMENT ON INDEX @extschema@.session_operations_keep_until IS
	'session_store: for the purge';
COMMENT ON TABLE @extschema@.session_operations IS
	'session_store: operations on conversations that were called with an operation_id, for operation_keep of the namespace and at most as long as the session';
COMMENT ON COLUMN @extschema@.session_operations.keep_until IS
	'from then on the operation_id counts as unused';
COMMENT ON COLUMN @extschema@.session_operations.result IS
	'what the call returned, and what a repeated call returns';
COMMENT ON COLUMN @extschema@.session_operations.operation_hash IS
	'SHA-256 over the arguments of the call';

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
-- For listings by a member.  Shares that the member has not accepted are not in the index,
-- so they cost a listing nothing.  "POSIX" for the same reason as above.
CREATE INDEX session_members_member ON @extschema@.session_members
	(member COLLATE pg_catalog."POSIX", history_id) WHERE accepted;
COMMENT ON INDEX @extschema@.session_members_member IS
	'session_store: for listings of the sessions shared with a member';
-- For session_export() and session_forget(), which include those.
CREATE INDEX session_members_unaccepted ON @extschema@.session_members
	(member COLLATE pg_catalog."POSIX", history_id) WHERE NOT accepted;
COMMENT ON INDEX @extschema@.session_members_unaccepted IS
	'session_store: for the export and removal of what concerns a member';
COMMENT ON TABLE @extschema@.session_members IS
	'session_store: the members with whom conversations are shared, and their roles';
COMMENT ON COLUMN @extschema@.session_members.accepted IS
	'true if the member accepted the session; with owner isolation it then appears in the listings and counts of the member';

-- The key is random because a conversation may have two entries: on a subscriber, the entry
-- of the publisher arrives, and the trigger there adds another.
CREATE TABLE @extschema@.conversation_history_ended (
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	history_id pg_catalog.uuid NOT NULL,
	from_seq pg_catalog.int8 NOT NULL DEFAULT 0,
	ended_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	entry_id pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	owner_id pg_catalog.text COLLATE pg_catalog."C",
	CONSTRAINT conversation_history_ended_pkey PRIMARY KEY (entry_id)
);
CREATE INDEX conversation_history_ended_history ON @extschema@.conversation_history_ended
	(history_id);
COMMENT ON INDEX @extschema@.conversation_history_ended_history IS
	'session_store: for the purge';
COMMENT ON TABLE @extschema@.conversation_history_ended IS
	'session_store: queue of conversations whose session has ended, for the purge';
COMMENT ON COLUMN @extschema@.conversation_history_ended.owner_id IS
	'owner of the session when it ended, for session_forget()';

-- Not dumped: after a restore the time of grace starts again.
CREATE TABLE @extschema@.session_orphans (
	history_id pg_catalog.uuid NOT NULL,
	seen_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT session_orphans_pkey PRIMARY KEY (history_id)
);
COMMENT ON TABLE @extschema@.session_orphans IS
	'session_store: conversations that have messages, members or operations but no session, and when the keeper first found them';

-- Saving large documents is several times faster with lz4 than with pglz, but not every server
-- is built with it.
DO $$
BEGIN
	ALTER TABLE @extschema@.conversation_sessions ALTER COLUMN session_data SET COMPRESSION lz4;
	ALTER TABLE @extschema@.conversation_sessions ALTER COLUMN summary SET COMPRESSION lz4;
	ALTER TABLE @extschema@.conversation_history ALTER COLUMN message SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;

CREATE FUNCTION @extschema@.session_history_note() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_history_note_1_0';
COMMENT ON FUNCTION @extschema@.session_history_note() IS
	'session_store: trigger function that records which copies of history tails in Redis a transaction invalidates';

CREATE TRIGGER zz_history_change BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.conversation_history
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_history_note();
-- AFTER, to fire after the trigger on conversation_sessions if one TRUNCATE names both tables.
CREATE TRIGGER zz_history_truncate AFTER TRUNCATE ON @extschema@.conversation_history
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.session_history_note();
ALTER TABLE @extschema@.conversation_history ENABLE ALWAYS TRIGGER zz_history_change;
ALTER TABLE @extschema@.conversation_history ENABLE ALWAYS TRIGGER zz_history_truncate;
COMMENT ON TRIGGER zz_history_change ON @extschema@.conversation_history IS
	'session_store: records which copies of history tails in Redis the change invalidates';
COMMENT ON TRIGGER zz_history_truncate ON @extschema@.conversation_history IS
	'session_store: as zz_history_change, for TRUNCATE';

--
-- Lifecycle events of namespaces with audit.
--
-- The key is a timestamp and a random id rather than a sequence: sequences are not
-- replicated, and their numbers would collide after a switchover.
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
CREATE INDEX session_events_owner ON @extschema@.session_events (namespace, owner_id, created_at, event_id)
	WHERE owner_id IS NOT NULL;
COMMENT ON INDEX @extschema@.session_events_owner IS
	'session_store: for the export and removal of the events of an owner';
COMMENT ON TABLE @extschema@.session_events IS
	'session_store: lifecycle events of sessions in namespaces with audit, kept for events_keep';

--
-- Counters over a fixed period, for rate limits.
--
-- Within a period only hits changes.  No index has that column, so hits are HOT as long as the
-- page has room; rows are small, so the room is cheap.
--
CREATE TABLE @extschema@.session_counters (
	resets_at pg_catalog.timestamptz NOT NULL,
	hits pg_catalog.int8 NOT NULL,
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	counter_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	CONSTRAINT session_counters_pkey PRIMARY KEY (namespace, counter_id),
	CONSTRAINT session_counters_resets_at_check CHECK (pg_catalog.isfinite(resets_at)),
	CONSTRAINT session_counters_hits_check CHECK (hits OPERATOR(pg_catalog.>=) 0::pg_catalog.int8),
	CONSTRAINT session_counters_counter_id_check
		CHECK (pg_catalog.octet_length(counter_id) OPERATOR(pg_catalog.>=) 1
			   AND pg_catalog.octet_length(counter_id) OPERATOR(pg_catalog.<=) 200)
) WITH (
	fillfactor = 70,
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2
);
CREATE INDEX session_counters_resets_at ON @extschema@.session_counters (resets_at);
COMMENT ON INDEX @extschema@.session_counters_resets_at IS
	'session_store: for the purge';
COMMENT ON TABLE @extschema@.session_counters IS
	'session_store: counters of session_hit(). A counter whose resets_at has passed no longer counts, whether its row was purged or not.';
COMMENT ON COLUMN @extschema@.session_counters.resets_at IS
	'end of the period, which began with the first hit';

--
-- The keeper's last sample of each namespace.  A table, so that it is also on standbys.
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
	'session_store: sampled statistics of each namespace, written by the keeper and shown by session_stats';

--
-- Which database last claimed which Redis.  The pusher writes a row before it claims a Redis,
-- and deletes all others.  The row is part of copies and dumps of the database, so that a copy
-- recognizes that it is one and waits for session_cache_takeover().
--
-- There is no key, because rows of another database, from a data-only restore, must not
-- conflict with the row of this one.  REPLICA IDENTITY FULL is for publications of all tables.
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
	'inode and birth time of global/pg_control, which differ in every copy of the data directory';
COMMENT ON COLUMN @extschema@.session_cache_claims.moved IS
	'a Redis claimed before this one may still hold a lease';
COMMENT ON COLUMN @extschema@.session_cache_claims.tokens IS
	'tokens of this claim and of earlier ones, newest first: those that the guard in Redis may contain';
COMMENT ON COLUMN @extschema@.session_cache_claims.epochs IS
	'the epoch of each token';

CREATE FUNCTION @extschema@.session_cache_claims_guard() RETURNS pg_catalog.trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_claims_guard_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_claims_guard() IS
	'session_store: trigger function that ignores replicated claims, because a subscriber is not a copy of its publisher';

CREATE TRIGGER session_cache_claims_guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.session_cache_claims
	FOR EACH ROW EXECUTE FUNCTION @extschema@.session_cache_claims_guard();
ALTER TABLE @extschema@.session_cache_claims ENABLE ALWAYS TRIGGER session_cache_claims_guard;
COMMENT ON TRIGGER session_cache_claims_guard ON @extschema@.session_cache_claims IS
	'session_store: ignores replicated claims';

--
-- Access.  The functions check their caller in C and then act as the owner of the
-- tables.  For roles that were granted a table, policies enforce the same rules.
--
CREATE FUNCTION @extschema@.session_may(
	namespace pg_catalog.text, owner pg_catalog.text = NULL, history_id pg_catalog.uuid = NULL,
	role pg_catalog.text = 'viewer') RETURNS pg_catalog.bool
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_may_1_0';
COMMENT ON FUNCTION @extschema@.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text) IS
	'session_store: can the current role use sessions of this namespace, owner and conversation as viewer, editor or owner? Used by the policies';

ALTER TABLE @extschema@.session_namespaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.conversation_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_samples ENABLE ROW LEVEL SECURITY;
-- No policies on these: messages are read through the view, which checks the session.
ALTER TABLE @extschema@.conversation_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.conversation_history_ended ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_cache_claims ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_orphans ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.session_counters ENABLE ROW LEVEL SECURITY;

-- Namespaces can be read, but not changed, by roles that were granted the table.
CREATE POLICY session_namespaces_read ON @extschema@.session_namespaces FOR SELECT
	USING (@extschema@.session_may(name, NULL::pg_catalog.text, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
-- The trigger session_row_guard refuses changes of columns that such a role may not set.
CREATE POLICY conversation_sessions_read ON @extschema@.conversation_sessions FOR SELECT
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'viewer'::pg_catalog.text));
CREATE POLICY conversation_sessions_begin ON @extschema@.conversation_sessions FOR INSERT
	WITH CHECK (@extschema@.session_may(namespace, owner_id, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
CREATE POLICY conversation_sessions_change ON @extschema@.conversation_sessions FOR UPDATE
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'editor'::pg_catalog.text))
	WITH CHECK (@extschema@.session_may(namespace, owner_id, history_id, 'editor'::pg_catalog.text));
CREATE POLICY conversation_sessions_end ON @extschema@.conversation_sessions FOR DELETE
	USING (@extschema@.session_may(namespace, owner_id, history_id, 'owner'::pg_catalog.text));
-- Only the functions write events and only the keeper removes them; other roles can read them.
CREATE POLICY session_events_read ON @extschema@.session_events FOR SELECT
	USING (@extschema@.session_may(namespace, owner_id, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
CREATE POLICY session_samples_read ON @extschema@.session_samples FOR SELECT
	USING (@extschema@.session_may(namespace, NULL::pg_catalog.text, NULL::pg_catalog.uuid, 'viewer'::pg_catalog.text));
-- Members are visible to those who can see the session; only the functions change them.
CREATE POLICY session_members_read ON @extschema@.session_members FOR SELECT
	USING (EXISTS (SELECT FROM @extschema@.conversation_sessions s
				   WHERE s.history_id OPERATOR(pg_catalog.=) session_members.history_id));
COMMENT ON POLICY session_namespaces_read ON @extschema@.session_namespaces IS
	'session_store: namespaces that the role may use';
COMMENT ON POLICY conversation_sessions_read ON @extschema@.conversation_sessions IS
	'session_store: sessions that the role may view';
COMMENT ON POLICY conversation_sessions_begin ON @extschema@.conversation_sessions IS
	'session_store: sessions that the role may create';
COMMENT ON POLICY conversation_sessions_change ON @extschema@.conversation_sessions IS
	'session_store: sessions that the role may change as an editor';
COMMENT ON POLICY conversation_sessions_end ON @extschema@.conversation_sessions IS
	'session_store: sessions that the role may remove as an owner';
COMMENT ON POLICY session_events_read ON @extschema@.session_events IS
	'session_store: events of sessions that the role may view';
COMMENT ON POLICY session_samples_read ON @extschema@.session_samples IS
	'session_store: statistics of namespaces that the role may use';
COMMENT ON POLICY session_members_read ON @extschema@.session_members IS
	'session_store: members of sessions that the role may view';

--
-- Result types of functions.
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
COMMENT ON TYPE @extschema@.session_record IS 'session_store: result type of session_fetch()';

CREATE TYPE @extschema@.session_summary AS (
	namespace pg_catalog.text,
	session_id pg_catalog.text,
	owner_id pg_catalog.text,
	version pg_catalog.int8,
	created_at pg_catalog.timestamptz,
	updated_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz,
	message_count pg_catalog.int8,
	page_cursor pg_catalog.text,
	session_data pg_catalog.jsonb
);
COMMENT ON TYPE @extschema@.session_summary IS 'session_store: result type of session_list()';

--
-- One session.
--
CREATE FUNCTION @extschema@.session_create(
	data pg_catalog.jsonb = '{}', ttl pg_catalog.interval = NULL, owner pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL, expires_at pg_catalog.timestamptz = NULL)
	RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_create_1_0';
COMMENT ON FUNCTION @extschema@.session_create(pg_catalog.jsonb, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz) IS
	'session_store: create a session with a random id of 256 bits; returns the id';

CREATE FUNCTION @extschema@.session_save(
	session_id pg_catalog.text, data pg_catalog.jsonb, ttl pg_catalog.interval = NULL,
	owner pg_catalog.text = NULL, if_version pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL, expires_at pg_catalog.timestamptz = NULL,
	turn pg_catalog.int8 = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_save_1_0';
COMMENT ON FUNCTION @extschema@.session_save(pg_catalog.text, pg_catalog.jsonb, pg_catalog.interval, pg_catalog.text, pg_catalog.int8, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.int8) IS
	'session_store: store the document of a session, creating the session if necessary; returns its version';

CREATE FUNCTION @extschema@.session_get(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_get_1_0';
COMMENT ON FUNCTION @extschema@.session_get(pg_catalog.text, pg_catalog.text) IS
	'session_store: return the document of a session, or NULL if there is none alive; extends its expiry without writing';

CREATE FUNCTION @extschema@.session_fetch(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS SETOF @extschema@.session_record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1
	AS 'MODULE_PATHNAME', 'session_fetch_1_0';
COMMENT ON FUNCTION @extschema@.session_fetch(pg_catalog.text, pg_catalog.text) IS
	'session_store: return a session with its metadata, or no row if there is none alive; extends its expiry without writing';

CREATE FUNCTION @extschema@.session_get_many(
	session_ids pg_catalog.text[], namespace pg_catalog.text = NULL,
	OUT session_id pg_catalog.text, OUT session_data pg_catalog.jsonb)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100
	AS 'MODULE_PATHNAME', 'session_get_many_1_0';
COMMENT ON FUNCTION @extschema@.session_get_many(pg_catalog.text[], pg_catalog.text) IS
	'session_store: return the documents of up to 10,000 sessions, one row for each id, in the order of the ids; extends their expiry without writing';

CREATE FUNCTION @extschema@.session_touch(
	session_id pg_catalog.text, ttl pg_catalog.interval = NULL,
	namespace pg_catalog.text = NULL, expires_at pg_catalog.timestamptz = NULL)
	RETURNS pg_catalog.timestamptz
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_touch_1_0';
COMMENT ON FUNCTION @extschema@.session_touch(pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.timestamptz) IS
	'session_store: extend the expiry of a session by its ttl, or give it a new ttl or a fixed expiry; returns the expiry';

CREATE FUNCTION @extschema@.session_merge(
	session_id pg_catalog.text, patch pg_catalog.jsonb, if_version pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL, owner pg_catalog.text = NULL,
	shallow pg_catalog.bool = false, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_merge_1_0';
COMMENT ON FUNCTION @extschema@.session_merge(pg_catalog.text, pg_catalog.jsonb, pg_catalog.int8, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.int8) IS
	'session_store: apply a JSON merge patch (RFC 7396), or replace top-level members, under the row lock; returns the new document';

CREATE FUNCTION @extschema@.session_incr(
	session_id pg_catalog.text, path pg_catalog.text[], by pg_catalog.numeric = 1,
	max pg_catalog.numeric = NULL, namespace pg_catalog.text = NULL,
	owner pg_catalog.text = NULL, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.numeric
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_incr_1_0';
COMMENT ON FUNCTION @extschema@.session_incr(pg_catalog.text, pg_catalog.text[], pg_catalog.numeric, pg_catalog.numeric, pg_catalog.text, pg_catalog.text, pg_catalog.int8) IS
	'session_store: add to a number in the document and return the sum; returns NULL and changes nothing if it would exceed max';

CREATE FUNCTION @extschema@.session_delete(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_delete_1_0';
COMMENT ON FUNCTION @extschema@.session_delete(pg_catalog.text, pg_catalog.text) IS
	'session_store: end a session; its id cannot be reused for the tombstone time of the namespace';

CREATE FUNCTION @extschema@.session_take(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_take_1_0';
COMMENT ON FUNCTION @extschema@.session_take(pg_catalog.text, pg_catalog.text) IS
	'session_store: end a session and return its document, or NULL if there is none alive';

CREATE FUNCTION @extschema@.session_regenerate(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL,
	new_session_id pg_catalog.text = NULL) RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_regenerate_1_0';
COMMENT ON FUNCTION @extschema@.session_regenerate(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: give a session a new id, random if none is given, and end the old one; returns the new id';

CREATE FUNCTION @extschema@.session_exists(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_exists_1_0';
COMMENT ON FUNCTION @extschema@.session_exists(pg_catalog.text, pg_catalog.text) IS
	'session_store: is there a session with this id that is alive? Does not extend its expiry';

CREATE FUNCTION @extschema@.session_ttl(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.interval
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_ttl_1_0';
COMMENT ON FUNCTION @extschema@.session_ttl(pg_catalog.text, pg_catalog.text) IS
	'session_store: return the remaining lifetime of a session, or NULL if there is none alive; does not extend its expiry';

--
-- JSON that jsonb refuses.  Pure functions, which read no sessions.
--
CREATE FUNCTION @extschema@.session_json_encode(value pg_catalog.text) RETURNS pg_catalog.jsonb
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10
	AS 'MODULE_PATHNAME', 'session_json_encode_1_0';
COMMENT ON FUNCTION @extschema@.session_json_encode(pg_catalog.text) IS
	'session_store: convert JSON text to jsonb; NUL and lone surrogates, which jsonb refuses, are escaped';

CREATE FUNCTION @extschema@.session_json_decode(document pg_catalog.jsonb) RETURNS pg_catalog.text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10
	AS 'MODULE_PATHNAME', 'session_json_decode_1_0';
COMMENT ON FUNCTION @extschema@.session_json_decode(pg_catalog.jsonb) IS
	'session_store: convert a document of session_json_encode() back to JSON text';

--
-- Conversations.
--
CREATE FUNCTION @extschema@.session_append(
	session_id pg_catalog.text, messages pg_catalog.jsonb, operation_id pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL, owner pg_catalog.text = NULL, patch pg_catalog.jsonb = NULL,
	keep pg_catalog.int4 = NULL, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_append_1_0';
COMMENT ON FUNCTION @extschema@.session_append(pg_catalog.text, pg_catalog.jsonb, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.jsonb, pg_catalog.int4, pg_catalog.int8) IS
	'session_store: append a message, or an array of messages, to the history of a session, perhaps with a merge patch for its document; returns the seq of the last one';

CREATE FUNCTION @extschema@.session_replace_tail(
	session_id pg_catalog.text, n pg_catalog.int4, messages pg_catalog.jsonb,
	expected pg_catalog.jsonb = NULL, operation_id pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_replace_tail_1_0';
COMMENT ON FUNCTION @extschema@.session_replace_tail(pg_catalog.text, pg_catalog.int4, pg_catalog.jsonb, pg_catalog.jsonb, pg_catalog.text, pg_catalog.text, pg_catalog.int8) IS
	'session_store: replace the last messages of a session by others, if they are the expected ones; returns the last seq';

CREATE FUNCTION @extschema@.session_history(
	session_id pg_catalog.text, last pg_catalog.int4 = NULL, before pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL, after pg_catalog.int8 = NULL, first pg_catalog.int4 = NULL,
	OUT seq pg_catalog.int8, OUT message pg_catalog.jsonb, OUT created_at pg_catalog.timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 20
	AS 'MODULE_PATHNAME', 'session_history_1_0';
COMMENT ON FUNCTION @extschema@.session_history(pg_catalog.text, pg_catalog.int4, pg_catalog.int8, pg_catalog.text, pg_catalog.int8, pg_catalog.int4) IS
	'session_store: return the messages of a session before and after a seq, or only the last or the first ones of them; oldest first';
CREATE FUNCTION @extschema@.session_window(
	session_id pg_catalog.text, max_tokens pg_catalog.int4 = NULL, max_messages pg_catalog.int4 = NULL,
	align pg_catalog.text = 'user', namespace pg_catalog.text = NULL,
	OUT seq pg_catalog.int8, OUT message pg_catalog.jsonb, OUT created_at pg_catalog.timestamptz,
	OUT tokens pg_catalog.int8)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 20
	AS 'MODULE_PATHNAME', 'session_window_1_0';
COMMENT ON FUNCTION @extschema@.session_window(pg_catalog.text, pg_catalog.int4, pg_catalog.int4, pg_catalog.text, pg_catalog.text) IS
	'session_store: return the newest messages that fit into a number of tokens or messages, for a model: no tool result without its call';

CREATE FUNCTION @extschema@.session_pop(
	session_id pg_catalog.text, n pg_catalog.int4 = 1, namespace pg_catalog.text = NULL,
	from_start pg_catalog.bool = false, turn pg_catalog.int8 = NULL)
	RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_pop_1_0';
COMMENT ON FUNCTION @extschema@.session_pop(pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.bool, pg_catalog.int8) IS
	'session_store: remove the last messages, or the first, from the history of a session; returns them as an array, oldest first';

CREATE FUNCTION @extschema@.session_amend(
	session_id pg_catalog.text, seq pg_catalog.int8, message pg_catalog.jsonb,
	namespace pg_catalog.text = NULL, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_amend_1_0';
COMMENT ON FUNCTION @extschema@.session_amend(pg_catalog.text, pg_catalog.int8, pg_catalog.jsonb, pg_catalog.text, pg_catalog.int8) IS
	'session_store: replace one message of the history of a session; returns whether there was one with this seq';

CREATE FUNCTION @extschema@.session_compact(
	session_id pg_catalog.text, up_to pg_catalog.int8, summary pg_catalog.jsonb,
	namespace pg_catalog.text = NULL, turn pg_catalog.int8 = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_compact_1_0';
COMMENT ON FUNCTION @extschema@.session_compact(pg_catalog.text, pg_catalog.int8, pg_catalog.jsonb, pg_catalog.text, pg_catalog.int8) IS
	'session_store: let a summary stand in for the messages of a session up to a seq; returns their number';

CREATE FUNCTION @extschema@.session_tail(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_tail_1_0';
COMMENT ON FUNCTION @extschema@.session_tail(pg_catalog.text, pg_catalog.text) IS
	'session_store: return what Redis holds of the history of a session: the summary, if there is one, and the last tail_size messages after it';

CREATE FUNCTION @extschema@.session_trim(
	session_id pg_catalog.text, keep pg_catalog.int4, namespace pg_catalog.text = NULL,
	turn pg_catalog.int8 = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_trim_1_0';
COMMENT ON FUNCTION @extschema@.session_trim(pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.int8) IS
	'session_store: remove all messages except the last ones; returns the number of messages removed';

CREATE FUNCTION @extschema@.session_fork(
	session_id pg_catalog.text, new_session_id pg_catalog.text = NULL, up_to pg_catalog.int8 = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_fork_1_0';
COMMENT ON FUNCTION @extschema@.session_fork(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.text) IS
	'session_store: create a session with a copy of the document and the messages (up to a seq) of another; returns its id';

CREATE FUNCTION @extschema@.session_absorb(
	target pg_catalog.text, source pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_absorb_1_0';
COMMENT ON FUNCTION @extschema@.session_absorb(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: merge a source session into a target session and end the source; returns the number of messages moved';

CREATE FUNCTION @extschema@.session_share(
	session_id pg_catalog.text, member pg_catalog.text, role pg_catalog.text = 'viewer',
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_share_1_0';
COMMENT ON FUNCTION @extschema@.session_share(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: share a session with a member as viewer, editor or owner';

CREATE FUNCTION @extschema@.session_unshare(
	session_id pg_catalog.text, member pg_catalog.text, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_unshare_1_0';
COMMENT ON FUNCTION @extschema@.session_unshare(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: stop sharing a session with a member';

CREATE FUNCTION @extschema@.session_accept(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_accept_1_0';
COMMENT ON FUNCTION @extschema@.session_accept(pg_catalog.text, pg_catalog.text) IS
	'session_store: include a session that was shared with the caller in the listings and counts of the caller';

CREATE FUNCTION @extschema@.session_members(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL,
	OUT member pg_catalog.text, OUT role pg_catalog.text, OUT created_at pg_catalog.timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'session_members_1_0';
COMMENT ON FUNCTION @extschema@.session_members(pg_catalog.text, pg_catalog.text) IS
	'session_store: return the members of a session and their roles';

--
-- Turns: the permission to write to a session as its one current writer.
--
CREATE FUNCTION @extschema@.session_turn_begin(
	session_id pg_catalog.text, ttl pg_catalog.interval = '30 seconds',
	wait pg_catalog.interval = '0', holder pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_turn_begin_1_0';
COMMENT ON FUNCTION @extschema@.session_turn_begin(pg_catalog.text, pg_catalog.interval, pg_catalog.interval, pg_catalog.text, pg_catalog.text) IS
	'session_store: begin the turn of a session; returns its token, or NULL if there is no such session or another holds the turn';

CREATE FUNCTION @extschema@.session_turn_renew(
	session_id pg_catalog.text, turn pg_catalog.int8, ttl pg_catalog.interval = '30 seconds',
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_turn_renew_1_0';
COMMENT ON FUNCTION @extschema@.session_turn_renew(pg_catalog.text, pg_catalog.int8, pg_catalog.interval, pg_catalog.text) IS
	'session_store: let a turn last for another ttl from now; returns false if it is not held any more';

CREATE FUNCTION @extschema@.session_turn_end(
	session_id pg_catalog.text, turn pg_catalog.int8, namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_turn_end_1_0';
COMMENT ON FUNCTION @extschema@.session_turn_end(pg_catalog.text, pg_catalog.int8, pg_catalog.text) IS
	'session_store: end a turn; returns false if it is not held any more';

CREATE FUNCTION @extschema@.session_turn(
	session_id pg_catalog.text, namespace pg_catalog.text = NULL,
	OUT holder pg_catalog.text, OUT until pg_catalog.timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1
	AS 'MODULE_PATHNAME', 'session_turn_1_0';
COMMENT ON FUNCTION @extschema@.session_turn(pg_catalog.text, pg_catalog.text) IS
	'session_store: return who holds the turn of a session, and until when, or no row if it is not held';

--
-- Counters.
--
CREATE FUNCTION @extschema@.session_hit(
	counter_id pg_catalog.text, period pg_catalog.interval, by pg_catalog.int8 = 1,
	max pg_catalog.int8 = NULL, namespace pg_catalog.text = NULL,
	OUT hits pg_catalog.int8, OUT remaining pg_catalog.int8, OUT resets_at pg_catalog.timestamptz)
	RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_hit_1_0';
COMMENT ON FUNCTION @extschema@.session_hit(pg_catalog.text, pg_catalog.interval, pg_catalog.int8, pg_catalog.int8, pg_catalog.text) IS
	'session_store: add to a counter over a fixed period that begins with the first hit; 0 reads it, a negative number takes hits back';

CREATE FUNCTION @extschema@.session_hit_reset(
	counter_id pg_catalog.text, namespace pg_catalog.text = NULL) RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_hit_reset_1_0';
COMMENT ON FUNCTION @extschema@.session_hit_reset(pg_catalog.text, pg_catalog.text) IS
	'session_store: remove a counter; returns whether its period was running';

--
-- Many sessions.
--
CREATE FUNCTION @extschema@.session_delete_all(
	owner pg_catalog.text, except_session_id pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_delete_all_1_0';
COMMENT ON FUNCTION @extschema@.session_delete_all(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: end all sessions of an owner, except perhaps one; returns the number of sessions ended';

CREATE FUNCTION @extschema@.session_clear(
	namespace pg_catalog.text, id_like pg_catalog.text = NULL, id_prefix pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_clear_1_0';
COMMENT ON FUNCTION @extschema@.session_clear(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: end all sessions of a namespace, or those whose id matches a LIKE pattern or begins with a prefix; returns the number of sessions ended';

CREATE FUNCTION @extschema@.session_count(
	owner pg_catalog.text = NULL, id_like pg_catalog.text = NULL,
	namespace pg_catalog.text = NULL, id_prefix pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_count_1_0';
COMMENT ON FUNCTION @extschema@.session_count(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
	'session_store: count the sessions that are alive, exactly; the cost is proportional to the number of rows';

CREATE FUNCTION @extschema@.session_list(
	owner pg_catalog.text = NULL, id_like pg_catalog.text = NULL, filter pg_catalog.jsonb = NULL,
	after pg_catalog.text = NULL, page_size pg_catalog.int4 = 50, namespace pg_catalog.text = NULL,
	id_prefix pg_catalog.text = NULL, with_data pg_catalog.bool = false)
	RETURNS SETOF @extschema@.session_summary
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 50
	AS 'MODULE_PATHNAME', 'session_list_1_0';
COMMENT ON FUNCTION @extschema@.session_list(pg_catalog.text, pg_catalog.text, pg_catalog.jsonb, pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
	'session_store: return a page of the sessions that are alive, newest first, or with id_prefix in the order of the ids; pass the page_cursor of a row as "after" to continue behind it';

--
-- All data of an owner.
--
CREATE FUNCTION @extschema@.session_export(
	owner pg_catalog.text, after pg_catalog.text = NULL, page_size pg_catalog.int4 = 100,
	namespace pg_catalog.text = NULL,
	OUT page_cursor pg_catalog.text, OUT kind pg_catalog.text, OUT item pg_catalog.jsonb)
	RETURNS SETOF record
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100
	AS 'MODULE_PATHNAME', 'session_export_1_0';
COMMENT ON FUNCTION @extschema@.session_export(pg_catalog.text, pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS
	'session_store: return a page of what the namespace holds of an owner: sessions with messages and members, memberships and events; pass the page_cursor of a row as "after" to continue behind it';

CREATE FUNCTION @extschema@.session_forget(
	owner pg_catalog.text, keep_events pg_catalog.bool = false,
	namespace pg_catalog.text = NULL) RETURNS pg_catalog.jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_forget_1_0';
COMMENT ON FUNCTION @extschema@.session_forget(pg_catalog.text, pg_catalog.bool, pg_catalog.text) IS
	'session_store: end all sessions of an owner and remove messages, memberships and events of the owner; returns what was removed and what remains';

--
-- Upkeep.
--
CREATE FUNCTION @extschema@.session_purge(
	max_rows pg_catalog.int8 = NULL, namespace pg_catalog.text = NULL) RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_purge_1_0';
COMMENT ON FUNCTION @extschema@.session_purge(pg_catalog.int8, pg_catalog.text) IS
	'session_store: remove rows of ended sessions, 10,000 by default; call it again while it returns that many';

CREATE FUNCTION @extschema@.session_health() RETURNS pg_catalog.jsonb
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_health_1_0';
COMMENT ON FUNCTION @extschema@.session_health() IS
	'session_store: return the state of the extension, with warnings and their remedies';

CREATE FUNCTION @extschema@.session_metrics() RETURNS pg_catalog.text
	LANGUAGE C STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'session_metrics_1_0';
COMMENT ON FUNCTION @extschema@.session_metrics() IS
	'session_store: return counters and gauges in the Prometheus text format';

--
-- The cache.
--
CREATE FUNCTION @extschema@.session_cache_sync(timeout pg_catalog.interval = '5 seconds')
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_sync_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_sync(pg_catalog.interval) IS
	'session_store: wait until Redis has everything committed before this call; returns false after the timeout or without a cache';

CREATE FUNCTION @extschema@.session_cache_verify(
	sample pg_catalog.int4 = 1000, OUT checked pg_catalog.int8, OUT stale pg_catalog.int8,
	OUT missing pg_catalog.int8, OUT orphaned pg_catalog.int8) RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_verify_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_verify(pg_catalog.int4) IS
	'session_store: compare a sample of the copies in Redis with the table; counts and corrects those that differ';

CREATE FUNCTION @extschema@.session_cache_flush(namespace pg_catalog.text = NULL)
	RETURNS pg_catalog.int8
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_flush_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_flush(pg_catalog.text) IS
	'session_store: delete the copies of a namespace, or of all namespaces, from Redis; returns how many there were';

CREATE FUNCTION @extschema@.session_cache_takeover() RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_cache_takeover_1_0';
COMMENT ON FUNCTION @extschema@.session_cache_takeover() IS
	'session_store: make this server and database the owner of their Redis, in place of any other';

-- (OFFSET keeps the view from being updatable: an update would write to session_samples with the
-- rights of the owner of the view.)
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
	'session_store: statistics of each namespace as of the keeper''s last sample, and the age of the sample';

-- Internal: used by the purge, the functions and the views.
CREATE FUNCTION @extschema@.session_effective_expiry(
	namespace pg_catalog.text, session_id pg_catalog.text, expires_at pg_catalog.timestamptz)
	RETURNS pg_catalog.timestamptz
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_effective_expiry_1_0';
COMMENT ON FUNCTION @extschema@.session_effective_expiry(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz) IS
	'session_store: internal; expires_at, or a later expiry that a pending touch gives the session';

-- Internal: the filter of session_list().  The high cost makes the planner evaluate it last.
CREATE FUNCTION @extschema@.session_contains(
	document pg_catalog.jsonb, filter pg_catalog.jsonb) RETURNS pg_catalog.bool
	LANGUAGE C IMMUTABLE PARALLEL RESTRICTED COST 1000
	AS 'MODULE_PATHNAME', 'session_contains_1_0';
COMMENT ON FUNCTION @extschema@.session_contains(pg_catalog.jsonb, pg_catalog.jsonb) IS
	'session_store: internal; document @> filter, but interruptible and in bounded time';

-- Internal: used by the view conversation_messages.  It reveals nothing beyond its arguments.
CREATE FUNCTION @extschema@.session_alive(
	namespace pg_catalog.text, session_id pg_catalog.text, created_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz, dead_until pg_catalog.timestamptz,
	ttl pg_catalog.interval = '1 day')
	RETURNS pg_catalog.bool
	LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10
	AS 'MODULE_PATHNAME', 'session_alive_1_0';
COMMENT ON FUNCTION @extschema@.session_alive(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.interval) IS
	'session_store: internal; is the session of a row with these values alive?';

-- The messages of the sessions that are alive and that the caller can see.
CREATE VIEW @extschema@.conversation_messages WITH (security_barrier) AS
	SELECT s.namespace, s.session_id, h.seq, h.message, h.created_at
	FROM @extschema@.conversation_sessions s
		JOIN @extschema@.conversation_history h ON h.history_id OPERATOR(pg_catalog.=) s.history_id
	WHERE @extschema@.session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until, s.ttl)
		AND @extschema@.session_may(s.namespace, s.owner_id, s.history_id, 'viewer'::pg_catalog.text);
COMMENT ON VIEW @extschema@.conversation_messages IS
	'session_store: messages of the sessions that are alive and that the caller can see';

-- Internal: at commit, makes the launcher check this database.
CREATE FUNCTION @extschema@.session_store_wake() RETURNS pg_catalog.void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'session_store_wake_1_0';
COMMENT ON FUNCTION @extschema@.session_store_wake() IS
	'session_store: internal; makes the launcher check this database when the transaction commits';

--
-- Tables whose rows belong to the users and must be dumped.
--
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_namespaces', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_sessions', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_history', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conversation_history_ended', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_members', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_operations', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_events', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_counters', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.session_cache_claims', '');

--
-- Neither PUBLIC nor the roles named by ALTER DEFAULT PRIVILEGES (which some platforms set
-- for their web roles) get any privileges by default: revoke everything that was granted,
-- then grant what is intended.
--
-- This includes types: a column with a row type of the extension in another role's table
-- would make DROP EXTENSION fail, and ADD COLUMN in an upgrade.  Before PostgreSQL 17 the row
-- type of a table is not a member of the extension, so types are found through their tables.
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
	-- pg_dump never dumps privileges on the row type of a table, and warns about each one that
	-- is recorded in pg_init_privs
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

-- Policies and the view conversation_messages call these with the rights of the caller.  The
-- one reveals only rights of the caller, the other only properties of a row given to it.
GRANT EXECUTE ON FUNCTION @extschema@.session_alive(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.timestamptz, pg_catalog.interval) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text) TO PUBLIC;

-- For monitoring; these show numbers, never the contents of a session.
GRANT EXECUTE ON FUNCTION @extschema@.session_health(), @extschema@.session_metrics() TO pg_monitor;
GRANT SELECT ON @extschema@.session_stats TO pg_monitor;

SELECT @extschema@.session_store_wake();
