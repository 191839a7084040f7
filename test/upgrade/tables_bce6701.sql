-- The tables of the extension as of commit bce6701, for test/t/083_operations.pl. They are created in
-- the first schema of search_path.

CREATE TABLE session_namespaces (
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

CREATE TABLE conversation_sessions (
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
	fillfactor = 80,
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0.2,
	toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0.2
);

CREATE TABLE conversation_history (
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

CREATE TABLE session_members (
	history_id pg_catalog.uuid NOT NULL,
	member pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	role pg_catalog.text COLLATE pg_catalog."C" NOT NULL DEFAULT 'viewer',
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT session_members_pkey PRIMARY KEY (history_id, member),
	CONSTRAINT session_members_role_check
		CHECK (role OPERATOR(pg_catalog.=) ANY (ARRAY['viewer', 'editor', 'owner']::pg_catalog.text[])),
	CONSTRAINT session_members_member_check
		CHECK (pg_catalog.octet_length(member) OPERATOR(pg_catalog.>=) 1
			   AND pg_catalog.octet_length(member) OPERATOR(pg_catalog.<=) 200)
);

CREATE TABLE conversation_history_ended (
	namespace pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	history_id pg_catalog.uuid NOT NULL,
	from_seq pg_catalog.int8 NOT NULL DEFAULT 0,
	ended_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	entry_id pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	CONSTRAINT conversation_history_ended_pkey PRIMARY KEY (entry_id)
);

CREATE TABLE session_events (
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

CREATE TABLE session_samples (
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

CREATE INDEX conversation_sessions_check_at ON conversation_sessions (check_at);

CREATE INDEX conversation_sessions_created ON conversation_sessions
	(namespace, created_at, session_id COLLATE pg_catalog."POSIX");

CREATE INDEX conversation_sessions_owner ON conversation_sessions
	(namespace, owner_id, created_at, session_id COLLATE pg_catalog."POSIX") WHERE owner_id IS NOT NULL;

CREATE UNIQUE INDEX conversation_sessions_history ON conversation_sessions (history_id)
	WHERE history_id IS NOT NULL;

CREATE UNIQUE INDEX conversation_history_operation ON conversation_history
	(history_id, operation_id) WHERE operation_id IS NOT NULL;

CREATE INDEX session_members_member ON session_members (member COLLATE pg_catalog."POSIX");

CREATE INDEX conversation_history_ended_history ON conversation_history_ended
	(history_id);

ALTER EXTENSION session_store ADD TABLE session_namespaces;

ALTER EXTENSION session_store ADD TABLE conversation_sessions;

ALTER EXTENSION session_store ADD TABLE conversation_history;

ALTER EXTENSION session_store ADD TABLE session_members;

ALTER EXTENSION session_store ADD TABLE conversation_history_ended;

ALTER EXTENSION session_store ADD TABLE session_events;

ALTER EXTENSION session_store ADD TABLE session_samples;
