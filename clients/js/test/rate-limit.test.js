// The store for express-rate-limit: its contract, and the limiter itself.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import express from "express";
import { rateLimit } from "express-rate-limit";
import pg from "pg";
import { SessionStoreRateLimit } from "../src/adapters/rate-limit.js";
import { SessionStore } from "../src/index.js";
import { startServers, waitUntil } from "./support/servers.js";

const HOUR = 3_600_000; // ms

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {SessionStore} */
let store;

before(async () => {
  servers = await startServers({ redis: false });
  await servers.sql("INSERT INTO session_namespaces (name, owner_isolation) VALUES ('isolated', true)");
  pool = new pg.Pool(servers.pg);
  pool.on("error", () => {});
  store = new SessionStore({ pool, namespace: "default" });
});
after(async () => {
  await pool?.end();
  await servers?.stop();
});

let made = 0;
/** A store as a limiter has it, whose counters no other test uses. */
function open({ windowMs = HOUR, prefix = `test${++made}:`, over = store } = {}) {
  const limits = new SessionStoreRateLimit({ store: over, prefix });
  limits.init({ windowMs });
  return limits;
}

/**
 * An application behind a limiter.
 *
 * @param {Partial<import("express-rate-limit").Options>} options
 * @param {(url: string) => Promise<void>} body
 */
async function withApp(options, body) {
  const app = express();
  app.use(rateLimit({ windowMs: HOUR, store: open(), keyGenerator: () => "client", ...options }));
  app.get("/", (request, response) => void response.status(Number(request.query.status ?? 200)).send("ok"));
  app.use(
    /** @type {express.ErrorRequestHandler} */
    (error, _request, response, _next) => void response.status(500).send(error.name),
  );
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await body(`http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("hits count within a window that the first one begins and none extends", async () => {
  const limits = open();
  const earliest = Date.now() + HOUR - 1000;
  const first = await limits.increment("client");
  assert.equal(first.totalHits, 1);
  assert(
    first.resetTime &&
      first.resetTime.getTime() >= earliest &&
      first.resetTime.getTime() <= Date.now() + HOUR + 1000,
  );
  assert.deepEqual(await limits.increment("client"), { totalHits: 2, resetTime: first.resetTime });
  assert.deepEqual(await limits.get("client"), { totalHits: 2, resetTime: first.resetTime });
  assert.deepEqual(await limits.increment("another"), { ...(await limits.get("another")), totalHits: 1 });
});

test("get() counts nothing, and is undefined for a client without hits", async () => {
  const limits = open();
  assert.equal(await limits.get("client"), undefined);
  assert.equal(await limits.get("client"), undefined);
  assert.equal((await limits.increment("client")).totalHits, 1);
});

test("decrement() takes a hit back, and never more than there are", async () => {
  const limits = open();
  await limits.decrement("client");
  assert.equal(await limits.get("client"), undefined);
  const { resetTime } = await limits.increment("client");
  await limits.increment("client");
  for (const left of [1, 0, 0]) {
    await limits.decrement("client");
    assert.deepEqual(await limits.get("client"), { totalHits: left, resetTime });
  }
  assert.equal((await limits.increment("client")).totalHits, 1);
});

test("resetKey() forgets one client", async () => {
  const limits = open();
  await limits.increment("client");
  await limits.increment("another");
  await limits.resetKey("client");
  assert.equal(await limits.get("client"), undefined);
  assert.equal((await limits.get("another"))?.totalHits, 1);
  assert.equal((await limits.increment("client")).totalHits, 1);
  await limits.resetKey("nobody");
});

test("a new window begins when the old one is over", async () => {
  const limits = open({ windowMs: 300 });
  await limits.increment("client");
  await waitUntil(async () => (await limits.get("client")) === undefined, "the window is over");
  assert.equal((await limits.increment("client")).totalHits, 1);
});

test("limiters share counters by their prefix", async () => {
  const [one, same] = [open({ prefix: "shared:" }), open({ prefix: "shared:" })];
  await one.increment("client");
  assert.equal((await same.increment("client")).totalHits, 2);
  assert.equal((await open().increment("client")).totalHits, 1);
});

test("any key is a client of its own", async () => {
  const keys = [
    "",
    "x".repeat(1000),
    "x".repeat(999),
    "\u0000",
    "\n",
    "\ud800",
    "\udfff",
    "::1",
    "__proto__",
    "%",
  ];
  const limits = open();
  for (const key of keys) assert.equal((await limits.increment(key)).totalHits, 1, JSON.stringify(key));
  for (const key of keys) assert.equal((await limits.increment(key)).totalHits, 2);
  for (const key of keys) await limits.resetKey(key);
  for (const key of keys) assert.equal(await limits.get(key), undefined);
});

test("clients who come at once are all counted", async () => {
  const [one, two] = [open({ prefix: "at-once:" }), open({ prefix: "at-once:" })];
  const hits = await Promise.all(
    Array.from({ length: 60 }, (_, i) => (i % 2 ? one : two).increment("client")),
  );
  assert.deepEqual(
    hits.map(({ totalHits }) => totalHits).sort((a, b) => a - b),
    Array.from({ length: 60 }, (_, i) => i + 1),
  );
});

test("a window that is none, and a namespace with owner isolation, are errors", async () => {
  for (const windowMs of [0, -1, NaN, Infinity])
    await assert.rejects(open({ windowMs }).increment("client"), { name: "InvalidArgumentError" });
  await servers.sql("CREATE ROLE app LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO app");
  const app = new pg.Pool({ ...servers.pg, user: "app" });
  const limits = new SessionStoreRateLimit({ store: new SessionStore({ pool: app, namespace: "isolated" }) });
  limits.init({ windowMs: HOUR });
  await assert.rejects(limits.increment("client"), { name: "NotAllowedError" });
  await app.end();
});

test("two processes let exactly the limit through", { timeout: 300_000 }, async () => {
  const limit = 25;
  const program = fileURLToPath(new URL("support/rate-limited-app.js", import.meta.url));
  const apps = [0, 1].map(() =>
    spawn(process.execPath, [program], {
      env: { ...process.env, ...servers.env, SS_LIMIT: String(limit) },
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  try {
    const ports = await Promise.all(
      apps.map(async (app) => Number(String((await once(app.stdout, "data"))[0]))),
    );
    const answers = await Promise.all(
      Array.from({ length: 80 }, (_, i) => fetch(`http://127.0.0.1:${ports[i % 2]}/`)),
    );
    const count = (/** @type {number} */ status) =>
      answers.filter((answer) => answer.status === status).length;
    assert.deepEqual([count(200), count(429)], [limit, 80 - limit]);
  } finally {
    for (const app of apps) app.kill();
  }
});

test("headers say what is left and when the window ends", async () => {
  await withApp({ limit: 2, standardHeaders: "draft-6", legacyHeaders: false }, async (url) => {
    const answers = [await fetch(url), await fetch(url), await fetch(url)];
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [200, 200, 429],
    );
    assert.deepEqual(
      answers.map((answer) => answer.headers.get("ratelimit-remaining")),
      ["1", "0", "0"],
    );
    const reset = Number(answers[2].headers.get("ratelimit-reset"));
    assert(reset > 3000 && reset <= 3601, `${reset} s`);
  });
});

test("requests that failed are taken back", async () => {
  await withApp({ limit: 2, skipFailedRequests: true }, async (url) => {
    for (let i = 0; i < 5; i++) assert.equal((await fetch(url + "?status=500")).status, 500);
    await waitUntil(async () => (await fetch(url)).status === 200, "a hit that was taken back is free");
  });
});

test(
  "the server away: refused, or let through with passOnStoreError, and it counts again afterwards",
  { timeout: 300_000 },
  async () => {
    const quiet = { error() {}, warn() {} };
    await withApp({ limit: 3, passOnStoreError: true, logger: quiet }, (open) =>
      withApp({ limit: 3, passOnStoreError: false, logger: quiet }, async (closed) => {
        for (const url of [open, closed]) assert.equal((await fetch(url)).status, 200);
        await servers.stopPostgres();
        try {
          assert.equal((await fetch(open)).status, 200);
          const refused = await fetch(closed);
          assert.deepEqual([refused.status, await refused.text()], [500, "UnavailableError"]);
        } finally {
          await servers.startPostgres();
        }
        for (const url of [open, closed]) {
          assert.equal((await fetch(url)).status, 200);
          assert.equal((await fetch(url)).status, 200);
          assert.equal((await fetch(url)).status, 429);
        }
      }),
    );
  },
);

test(
  "the pool exhausted: an error in time, and it counts again afterwards",
  { timeout: 300_000 },
  async () => {
    const small = new pg.Pool({ ...servers.pg, max: 1, connectionTimeoutMillis: 500 });
    const limits = open({ over: new SessionStore({ pool: small, namespace: "default" }) });
    const held = await small.connect();
    await assert.rejects(limits.increment("client"), { name: "UnavailableError" });
    held.release();
    await waitUntil(() => limits.increment("client"), "a connection is free in time");
    await small.end();
  },
);
