// Report dialogue agent, and the service that retries its reports: at most 3 attempts each.
import { randomUUID } from "node:crypto";
import { connect, connectRedis, show, sqlstate } from "../connect.js";

const redis = await connectRedis();
const session = randomUUID();
const retry = `${session}-pdf`; // one context for each session and capsule type

// ---- BEFORE: the wrapper around Redis, a document under a key

const before = {
  save: (key, value, seconds) => redis.setEx(key, seconds, JSON.stringify(value)),
  load: async (key) => JSON.parse(await redis.get(key)),
  drop: (key) => redis.del(key),
};

const key = `before:retry-${retry}`;
await before.save(key, { attempts: 0 }, 3600);
// four workers take the same report: each reads the context, adds one, and writes it back
const contexts = await Promise.all([1, 2, 3, 4].map(() => before.load(key)));
show("before: attempts left, say four workers", contexts.filter((c) => c.attempts < 3).length, 4);
await Promise.all(contexts.map((c) => before.save(key, { ...c, attempts: c.attempts + 1 }, 3600)));
show("before: attempts counted of their four", (await before.load(key)).attempts, 1);
await before.drop(key);

// ---- AFTER

const agent = connect("report_agent");
const workers = [1, 2, 3, 4].map(() => connect("report_retries")); // a connection each
const [service] = workers;

const attempt = async (worker) => Number(await worker("SELECT session_incr($1, '{attempts}', max => 3)", retry)) || null;
const numbers = await Promise.all(workers.map(attempt));
show("after: four workers at once are told", numbers.sort((a, b) => (a ?? 9) - (b ?? 9)), [1, 2, 3, null]);
show("after: another attempt", await attempt(service), null);
show("after: attempts counted", (await service("SELECT session_get($1)", retry)).attempts, 3);

// success deletes the context; the same report may be made, and fail, again
show("after: success", await service("SELECT session_delete($1)", retry), true);
show("after: the context", await service("SELECT session_get($1)", retry), null);
show("after: the same name starts again at", await attempt(service), 1);

// the dialogue: whole once, then in parts
const dialogue = { topic: "energy", step: 2, draft: null };
await agent("SELECT session_save($1, $2)", session, dialogue);
const patches = [{ step: 3 }, { capsules: { pdf: "queued" } }, { capsules: { html: "done" } }];
await Promise.all(patches.map((patch) => agent("SELECT session_merge($1, $2)", session, patch)));
const merged = { topic: "energy", step: 3, draft: null, capsules: { pdf: "queued", html: "done" } };
show("after: three changes at once, none lost", await agent("SELECT session_get($1)", session), merged);

// who reads in Redis goes on reading there
show("after: Redis is up to date", await agent("SELECT session_cache_sync()"), true);
show("after: GET session-{uuid}", JSON.parse(await redis.get(`session-${session}`)), merged);
show("after: GET retry-{session}-pdf", JSON.parse(await redis.get(`retry-${retry}`)), { attempts: 1 });
const left = await redis.pTTL(`retry-${retry}`);
show("after: .. for an hour", left > 3_500_000 && left <= 3_600_000, true);

// neither service can touch what is the other's
const foreign = "SELECT session_incr($1, '{attempts}', namespace => 'retries')";
show("after: the agent counts a retry", await sqlstate(agent(foreign, retry)), "42501");
show("after: the agent deletes a context",
  await sqlstate(agent("SELECT session_delete($1, namespace => 'retries')", retry)), "42501");
show("after: the service reads a dialogue",
  await sqlstate(service("SELECT session_get($1, namespace => 'reports')", session)), "42501");

await Promise.all([agent, ...workers].map((connection) => connection.end()));
await redis.close();
