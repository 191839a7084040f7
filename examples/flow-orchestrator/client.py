"""Flow orchestrator: sessions, cached results and a history, with a Redis or without one."""
import json
import sys
import time
from uuid import uuid4

from psycopg2.extras import Json
from redis import Redis, RedisError
sys.path[0] += "/.."
from connect import connect, connect_redis, show  # noqa: E402

sql, redis = connect("flow_orchestrator"), connect_redis()
away = Redis(port=1, retry=None)  # nobody listens there
ada = uuid4().hex + "-"


class Before:
    """Redis. Optional and fail-safe means: what fails is passed over."""
    def __init__(self, redis):
        self.redis = redis

    def save(self, session_id, data, seconds=86400):
        try:
            self.redis.setex("before:session:" + session_id, seconds, json.dumps(data))
        except RedisError:
            pass

    def load(self, session_id):
        try:
            return json.loads(self.redis.get("before:session:" + session_id) or "null")
        except RedisError:
            return None


class After:
    """Postgres. A Redis, if there is one and it answers, spares the way there."""
    def __init__(self, redis=None):
        self.redis = redis

    def save(self, session_id, data, seconds=86400):
        sql("SELECT session_save(%s, %s, ttl => make_interval(secs => %s))", session_id, Json(data), seconds)

    def load(self, session_id):
        keys = "session_store:lease", "agentic_flywheel:session:" + session_id
        try:
            if self.redis and all(found := self.redis.mget(keys)):  # without the lease a copy does not count
                return json.loads(found[1])
        except RedisError:
            pass
        return sql("SELECT session_get(%s)", session_id)


for name, Store, loaded in (("before", Before, None), ("after", After, {"step": 1})):
    Store(away).save(ada + name, {"step": 1})
    show(f"{name}: saved while Redis is away, loaded then", Store(away).load(ada + name), loaded)
    show(f"{name}: .. and when it is back", Store(redis).load(ada + name), loaded)

store = After(redis)
store.save(ada + "week", {"step": 1}, 7 * 86400)
start = time.perf_counter()
for step in range(2, 52):
    store.save(ada + "week", {"step": step})
    assert store.load(ada + "week") == {"step": step}  # what was just saved, from wherever it comes
show("after: save and load in less than 50 ms", time.perf_counter() - start < 50 * 0.05, True)
show("after: load without a Redis", After().load(ada + "week"), {"step": 51})
found = "SELECT array_agg(substr(session_id, 34)) FROM session_list(id_like => %s)"
show("after: list by pattern", sql(found, ada + "%"), ["week", "after"])
show("after: delete", [sql("SELECT session_delete(%s)", ada + id) for id in ("after", "week")], [True, True])
show("after: list by pattern", sql(found, ada + "%"), None)

# results of an hour, and what was executed: said twice, for a retry, and written down once
execution, flow = uuid4().hex, ada + "42:summary"
for _ in range(2):
    sql("SELECT session_save(%s, %s, namespace => 'flow_executions')", execution, Json({"tokens": 42}))
    sql("SELECT session_append(%s, %s, %s, 'flow_history')", flow, Json({"execution": execution}), execution)
show("after: result", sql("SELECT session_get(%s, 'flow_executions')", execution), {"tokens": 42})
show("after: Redis is up to date", sql("SELECT session_cache_sync()"), True)
tail = json.loads(redis.get("agentic_flywheel:history:" + flow))
show("after: GET agentic_flywheel:history:<session>:<flow>", [m["execution"] == execution for m in tail], [True])
