// The class SessionStore, on real servers: arguments, values, errors, reads from Redis, transactions, aborts, faults.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Redis } from "ioredis";
import pg from "pg";
import { createClient } from "redis";
import * as client from "session_store";
import { startServers, waitUntil } from "./support/servers.js";

const { SessionStore } = client;
/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {any} */
let redis;
/** @type {client.SessionStore} */
let store;

before(async () => {
  servers = await startServers();
  await servers.sql(`INSERT INTO session_namespaces (name, key_prefix, ttl, cache, hash_keys, tail_prefix) VALUES
    ('web', 'web:', '1 day', 'all', false, 'tail:'), ('hashed', 'hashed:', '1 day', 'all', true, NULL)`);
  pool = newPool();
  redis = createClient({ ...servers.redis, disableOfflineQueue: true });
  redis.on("error", () => {});
  await redis.connect();
  store = new SessionStore({ pool, namespace: "web" });
  await servers.cacheReady();
});

after(async () => {
  redis?.destroy();
  await pool?.end();
  await servers?.stop();
});

function newPool(options = {}) {
  const made = new pg.Pool({ ...servers.pg, max: 4, connectionTimeoutMillis: 60_000, ...options });
  made.on("error", () => {}); // an idle connection that the server has closed
  return made;
}

/** A pool that counts its statements, and tells the last. */
function counted() {
  const db = {
    count: 0,
    last: /** @type {any} */ (undefined),
    query(/** @type {any} */ query) {
      db.count++;
      db.last = query;
      return pool.query(query);
    },
  };
  return db;
}

const camel = (/** @type {string} */ name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** A value for an argument by which it can be known, and what it is sent as. */
function sentinel(/** @type {string} */ type, /** @type {number} */ i) {
  if (type === "jsonb") return [{ argument: i }, JSON.stringify({ argument: i })];
  if (type === "interval") return [1000 + i, `${1000 + i} milliseconds`];
  if (type === "timestamp with time zone") return [new Date(i * 1000), new Date(i * 1000).toISOString()];
  if (type === "boolean") return [true, true];
  if (type === "text[]") return [["argument" + i], ["argument" + i]];
  return type === "text" ? ["argument" + i, "argument" + i] : [1000 + i, 1000 + i];
}

test("each function is a method, and each of its arguments gets to its place", async (t) => {
  const internal = /^session_(contains|effective_expiry|alive|store_wake|may|json_.*)$/;
  const functions = (
    await servers.sql(`SELECT proname AS name, proargnames[1:pronargs]::text[] AS args, pronargs - pronargdefaults AS required,
        ARRAY(SELECT format_type(unnest(proargtypes), NULL)) AS types
      FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
      WHERE proname LIKE 'session\\_%' AND prorettype <> 'trigger'::regtype`)
  ).filter(({ name }) => !internal.test(name));
  assert.ok(functions.length > 40);
  for (const { name, args, required, types } of functions) {
    /** @type {any} */
    let sent;
    const recorder = {
      query: async (/** @type {any} */ query) => (
        (sent = query),
        { rows: [[null]], fields: [{ name: "", dataTypeID: 25 }] }
      ),
    };
    const recording = /** @type {any} */ (new SessionStore({ client: recorder, namespace: "the namespace" }));
    /** @type {any[]} */ const positional = [];
    /** @type {any} */ const options = {};
    const expected = (args ?? []).map((/** @type {string} */ arg, /** @type {number} */ i) => {
      if (arg === "namespace") return "the namespace";
      const [value, text] = sentinel(types[i], i);
      if (i < required || (name === "session_create" && arg === "data")) positional.push(value);
      else options[camel(arg)] = value;
      return text;
    });
    const method = camel(name.replace(/^session_/, ""));
    assert.equal(typeof recording[method], "function", name);
    await recording[method](...positional, options).catch(() => {}); // the row of the recorder is none of its rows
    assert.match(sent.text, new RegExp(`\\b${name}\\(`));
    assert.deepEqual(sent.values, expected, name);
  }
  t.diagnostic(`${functions.length} functions`);
});

test("a document comes back as it was", async () => {
  const documents = [
    null,
    true,
    0,
    -1.5e-7,
    1e21,
    "",
    "ä€😀",
    [],
    {},
    [null],
    { a: { b: [1, "2", null] } },
    "a\u0000b",
    "\ud800",
    "\udc00\ud800",
    "\u0010",
    "\u00100000",
    "\\u0000",
    "\\\\u0010",
    '"\\\u0010\\"',
    { "\u0000key\ud83d": "\u0010d800", __proto__x: 1 },
    JSON.parse('{"__proto__": {"a": 1}, "constructor": 1}'),
  ];
  for (const document of documents) {
    await store.save("document", document);
    assert.deepEqual(await store.get("document"), document);
    const [row] = await store.getMany(["document"]);
    assert.deepEqual(row, document);
  }
  assert.equal(await store.get("nothing"), undefined);
  assert.deepEqual(await store.getMany(["nothing", "document"]), [undefined, documents.at(-1)]);
});

test("what SQL encodes is what this client encodes", async () => {
  for (const value of ["a\u0000b", "\ud800\u0010", "\u00100000", { "\udfff": ["\u0000"] }]) {
    await store.save("encoded", value);
    const same = `SELECT session_get('encoded', 'web') = session_json_encode($1) AS same`;
    assert.equal(await servers.value(same, [JSON.stringify(value)]), true, JSON.stringify(value));
  }
});

test("values without JSON, and ids that cannot be sent, are refused", async () => {
  for (const value of [undefined, () => 1, Symbol("s"), 1n]) {
    await assert.rejects(store.save("refused", value), TypeError);
  }
  await assert.rejects(store.save(/** @type {any} */ (5), {}), TypeError);
  await assert.rejects(store.save("\ud800", {}), client.InvalidArgumentError);
  await assert.rejects(store.save("refused", {}, { ttl: NaN }), client.InvalidArgumentError);
  for (const id of ["", "a\u0000b", "a\nb", "x".repeat(201)]) {
    await assert.rejects(store.save(id, {}), client.InvalidArgumentError, JSON.stringify(id));
  }
});

test("results have the types of JavaScript", async () => {
  const started = Date.now();
  assert.equal(await store.save("types", { n: 1 }, { ttl: 60_000, owner: "ada" }), 1);
  const row = /** @type {any} */ (await store.fetch("types"));
  assert.ok(row.createdAt instanceof Date && Math.abs(row.createdAt.getTime() - started) < 3_600_000);
  assert.deepEqual(
    { ...row, createdAt: 0, updatedAt: 0, expiresAt: row.expiresAt - row.updatedAt },
    {
      namespace: "web",
      sessionId: "types",
      sessionData: { n: 1 },
      ownerId: "ada",
      version: 1,
      createdAt: 0,
      updatedAt: 0,
      expiresAt: 60_000,
      messageCount: 0,
    },
  );
  const ttl = /** @type {number} */ (await store.ttl("types"));
  assert.ok(ttl > 0 && ttl <= 60_000);
  assert.equal(await store.ttl("nothing"), undefined);
  const end = new Date(Date.now() + 7_200_000);
  assert.deepEqual(await store.touch("types", { expiresAt: end }), end);
  assert.equal(await store.incr("types", ["n"], { by: 0.25 }), 1.25);
  assert.equal(await store.incr("types", ["n"], { max: 2 }), undefined);
  const hits = await store.hit("limit", "1 minute", { max: 2 });
  assert.deepEqual([hits.hits, hits.remaining], [1, 1]);
  assert.ok(hits.resetsAt instanceof Date);
  assert.deepEqual(await store.hit("unused", null, { by: 0 }), { hits: 0, remaining: null, resetsAt: null });
  assert.equal(await store.exists("types"), true);
  assert.deepEqual((await store.health()).warnings, []);
});

test("a ttl of Infinity keeps a session until it is deleted", async () => {
  await store.save("for ever", {}, { ttl: Infinity });
  assert.ok(/** @type {number} */ (await store.ttl("for ever")) > 99 * 365 * 86_400_000);
  await store.save("for ever", {}, { ttl: 1000 });
  assert.ok(/** @type {number} */ (await store.ttl("for ever")) <= 1000);
});

test("histories, windows, tails and summaries", async () => {
  const said = [1, 2, 3, 4, 5].map((n) => ({ role: "user", content: `message ${n}` }));
  assert.equal(await store.append("talk", said, { operationId: "op", patch: { title: "t" } }), 5);
  assert.equal(await store.append("talk", said, { operationId: "op", patch: { title: "t" } }), 5);
  assert.deepEqual(
    (await store.history("talk", { last: 2 })).map(({ seq }) => seq),
    [4, 5],
  );
  for (const pageSize of [1, 2, 5, 6]) {
    const read = [];
    for await (const { message } of store.messages("talk", { pageSize })) read.push(message);
    assert.deepEqual(read, said, `pages of ${pageSize}`);
  }
  assert.deepEqual(
    (await store.window("talk", { maxMessages: 2 })).map(({ seq }) => seq),
    [4, 5],
  );
  assert.equal(await store.compact("talk", 3, "what was said"), 3);
  assert.deepEqual(await store.tail("talk"), [{ summary: "what was said" }, said[3], said[4]]);
  assert.deepEqual(await store.pop("talk"), [said[4]]);
  assert.equal(await store.replaceTail("talk", 1, [said[4]], { expected: [said[3]] }), 6);
  await assert.rejects(store.replaceTail("talk", 1, [], { expected: [said[0]] }), client.ConflictError);
});

test("lists and exports are read by pages", async () => {
  for (let i = 0; i < 5; i++) await store.save(`list:${i}`, { i }, { owner: "lister" });
  const read = [];
  for await (const row of store.sessions({ idPrefix: "list:", pageSize: 2, withData: true }))
    read.push(row.sessionData.i);
  assert.deepEqual(read, [0, 1, 2, 3, 4]);
  let items = 0;
  for await (const { kind } of store.exportAll("lister", { pageSize: 2 }))
    items += kind === "session" ? 1 : 0;
  assert.equal(items, 5);
  assert.equal(await store.count({ owner: "lister" }), 5);
  assert.equal(await store.deleteAll("lister", { exceptSessionId: "list:3" }), 4);
  assert.equal((await store.forget("lister")).sessions, 1);
  await store.save("list:5", {});
  assert.equal(await store.clear({ idPrefix: "list:" }), 1);
  const plain = new SessionStore({ pool });
  await plain.save("in the namespace of the setting", {});
  assert.equal(await plain.clear({ idLike: "in the %" }), 1);
});

test("errors have a class by their SQLSTATE", async () => {
  await store.save("errors", {});
  await assert.rejects(store.save("errors", {}, { ifVersion: 99 }), client.ConflictError);
  await store.append("errors", { n: 1 }, { operationId: "op" });
  await assert.rejects(store.append("errors", { n: 2 }, { operationId: "op" }), client.OperationReusedError);
  await assert.rejects(store.save("errors", {}, { turn: 5 }), client.TurnLostError);
  await assert.rejects(store.save("errors", "x".repeat(9_000_000)), client.TooLargeError);
  await assert.rejects(store.with({ namespace: "none" }).get("errors"), client.NoNamespaceError);
  await store.delete("errors");
  await assert.rejects(store.save("errors", {}), (/** @type {any} */ error) => {
    assert.ok(error instanceof client.DeadSessionError && error instanceof client.SessionStoreError);
    assert.deepEqual([error.name, error.code], ["DeadSessionError", "SST10"]);
    assert.ok(error.hint && error.detail && error.cause);
    return true;
  });
  await servers.sql("CREATE ROLE nobody LOGIN");
  const nobody = newPool({ user: "nobody" });
  await assert.rejects(new SessionStore({ pool: nobody }).get("errors"), client.NotAllowedError);
  await nobody.end();
});

test("a session of another store is adopted once, and never after a logout", async () => {
  const id = "adopted-0123456789";
  const answers = await Promise.all(
    [1, 2, 3].map((n) => store.adopt(id, { n }, { ttl: 60_000, owner: "ada" })),
  );
  assert.deepEqual(answers.sort(), [false, false, true]);
  assert.equal((await store.fetch(id))?.ownerId, "ada");
  await store.delete(id);
  await assert.rejects(store.adopt(id, {}), client.DeadSessionError);
  await assert.rejects(store.adopt("short", {}), client.InvalidArgumentError);

  // it is logged out between the attempt and the look whether it is alive
  const other = "adopted-9876543210";
  await store.save(other, {});
  let statements = 0;
  const db = {
    query: async (/** @type {any} */ query) => {
      if (++statements === 2) await store.delete(other);
      return pool.query(query);
    },
  };
  await assert.rejects(
    new SessionStore({ client: db, namespace: "web" }).adopt(other, {}),
    client.DeadSessionError,
  );
  assert.equal(statements, 3);
});

test("calls on a client are part of its transaction", async () => {
  const own = await pool.connect();
  try {
    await own.query("BEGIN");
    const inside = new SessionStore({ pool, redis, namespace: "web" }).using(own);
    await inside.save("in transaction", { n: 1 });
    assert.deepEqual(await inside.get("in transaction"), { n: 1 });
    assert.equal(await store.get("in transaction"), undefined);
    await own.query("ROLLBACK");
    assert.equal(await inside.get("in transaction"), undefined);
  } finally {
    own.release();
  }
});

test("prepare: a statement is parsed once for each connection", async () => {
  const own = await pool.connect();
  try {
    const prepared = new SessionStore({ client: own, namespace: "web", prepare: true });
    await prepared.get("a");
    await prepared.get("b");
    await prepared.save("a", {});
    await prepared.save("a", {}, { owner: "ada" });
    const { rows } = await own.query("SELECT name FROM pg_prepared_statements");
    assert.equal(rows.length, 2);
    assert.ok(rows.every(({ name }) => name.length < 64)); // the server tells no more apart
  } finally {
    own.release();
  }
});

test("a schema may be given", async () => {
  const other = await pool.connect();
  try {
    await other.query("SET search_path = pg_catalog");
    await assert.rejects(new SessionStore({ client: other }).get("x"));
    assert.equal(await new SessionStore({ client: other, schema: "public" }).get("x"), undefined);
    assert.equal(
      await new SessionStore({ client: other, schema: "public" }).adopt("adopted-in-a-schema", {}),
      true,
    );
  } finally {
    await other.query("RESET search_path");
    other.release();
  }
});

for (const kind of ["node-redis", "ioredis"]) {
  test(`reads from Redis with ${kind}: plain, strong, hashed, many, tails`, async () => {
    const ioredis = kind === "ioredis" ? new Redis(servers.redisSocket) : undefined;
    try {
      if (ioredis) await waitUntil(() => ioredis.status === "ready");
      const db = counted();
      const id = `copied by ${kind}`;
      const options = { client: db, redis: ioredis ?? redis, tailPrefix: "tail:", redisTimeout: 60_000 };
      const strong = new SessionStore({ ...options, namespace: "web" });
      const plain = strong.with({ reads: "plain" });
      const hashed = strong.with({ namespace: "hashed", hashKeys: true });
      await strong.save(id, { n: "\u0000" });
      await strong.append(id, { m: 1 });
      await hashed.save(id, "hashed");
      await servers.cacheReady();
      const before = db.count;
      for (const reader of [strong, plain]) {
        // A copy that the pusher takes away at this moment is read by SQL: so it is read until it comes from Redis.
        await waitUntil(async () => {
          const count = db.count;
          assert.deepEqual(await reader.get(id), { n: "\u0000" });
          return db.count === count;
        }, "a read needs no SQL");
      }
      await waitUntil(async () => {
        const count = db.count;
        assert.equal(await hashed.get(id), "hashed");
        assert.deepEqual(await strong.tail(id), [{ m: 1 }]);
        return db.count === count;
      }, "hashed keys and tails need no SQL");
      assert.ok(db.count >= before);
      const many = await strong.getMany([id, "not there", id]);
      assert.deepEqual(many, [{ n: "\u0000" }, undefined, { n: "\u0000" }]);
      assert.equal(db.last.text.includes("session_get_many"), true);
      assert.deepEqual(db.last.values[0], ["not there"]);
      await strong.delete(id);
      assert.equal(await strong.get(id), undefined);
    } finally {
      ioredis?.disconnect();
    }
  });
}

test("the copies of the default namespace are under session:, and must be asked for by its name", async () => {
  const db = counted();
  const strong = new SessionStore({ client: db, redis, namespace: "default", redisTimeout: 60_000 });
  await strong.save("of the default", { n: 1 });
  await waitUntil(async () => {
    const count = db.count;
    assert.deepEqual(await strong.get("of the default"), { n: 1 });
    return db.count === count;
  }, "a read needs no SQL");
  assert.throws(() => new SessionStore({ pool, redis }), /needs a namespace/);
  assert.throws(() => new SessionStore({ pool, redis }).with({ reads: "plain" }), /needs a namespace/);
  assert.equal(await new SessionStore({ pool, redis, reads: "sql" }).get("nothing"), undefined);
});

test("a strong read does not trust a copy without a lease", async () => {
  const other = createClient(servers.redis);
  await other.connect();
  // another Redis database: it has a copy that nobody writes, and no lease
  await other.select(5);
  await other.set("web:forged", '{"forged": true}');
  try {
    const strong = new SessionStore({ pool, redis: other, namespace: "web" });
    assert.equal(await strong.get("forged"), undefined);
    assert.deepEqual(await strong.with({ reads: "plain" }).get("forged"), { forged: true });
  } finally {
    await other.flushDb();
    other.destroy();
  }
});

test("an id that cannot be sent is refused before Redis is asked", async () => {
  const other = { isReady: true, mGet: async () => ["lease", '"of another session"'] }; // whose id has U+FFFD
  const strong = new SessionStore({ pool, redis: other, namespace: "web", tailPrefix: "tail:" });
  assert.equal(await strong.get("\ufffd"), "of another session");
  for (const read of [strong.get("\ud800"), strong.getMany(["\ud800"]), strong.tail("\ud800")])
    await assert.rejects(read, client.InvalidArgumentError);
  await assert.rejects(strong.get(/** @type {any} */ (5)), TypeError);
});

test("a copy that is no JSON, and a Redis of another kind, are no errors", async () => {
  const closed = createClient(servers.redis); // never connected
  const strong = new SessionStore({ pool, redis: closed, namespace: "web" });
  await strong.save("no redis", { n: 1 });
  assert.deepEqual(await strong.get("no redis"), { n: 1 });
  const wrong = { isReady: true, mGet: async () => "nonsense" };
  assert.deepEqual(await store.with({ redis: wrong, reads: "strong" }).get("no redis"), { n: 1 });
  const broken = { isReady: true, mGet: async () => ["1", "{"] };
  assert.deepEqual(await store.with({ redis: broken, reads: "strong" }).get("no redis"), { n: 1 });
});

test("Redis hangs, goes away and comes back: reads go on, by SQL meanwhile", async () => {
  const db = counted();
  const strong = new SessionStore({ client: db, redis, namespace: "web" });
  await strong.save("fault", { n: 1 });
  const fromRedis = async () => {
    const count = db.count;
    assert.deepEqual(await strong.get("fault"), { n: 1 });
    return db.count === count;
  };
  await waitUntil(fromRedis, "reads from Redis");
  await servers.hangRedis();
  try {
    assert.equal(await fromRedis(), false);
    assert.equal(await fromRedis(), false);
  } finally {
    await servers.resumeRedis();
  }
  await waitUntil(fromRedis, "reads from Redis after it hung");
  await servers.killRedis();
  assert.equal(await fromRedis(), false);
  await servers.startRedis();
  await waitUntil(fromRedis, "reads from Redis after it was away");
});

test("abort: while waiting for a connection, and while the server waits", async () => {
  const small = newPool({ max: 1 });
  try {
    const one = new SessionStore({ pool: small, namespace: "web" });
    const held = await small.connect();
    const controller = new AbortController();
    const waiting = one.get("a", { signal: controller.signal });
    controller.abort(new Error("no longer wanted"));
    await assert.rejects(waiting, /no longer wanted/);
    held.release();
    assert.deepEqual(await one.get("a", { signal: new AbortController().signal }), await one.get("a"));
    await assert.rejects(one.get("a", { signal: AbortSignal.abort() }), { name: "AbortError" });

    await store.save("turn", {});
    await store.turnBegin("turn", { ttl: "1 hour" });
    const second = new AbortController();
    const beginning = one.turnBegin("turn", { wait: "1 hour", signal: second.signal });
    beginning.catch(() => {});
    const waits = `SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%session_turn_begin(%' AND state = 'active'
      AND pid <> pg_backend_pid()`;
    await waitUntil(async () => (await servers.value(waits)) === 1, "the call waits");
    second.abort();
    await assert.rejects(beginning, { name: "AbortError" });
    await waitUntil(async () => (await servers.value(waits)) === 0, "the server waits no more");
    assert.equal(await one.exists("turn"), true);
  } finally {
    await small.end();
  }
});

test("a pool without a free connection, and a server that restarts, are UnavailableErrors", async () => {
  const small = newPool({ max: 1, connectionTimeoutMillis: 200 });
  try {
    const one = new SessionStore({ pool: small, namespace: "web" });
    const held = await small.connect();
    await assert.rejects(one.get("a"), client.UnavailableError);
    await assert.rejects(one.get("a", { signal: new AbortController().signal }), client.UnavailableError);
    held.release();
    await waitUntil(async () => (await one.exists("a")) !== undefined);
    await servers.stopPostgres();
    await assert.rejects(one.save("a", {}), client.UnavailableError);
    await assert.rejects(one.save("a", {}), (/** @type {any} */ error) => {
      assert.deepEqual([error.code, error.cause.code], [undefined, "ENOENT"]); // no socket, and no SQLSTATE
      return error instanceof client.UnavailableError;
    });
    await servers.startPostgres();
    await waitUntil(async () => (await one.save("a", {})) > 0);
  } finally {
    await small.end();
  }
});
