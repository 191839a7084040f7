// The storage adapter under Keyv 5 and Keyv 6: what a user of a cache may rely on.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { Keyv as Keyv5 } from "keyv";
import { Keyv as Keyv6 } from "keyv-6";
import pg from "pg";
import { createClient } from "redis";
import { SessionStoreKeyv } from "../src/adapters/keyv.js";
import { SessionStore } from "../src/index.js";
import { openStore, testFaults } from "./support/faults.js";
import { startServers, waitUntil } from "./support/servers.js";

const hostileKeys = [
  "x".repeat(1000),
  "é".repeat(100),
  "a\u0000b",
  "line\nfeed",
  "\u0085",
  "\ud800",
  "\udfff",
  "sha256:" + "0".repeat(64),
  "__proto__",
  "constructor",
  "%_\\",
  "'; DROP TABLE conversation_sessions; --",
  "keyv:",
  "\u{1f600}",
  " ",
];

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {SessionStore} */
let store;

before(async () => {
  servers = await startServers();
  await servers.sql("INSERT INTO session_namespaces (name, max_bytes) VALUES ('small', 1000)");
  pool = new pg.Pool(servers.pg);
  pool.on("error", () => {});
  store = new SessionStore({ pool, namespace: "default" });
});
after(async () => {
  await pool?.end();
  await servers?.stop();
});

let made = 0;
/** A namespace that no other test uses. */
const unused = () => "ns" + ++made;
/** @param {AsyncIterable<any>} entries @returns {Promise<any[]>} */
const collect = async (entries) => {
  const all = [];
  for await (const entry of entries) all.push(entry);
  return all;
};
const expiresAt = async (/** @type {string} */ id) =>
  /** @type {any} */ (await store.fetch(id))?.expiresAt.getTime();

for (const [version, Keyv] of /** @type {[string, any][]} */ ([
  ["Keyv 5", Keyv5],
  ["Keyv 6", Keyv6],
]))
  describe(version, () => {
    const isKeyv6 = version === "Keyv 6";
    const off = isKeyv6 ? { serialization: false } : { serialize: undefined, deserialize: undefined };
    /** @param {{ over?: SessionStore, namespace?: string, useKeyPrefix?: boolean }} [options] @returns {any} */
    const open = ({ over = store, ...options } = {}) => {
      const keyv = new Keyv({
        namespace: unused(),
        ...options,
        store: new SessionStoreKeyv({ store: over }),
      });
      keyv.on("error", () => {});
      return keyv;
    };
    /** @param {any} keyv @returns {Promise<[string, any][]>} */
    const entries = async (keyv) => (await collect(keyv.iterator())).sort();

    test("the store holds namespace and key as its id", async () => {
      const keyv = open();
      await keyv.set("key", "value");
      assert.equal(await keyv.get("key"), "value");
      assert.equal(JSON.parse(await store.get(`${keyv.namespace}:key`)).value, "value");
    });

    test("a name is free as soon as it was deleted", async () => {
      const keyv = open();
      for (const value of [1, 2, 3]) {
        assert.equal(await keyv.set("name", value), true);
        assert.equal(await keyv.get("name"), value);
        assert.equal(await keyv.has("name"), true);
        assert.equal(await keyv.delete("name"), true);
        assert.equal(await keyv.get("name"), undefined);
        assert.equal(await keyv.has("name"), false);
        assert.equal(await keyv.delete("name"), false);
      }
    });

    test("a name is free after clear(), and after its session was logged out", async () => {
      const keyv = open();
      await keyv.set("name", 1);
      await keyv.clear();
      assert.equal(await keyv.get("name"), undefined);
      assert.equal(await keyv.set("name", 2), true);
      assert.equal(await keyv.get("name"), 2);
      await store.delete(`${keyv.namespace}:name`);
      assert.equal(await keyv.set("name", 3), true);
      assert.equal(await keyv.get("name"), 3);
    });

    test("what was deleted is purged, and leaves no tombstone", async () => {
      const keyv = open();
      await keyv.set("name", 1);
      await keyv.delete("name");
      await store.purge();
      const left = "SELECT count(*)::int FROM conversation_sessions WHERE session_id = $1";
      assert.equal(await servers.value(left, [`${keyv.namespace}:name`]), 0);
    });

    test("a ttl ends the value in the store, and no read or other set prolongs it", async () => {
      const keyv = open();
      const id = `${keyv.namespace}:key`;
      const earliest = Date.now() + 60_000;
      await keyv.set("key", 1, 60_000);
      const end = await expiresAt(id);
      assert(end >= earliest && end <= Date.now() + 60_000, `${end} is a minute away`);
      await keyv.get("key");
      await keyv.get(["key"]);
      await keyv.has("key");
      assert.equal(await expiresAt(id), end, "the namespace is sliding, but the value is not");
      await keyv.set("key", 2);
      assert((await expiresAt(id)) > Date.now() + 99 * 365 * 86_400_000, "set without a ttl keeps the value");
      await keyv.set("key", 3, 60_000);
      assert((await expiresAt(id)) < Date.now() + 120_000);
    });

    test("a value that has ended is gone from the store", async () => {
      const keyv = open();
      const adapter = /** @type {SessionStoreKeyv} */ (keyv.store); // Keyv would hide the value in any case
      await keyv.setMany([
        { key: "short", value: 1, ttl: 200 },
        { key: "long", value: 2 },
      ]);
      const [short, long] = ["short", "long"].map((key) => (isKeyv6 ? key : `${keyv.namespace}:${key}`));
      await waitUntil(async () => !(await adapter.has(short)), "it has ended");
      assert.equal(await adapter.get(short), undefined);
      assert.deepEqual(await adapter.hasMany([short, long]), [false, true]);
      assert.equal((await adapter.getMany([short]))[0], undefined);
      assert.deepEqual(
        (await collect(adapter.iterator())).map(([key]) => key),
        [long],
      );
      assert.equal(await adapter.delete(short), false);
    });

    test("no ttl, zero, Infinity, NaN and centuries: until it is deleted", async () => {
      const keyv = open();
      for (const ttl of [undefined, 0, Infinity, NaN, 1e15, 1e300]) {
        assert.equal(await keyv.set("key", String(ttl), ttl), true);
        assert.equal(await keyv.get("key"), String(ttl));
        assert((await expiresAt(`${keyv.namespace}:key`)) > Date.now() + 99 * 365 * 86_400_000, String(ttl));
      }
    });

    test("a value whose end has passed is not stored, and replaces the one before", async () => {
      const adapter = new SessionStoreKeyv({ store });
      if (isKeyv6) assert.equal(adapter.capabilities.expires, true);
      for (const end of isKeyv6 ? [0, 1, Date.now() - 1, -1e300] : [-1, -1000, -1e300]) {
        await adapter.set("past", "before");
        await adapter.set("past", "after", end);
        assert.equal(await adapter.get("past"), undefined, String(end));
      }
    });

    test("clear() clears its namespace only, and no counters", async () => {
      const names = ["a_b", "axb", "a_bc", "a%", "a", "a_b:c"];
      const all = names.map((namespace) => open({ namespace }));
      for (const keyv of all) await keyv.set("key", keyv.namespace);
      const counter = unused();
      await store.hit(counter, "1 hour");
      await all[0].clear();
      // what begins with "a_b:" is in the namespace a_b
      const left = await Promise.all(all.map((keyv) => keyv.get("key")));
      assert.deepEqual(left, [undefined, "axb", "a_bc", "a%", "a", undefined]);
      const whole = open({ namespace: undefined });
      await whole.clear();
      for (const keyv of all) assert.equal(await keyv.get("key"), undefined);
      assert.equal((await store.hit(counter, null, { by: 0 })).hits, 1);
    });

    test("keys that are no ids work like others", async () => {
      for (const namespace of [unused(), undefined, unused() + "\n".repeat(3), "long".repeat(100)]) {
        // without a namespace Keyv 5 removes the first part of a key that its iterator yields, unless it is told not to
        const keyv = open({
          namespace,
          ...(namespace === undefined && !isKeyv6 ? { useKeyPrefix: false } : {}),
        });
        if (namespace === undefined) await keyv.clear();
        for (const key of hostileKeys) assert.equal(await keyv.set(key, { key }), true, JSON.stringify(key));
        for (const key of hostileKeys) assert.deepEqual(await keyv.get(key), { key });
        assert.deepEqual(
          await keyv.get(hostileKeys),
          hostileKeys.map((key) => ({ key })),
        );
        assert.deepEqual(await entries(keyv), hostileKeys.map((key) => [key, { key }]).sort());
        assert.equal(await keyv.has("x".repeat(999)), false);
        for (const key of hostileKeys) assert.equal(await keyv.delete(key), true, JSON.stringify(key));
        assert.deepEqual(await entries(keyv), []);
        await keyv.set("x".repeat(1000), 1);
        await keyv.clear();
        assert.deepEqual(await entries(keyv), []);
      }
    });

    if (!isKeyv6)
      test("with useKeyPrefix false the key is the id, in whatever namespace", async () => {
        const keyv = open({ useKeyPrefix: false });
        const key = unused();
        await keyv.set(key, 1);
        assert.notEqual(await store.get(key), undefined);
        await keyv.clear();
        assert.equal(await keyv.get(key), 1);
      });

    test("many keys at once, in their order", async () => {
      const keyv = open();
      const items = Array.from({ length: 25 }, (_, i) => ({ key: "k" + i, value: i, ttl: 60_000 }));
      assert.deepEqual(
        await keyv.setMany(items),
        items.map(() => true),
      );
      assert((await expiresAt(`${keyv.namespace}:k0`)) < Date.now() + 120_000);
      assert.deepEqual(await keyv.get(["k3", "absent", "k1", "k3"]), [3, undefined, 1, 3]);
      assert.deepEqual(await keyv.has(["k3", "absent"]), [true, false]);
      assert.deepEqual(await keyv.get([]), []);
      const some = await keyv.delete(["k0", "absent"]);
      assert.deepEqual(some, isKeyv6 ? [true, false] : false);
      assert.deepEqual(await keyv.delete(["k1", "k2"]), isKeyv6 ? [true, true] : true);
      assert.equal((await entries(keyv)).length, 22);
    });

    test("of a key that occurs twice the last value counts", async () => {
      const keyv = open();
      for (let round = 0; round < 5; round++) {
        const items = [1, 2, 3, 4, 5].map((value) => ({ key: "key", value: `${round}: ${value}` }));
        assert.deepEqual(
          await keyv.setMany(items),
          items.map(() => true),
        );
        assert.equal(await keyv.get("key"), `${round}: 5`);
      }
      const deleted = await keyv.delete(["key", "key"]);
      assert.deepEqual(deleted, isKeyv6 ? [true, false] : false);
    });

    test("more keys than one call takes", async () => {
      const keyv = open();
      await keyv.set("last", "here");
      const keys = Array.from({ length: 10_001 }, (_, i) => "absent" + i);
      const values = await keyv.get([...keys, "last"]);
      assert.equal(values.length, keys.length + 1);
      assert.equal(values.at(-1), "here");
      assert(values.slice(0, -1).every((/** @type {any} */ value) => value === undefined));
    });

    test("a value that is refused is false, an error, and harms no other", async () => {
      const keyv = open({ over: store.with({ namespace: "small" }) });
      const seen = once(keyv, "error");
      const items = [
        { key: "a", value: 1 },
        { key: "b", value: "x".repeat(2000) },
        { key: "c", value: 3 },
      ];
      assert.deepEqual(await keyv.setMany(items), [true, false, true]);
      assert.equal((await seen)[0].name, "TooLargeError");
      assert.deepEqual(await keyv.get(["a", "b", "c"]), [1, undefined, 3]);
      const again = once(keyv, "error");
      assert.equal(await keyv.set("d", "x".repeat(2000)), false);
      assert.equal((await again)[0].code, "54000");
    });

    test("any string comes back as it was", async () => {
      const keyv = open();
      for (const value of ["", "\u0000", "\ud800", "\u0010", "\\u0010", "é\u{1f600}", "x".repeat(100_000)]) {
        await keyv.set("text", value);
        assert.equal(await keyv.get("text"), value);
      }
      const hostile = JSON.parse('{"__proto__": {"a": 1}, "constructor": null, "": [null, 1e300, -0.5]}');
      await keyv.set("object", hostile);
      assert.deepEqual(await keyv.get("object"), hostile);
    });

    test("without serialization values are documents, as JSON has them", async () => {
      const keyv = open({ ...off, namespace: unused() });
      const when = new Date();
      for (const value of [{ user: "ada", since: when }, null, false, 0, "", [1], undefined]) {
        await keyv.set("key", value);
        assert.deepEqual(
          await keyv.get("key"),
          value === undefined ? value : JSON.parse(JSON.stringify(value)),
        );
      }
      await keyv.set("key", { user: "ada" });
      const sql = "SELECT session_data #>> '{value,user}' FROM conversation_sessions WHERE session_id = $1";
      assert.equal(await servers.value(sql, [`${keyv.namespace}:key`]), "ada");
      assert.deepEqual(await entries(keyv), [["key", { user: "ada" }]]);
      const seen = once(keyv, "error");
      assert.equal(await keyv.set("key", 1n), false, "JSON has no bigint");
      assert.match((await seen)[0].message, /BigInt/);
    });

    test("an iterator reads pages, and can be left", async () => {
      const keyv = open();
      await servers.sql(
        `SELECT session_save($1 || ':' || i, to_jsonb('{"value":' || i || '}'), namespace => 'default')
         FROM generate_series(1, 1201) AS i`,
        [keyv.namespace],
      );
      const keys = (await collect(keyv.iterator())).map(([key]) => Number(key));
      assert.deepEqual(
        keys.sort((a, b) => a - b),
        Array.from({ length: 1201 }, (_, i) => i + 1),
      );
      for await (const _ of keyv.iterator()) break;
      assert.equal(await keyv.get("1201"), 1201);
    });

    test("sets, deletes and clears at once: no error, and one of the values", async () => {
      const namespace = unused();
      const keyvs = [open({ namespace }), open({ namespace })];
      /** @type {any[]} */
      const errors = [];
      for (const keyv of keyvs) keyv.on("error", (/** @type {any} */ error) => errors.push(error));
      for (let round = 0; round < 10; round++)
        await Promise.all(
          keyvs.flatMap((keyv, i) => [
            keyv.set("key", i),
            keyv.delete("key"),
            keyv.set("key", i),
            ...(round % 3 === 0 ? [keyv.clear()] : []),
            keyv.get("key"),
          ]),
        );
      assert.deepEqual(errors, []);
      await Promise.all(keyvs.map((keyv, i) => keyv.set("key", i)));
      assert([0, 1].includes(await keyvs[0].get("key")));
    });

    test("an iterator over a namespace passes by what is not Keyv's", async () => {
      const keyv = open({ over: store.with({ namespace: "small" }), namespace: undefined });
      await keyv.clear();
      for (const document of [null, "text", {}, [1]]) {
        const name = createHash("sha256").update(unused()).digest("hex");
        await store.with({ namespace: "small" }).save("sha256:" + name, document);
      }
      await keyv.set("key", 1);
      assert.equal((await collect(keyv.iterator())).length, 1);
    });

    test("disconnect() leaves the application its pool", async () => {
      const keyv = open();
      await keyv.disconnect();
      await keyv.set("key", 1);
      assert.equal(await keyv.get("key"), 1);
    });

    // through the adapter, since Keyv turns errors into false and undefined
    testFaults(
      version,
      () => servers,
      (over) => {
        const adapter = new SessionStoreKeyv({ store: over });
        if (isKeyv6) assert(adapter.capabilities.expires);
        adapter.namespace = "faults";
        const key = (/** @type {string} */ id) => (isKeyv6 ? id : "faults:" + id);
        return {
          read: (id) => adapter.get(key(id)),
          write: (id, value) => adapter.set(key(id), value),
          logout: (id) => adapter.delete(key(id)),
        };
      },
      { namespace: "default", keyPrefix: "session:", lateSave: "new" },
    );

    test("the server away: false, undefined and an error event, and it goes on", async () => {
      const opened = await openStore(servers, { namespace: "default", keyPrefix: "session:" });
      const keyv = open({ over: opened.store });
      await keyv.set("key", "value");
      await servers.stopPostgres();
      try {
        const seen = once(keyv, "error");
        assert.equal(await keyv.set("key", "later"), false);
        assert.equal((await seen)[0].name, "UnavailableError");
        assert.deepEqual(await keyv.setMany([{ key: "key", value: "later" }]), [false]);
        assert.equal(await keyv.get("absent"), undefined);
      } finally {
        await servers.startPostgres();
      }
      assert.equal(await keyv.get("key"), "value");
      assert.equal(await keyv.set("key", "later"), true);
      await opened.close();
    });
  });

test("with strong reads and fence = all a get sees the set before it", { timeout: 300_000 }, async () => {
  await servers.sql("INSERT INTO session_namespaces (name, sliding) VALUES ('cache', false)");
  await servers.cacheReady();
  const options = "-c session_store.fence=all";
  const fenced = new pg.Pool({ ...servers.pg, options });
  const redis = createClient(servers.redis);
  await redis.connect();
  const over = new SessionStore({ pool: fenced, redis, namespace: "cache" });
  const keyv = new Keyv5({ store: new SessionStoreKeyv({ store: over }) });
  for (let i = 0; i < 100; i++) {
    await keyv.set("key", i);
    assert.equal(await keyv.get("key"), i);
    if (i % 10 === 9) await keyv.delete("key");
    assert.equal(await keyv.get("key"), i % 10 === 9 ? undefined : i);
  }
  const read = fenced.query.bind(fenced);
  await keyv.set("key", "copied");
  await waitUntil(async () => {
    let statements = 0;
    fenced.query = /** @type {any} */ (
      (/** @type {any[]} */ ...args) => (statements++, read(.../** @type {[any]} */ (args)))
    );
    assert.equal(await keyv.get("key"), "copied");
    return statements === 0;
  }, "a get is answered by Redis");
  redis.destroy();
  await fenced.end();
});

test("Keyv 6 reads what Keyv 5 has stored, and Keyv 5 what Keyv 6 has", async () => {
  const namespace = unused();
  const five = new Keyv5({ namespace, store: new SessionStoreKeyv({ store }) });
  const six = new Keyv6({ namespace, store: new SessionStoreKeyv({ store }) });
  for (const key of ["key", ...hostileKeys]) {
    await five.set(key, { by: 5 }, 60_000);
    assert.deepEqual(await six.get(key), { by: 5 });
    await six.set(key, { by: 6 }, 60_000);
    assert.deepEqual(await five.get(key), { by: 6 });
  }
  await six.clear();
  assert.equal(await five.get("key"), undefined);
});
