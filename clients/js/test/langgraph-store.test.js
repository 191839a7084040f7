// The store of LangGraph, for what outlives threads.
import { AsyncBatchedStore, InMemoryStore } from "@langchain/langgraph-checkpoint";
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { SessionStoreMemory } from "../src/adapters/langgraph.js";
import { InvalidArgumentError, SessionStore } from "../src/index.js";
import { testFaults } from "./support/faults.js";
import { startServers, waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;

before(async () => {
  servers = await startServers();
  pool = new pg.Pool(servers.pg);
  pool.on("error", () => {}); // a connection that is idle when the server stops
});
after(async () => {
  await pool.end();
  await servers.stop();
});

let made = 0;
/** A store over a namespace that no other test uses. @param {{ ttl?: number }} [options] */
async function unused(options) {
  const namespace = `memory${++made}`;
  await pool.query(
    "INSERT INTO session_namespaces (name, ttl, tombstone) VALUES ($1, '1 hour', '5 minutes')",
    [namespace],
  );
  const store = new SessionStore({ pool, namespace });
  return Object.assign(new SessionStoreMemory(store, options), { sessions: store });
}
/** What two stores are compared by: items without times, in no order. @param {any[]} items */
const plain = (items) =>
  new Map(items.map(({ namespace, key, value }) => [JSON.stringify([namespace, key]), value]));

const items = /** @type {[string[], string, any][]} */ ([
  [["users", "ada"], "profile", { name: "Ada", age: 36, tags: ["a"], nested: { deep: 1 } }],
  [["users", "ada"], "settings", { theme: "dark", age: 1 }],
  [["users", "ada", "notes"], "1", { text: "one", age: 4 }],
  [["users", "ad"], "profile", { name: "Ad", age: 4.5 }],
  [["users", "adam"], "profile", { name: null, age: "36" }],
  [["teams"], "ada", { name: "Ada" }],
  [["teams", "x/y %", "\u0001"], "a/b", { name: "odd" }],
]);

describe("as InMemoryStore", () => {
  /** @type {Awaited<ReturnType<typeof unused>>} */
  let mine;
  const theirs = new InMemoryStore();
  before(async () => {
    mine = await unused();
    for (const store of [mine, theirs])
      for (const [namespace, key, value] of items) await store.put(namespace, key, value);
  });

  const searches = /** @type {[string[], any][]} */ ([
    [[], { limit: 100 }],
    [["users"], {}],
    [["users", "ada"], {}],
    [["users", "ad"], {}],
    [["teams", "x/y %"], {}],
    [["nobody"], {}],
    [["users"], { filter: { name: "Ada" } }],
    [["users"], { filter: { age: 36 } }],
    [["users"], { filter: { name: null } }],
    [["users"], { filter: { age: { $gt: 4 } } }],
    [["users"], { filter: { age: { $gte: 4, $lt: 36 } } }],
    [["users"], { filter: { age: { $ne: 4 }, name: "Ada" } }],
    [["users"], { filter: { name: { $in: ["Ad", "Ada"] } } }],
    [["users"], { filter: { name: { $nin: ["Ad", "Ada"] } } }],
    [["users"], { filter: { toString: { $eq: 1 } } }],
    [["users"], { limit: 0 }],
  ]);
  for (const [prefix, options] of searches)
    test(`search ${JSON.stringify(prefix)} ${JSON.stringify(options)}`, async () =>
      assert.deepEqual(
        plain(await mine.search(prefix, options)),
        plain(await theirs.search(prefix, options)),
      ));

  for (const options of [
    {},
    { prefix: ["users"] },
    { prefix: ["*", "ada"] },
    { suffix: ["ada"] },
    { suffix: ["*", "notes"] },
    { prefix: ["users"], suffix: ["notes"] },
    { maxDepth: 1 },
    { prefix: ["users"], maxDepth: 2 },
    { prefix: ["users", "a"] },
    { limit: 2 },
    { limit: 2, offset: 3 },
  ])
    test(`listNamespaces ${JSON.stringify(options)}`, async () =>
      assert.deepEqual(await mine.listNamespaces(options), await theirs.listNamespaces(options)));

  test("get", async () => {
    for (const [namespace, key, value] of items) {
      const item = await mine.get(namespace, key);
      assert.deepEqual([item?.namespace, item?.key, item?.value], [namespace, key, value]);
      assert(item?.createdAt instanceof Date && item.updatedAt instanceof Date);
    }
    for (const [namespace, key] of /** @type {[string[], string][]} */ ([
      [["users"], "ada"],
      [["users", "ada"], "Profile"],
    ]))
      assert.equal(await mine.get(namespace, key), null);
  });
});

test("pages of a search hold each item once", async () => {
  const store = await unused();
  await store.batch(
    Array.from({ length: 30 }, (_, i) => ({ namespace: ["a"], key: `${i}`, value: { even: i % 2 === 0 } })),
  );
  const keys = [];
  for (let offset = 0; offset < 15; offset += 4)
    keys.push(
      ...(await store.search(["a"], { filter: { even: true }, offset, limit: 4 })).map(({ key }) => key),
    );
  assert.deepEqual(keys.sort(), Array.from({ length: 15 }, (_, i) => `${2 * i}`).sort());
});

test("a batch reads what was there before, and the last put of an item counts", async () => {
  const store = await unused();
  await store.put(["a"], "k", { n: 1 });
  const results = await store.batch([
    { namespace: ["a"], key: "k", value: { n: 2 } },
    { namespace: ["a"], key: "k" },
    { namespace: ["a"], key: "k", value: { n: 3 } },
    { namespacePrefix: ["a"] },
  ]);
  assert.deepEqual(results[0], undefined);
  assert.deepEqual(
    [/** @type {any} */ (results[1]).value, /** @type {any} */ (results[3])[0].value],
    [{ n: 1 }, { n: 1 }],
  );
  assert.deepEqual((await store.get(["a"], "k"))?.value, { n: 3 });
});

test("an item that was deleted may be put again at once, also one of a namespace that was cleared", async () => {
  const store = await unused();
  await store.put(["a"], "k", { n: 1 });
  const { createdAt } = /** @type {any} */ (await store.get(["a"], "k"));
  await store.put(["a"], "k", { n: 2 });
  const changed = /** @type {any} */ (await store.get(["a"], "k"));
  assert.deepEqual(changed.createdAt, createdAt);
  assert(changed.updatedAt > createdAt);
  await store.delete(["a"], "k");
  await store.delete(["a"], "k");
  assert.equal(await store.get(["a"], "k"), null);
  await store.put(["a"], "k", { n: 3 });
  await store.sessions.clear();
  await store.put(["a"], "k", { n: 4 });
  assert.deepEqual((await store.get(["a"], "k"))?.value, { n: 4 });
});

test("an item lives as long as its ttl says, in minutes, and otherwise until it is deleted", async () => {
  const [forever, minute] = [await unused(), await unused({ ttl: 1 })];
  await forever.put(["a"], "k", {});
  await minute.put(["a"], "k", {});
  await minute.put(["a"], "short", {}, undefined, { ttl: 0.01 });
  assert.equal(/** @type {number} */ (await forever.sessions.ttl("a/k")) > 9e11, true);
  assert(/** @type {number} */ (await minute.sessions.ttl("a/k")) <= 60_000);
  await waitUntil(async () => (await minute.get(["a"], "short")) === null, "the item has ended");
  assert.deepEqual(
    (await minute.search(["a"])).map(({ key }) => key),
    ["k"],
  );
});

test("what cannot be an item is refused", async () => {
  const store = await unused();
  await assert.rejects(store.put([], "k", {}), { name: "InvalidNamespaceError" });
  await assert.rejects(store.put(["langgraph"], "k", {}), { name: "InvalidNamespaceError" });
  await assert.rejects(store.put(["a.b"], "k", {}), { name: "InvalidNamespaceError" });
  await assert.rejects(store.put(["a"], "k".repeat(300), {}), InvalidArgumentError);
  await assert.rejects(store.put(["a"], "\ud800", {}), InvalidArgumentError);
  await assert.rejects(store.put(["a"], "k", /** @type {any} */ (undefined)), TypeError);
  await assert.rejects(store.put(["a"], "k", /** @type {any} */ ({ n: 1n })), TypeError);
  const odd = { ["__proto__"]: 1, text: "\u0000\ud800" };
  await store.put(["__proto__"], "constructor", odd);
  const item = await store.get(["__proto__"], "constructor");
  assert.deepEqual(new Map(Object.entries(/** @type {any} */ (item).value)), new Map(Object.entries(odd)));
});

test("graphs use it through a queue", async () => {
  const store = new AsyncBatchedStore(await unused());
  store.start();
  await store.put(["a"], "k", { n: 1 });
  assert.deepEqual((await store.get(["a"], "k"))?.value, { n: 1 });
  assert.equal((await store.search(["a"])).length, 1);
  await store.stop();
});

testFaults(
  "store of LangGraph",
  () => servers,
  (over) => {
    const store = new SessionStoreMemory(over);
    return {
      read: async (id) => (await store.get(["faults"], id))?.value.text,
      write: (id, text) => store.put(["faults"], id, { text }),
      logout: (id) => store.delete(["faults"], id),
    };
  },
  { namespace: "default", keyPrefix: "session:", lateSave: "new" },
);
