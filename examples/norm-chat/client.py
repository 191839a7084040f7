"""Norm-matching chat: conversations of an hour, of a day when complete, and the dashboard."""
import re
import sys
from uuid import uuid4

from psycopg2.extras import Json

sys.path[0] += "/.."
from connect import connect, connect_redis, show, sqlstate, wait_until  # noqa: E402

sql, redis = connect("norm_chat"), connect_redis()
chat, short, big = (str(uuid4()) for _ in range(3))


def metric(name):
    return int(re.search(rf"(?m)^session_store_{name}_total (\d+)$", sql("SELECT session_metrics()"))[1])


# ---- BEFORE: a table, whose documents are read and written whole
sql("""CREATE TEMP TABLE sessions (session_id text PRIMARY KEY, session_data jsonb,
    created_at timestamptz, updated_at timestamptz, expires_at timestamptz); CREATE INDEX ON sessions (expires_at)""")


def save(session_id, data, ttl="1 hour"):
    sql("""INSERT INTO sessions VALUES (%s, %s, now(), now(), now() + %s::interval)
        ON CONFLICT (session_id) DO UPDATE SET session_data = EXCLUDED.session_data,
        updated_at = now(), expires_at = EXCLUDED.expires_at""", session_id, Json(data), ttl)


def get(session_id):
    return sql("SELECT session_data FROM sessions WHERE session_id = %s AND expires_at > now()", session_id)


save(chat, {"norms": []})
one, two = get(chat), get(chat)  # two matchers at work
save(chat, {"norms": one["norms"] + ["DIN 4102"]})
save(chat, {"norms": two["norms"] + ["EN 1634"]})
show("before: norms found by two at once", get(chat)["norms"], ["EN 1634"])
sql("BEGIN")
save(short, {"query": "doors"}, "50 ms")
sql("SELECT pg_sleep(0.1)")
show("before: expired, read in the same transaction", get(short), {"query": "doors"})
sql("COMMIT")

# ---- AFTER: the document for what changes, the history for what is added
sql("SELECT session_save(%s, %s)", chat, Json({"query": "fire doors"}))
for norm in ("DIN 4102", "EN 1634"):
    sql("SELECT session_append(%s, %s)", chat, Json({"norm": norm}))
norms = sql("SELECT array_agg(message ->> 'norm') FROM session_history(%s)", chat)
show("after: norms found by two at once", norms, ["DIN 4102", "EN 1634"])
earlier = {name: metric(name) for name in ("creations", "errors_too_large", "purged")}
count = sql("SELECT session_count()")
sql("BEGIN")
sql("SELECT session_save(%s, '{}', ttl => '50 ms')", short)
sql("SELECT pg_sleep(0.1)")
show("after: expired, read in the same transaction", sql("SELECT session_get(%s)", short), None)
sql("COMMIT")

HOURS = "SELECT round(extract(epoch FROM session_ttl(%s)) / 3600)::int"
active = sql(HOURS, chat)
sql("SELECT session_merge(%s, %s)", chat, Json({"state": "complete"}))
sql("SELECT session_touch(%s, '24 hours')", chat)
show("after: hours left while active, when complete", [active, sql(HOURS, chat)], [1, 24])
show("after: Redis is up to date", sql("SELECT session_cache_sync()"), True)
show("after: GET chat:session:{uuid}", redis.get("chat:session:" + chat), '{"query": "fire doors", "state": "complete"}')

# ---- the dashboard
sql("SELECT session_save(%s, %s)", big, Json({"text": "x" * 1_200_000}))
show("after: 2 MB", sqlstate(sql, "SELECT session_save(%s, %s)", big, Json({"text": "x" * 2_000_000})), "54000")
show("after: active sessions more", sql("SELECT session_count()") - count, 1)
show("after: creations", metric("creations") - earlier["creations"], 2)
show("after: errors", metric("errors_too_large") - earlier["errors_too_large"], 1)
show("after: what expired is removed", wait_until(lambda: metric("purged") > earlier["purged"]), True)
sizes = "SELECT avg_bytes > 100000 AND over_1mb > 0 FROM session_stats WHERE namespace = 'norm_chat'"
show("after: sizes are known", wait_until(sql, sizes), True)  # the keeper takes a sample every 30 seconds
memory = "SELECT (session_health() #>> '{cache,redis_memory_bytes}')::bigint > 0"
show("after: so is the memory of Redis", wait_until(sql, memory), True)
show("after: the end", [sql("SELECT session_delete(%s)", id) for id in (chat, big)], [True, True])
