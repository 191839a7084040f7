// Travel assistant: its RedisConversationStore, and one of the same methods over session_store.
import { connect, connectRedis, show } from "../connect.js";

// ---- BEFORE: Redis, and this process' memory while Redis is away
class BeforeStore {
  #memory = new Map();
  constructor(redis, { keyPrefix, ttlSeconds }) {
    Object.assign(this, { redis, keyPrefix, ttlSeconds });
  }
  async set(id, value) {
    const text = JSON.stringify(value);
    await this.redis.set(this.keyPrefix + id, text, { EX: this.ttlSeconds }).catch(() => this.#memory.set(id, text));
  }
  async get(id) {
    const text = await this.redis.get(this.keyPrefix + id).catch(() => this.#memory.get(id));
    return JSON.parse(text ?? null);
  }
  async delete(id) {
    return (await this.redis.del(this.keyPrefix + id).catch(() => Number(this.#memory.delete(id)))) > 0;
  }
}

// ---- AFTER: Postgres keeps the conversations, Redis has copies that it is safe to believe
class RedisConversationStore {
  constructor(sql, redis, { keyPrefix, ttlSeconds }) {
    Object.assign(this, { sql, redis, keyPrefix, ttlSeconds });
  }
  async set(id, value) {
    await this.sql("SELECT session_save($1, $2, make_interval(secs => $3))", id, JSON.stringify(value), this.ttlSeconds);
  }
  async get(id) {
    const keys = ["session_store:lease", this.keyPrefix + id]; // without the lease a copy does not count
    const [lease, copy] = await this.redis.mGet(keys).catch(() => [null, null]);
    return JSON.parse(lease && copy ? copy : await this.sql("SELECT session_get($1)::text", id));
  }
  delete(id) {
    return this.sql("SELECT session_delete($1)", id);
  }
  refreshTTL(id) {
    return this.sql("SELECT session_touch($1) IS NOT NULL", id);
  }
  async getHealth() {
    const start = performance.now();
    const lease = await this.redis.get("session_store:lease").catch(() => null);
    return { connected: this.redis.isReady, latencyMs: performance.now() - start, usingFallback: lease === null };
  }
}

const [redis, sql] = [await connectRedis(), connect("travel_assistant")];
const before = new BeforeStore(redis, { keyPrefix: "before:travel:", ttlSeconds: 3600 });
const after = new RedisConversationStore(sql, redis, { keyPrefix: "travel:", ttlSeconds: 3600 });
const health = async () => {
  const { latencyMs, ...rest } = await after.getHealth();
  return { ...rest, latencyMs: latencyMs < 1000 ? "little" : latencyMs };
};

for (const [name, store] of Object.entries({ before, after })) {
  await store.set("trip", { city: "Lyon" });
  show(`${name}: get`, await store.get("trip"), { city: "Lyon" });
}
show("after: health", await health(), { connected: true, latencyMs: "little", usingFallback: false });

redis.destroy(); // the connection to Redis is gone; the conversation goes on
for (const [name, store] of Object.entries({ before, after })) {
  await store.set("trip", { city: "Nice" });
  show(`${name}: Redis is away, get`, await store.get("trip"), { city: "Nice" });
}
show("after: health", await health(), { connected: false, latencyMs: "little", usingFallback: true });

await redis.connect();
show("before: Redis is back, get is stale", await before.get("trip"), { city: "Lyon" });
show("after: Redis is back, get", await after.get("trip"), { city: "Nice" });
show("after: Redis is up to date", await sql("SELECT session_cache_sync()"), true);
show("after: GET travel:{id}", await redis.get("travel:trip"), '{"city": "Nice"}');
show("after: refreshTTL", [await after.refreshTTL("trip"), await after.refreshTTL("no trip")], [true, false]);
show("after: delete, get", [await after.delete("trip"), await after.get("trip")], [true, null]);
await before.delete("trip");
await Promise.all([sql.end(), redis.close()]);
