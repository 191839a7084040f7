// The checkpointer and the store of LangGraph: what graphs need of them, beside the published suite.
// needs: @langchain/langgraph
import {
  Annotation,
  Command,
  DeltaChannel,
  END,
  INTERRUPT,
  interrupt,
  START,
  StateGraph,
} from "@langchain/langgraph";
import { emptyCheckpoint, MemorySaver, uuid6 } from "@langchain/langgraph-checkpoint";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { SessionStoreSaver } from "../src/adapters/langgraph.js";
import { DeadSessionError, SessionStore } from "../src/index.js";
import { testFaults } from "./support/faults.js";
import { startServers } from "./support/servers.js";
import { runVitest } from "./support/vitest.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {SessionStore} */
let store;
/** @type {SessionStoreSaver} */
let saver;

before(async () => {
  servers = await startServers();
  await servers.sql("INSERT INTO session_namespaces (name, ttl) VALUES ('threads', NULL)");
  pool = new pg.Pool(servers.pg);
  pool.on("error", () => {}); // a connection that is idle when the server stops
  store = new SessionStore({ pool, namespace: "threads" });
  saver = new SessionStoreSaver(store);
});
after(async () => {
  await pool.end();
  await servers.stop();
});

/** @param {string} [id] @param {object} [more] @returns {any} */
const thread = (id = randomUUID(), more = {}) => ({ configurable: { thread_id: id, ...more } });
/** @param {AsyncIterable<any>} items @returns {Promise<any[]>} */
async function all(items) {
  /** @type {any[]} */
  const array = [];
  for await (const item of items) array.push(item);
  return array;
}

/**
 * Puts a checkpoint whose channels have these values; version is that of those that changed.
 *
 * @param {any} config
 * @param {Record<string, any>} values
 * @param {string[]} [changed]
 * @param {import("@langchain/langgraph-checkpoint").BaseCheckpointSaver} [by]
 * @returns {Promise<any>}
 */
async function put(config, values, changed = Object.keys(values), by = saver) {
  const before = (await by.getTuple(config))?.checkpoint.channel_versions ?? {};
  const next = Math.max(0, ...Object.values(before).map(Number)) + 1;
  const newVersions = Object.fromEntries(changed.map((name) => [name, next]));
  const checkpoint = {
    ...emptyCheckpoint(),
    id: uuid6(0),
    channel_values: values,
    channel_versions: { ...before, ...newVersions },
  };
  return by.put(config, checkpoint, { source: "loop", step: next, parents: {} }, newVersions);
}
const valuesAt = async (/** @type {any} */ config) =>
  (await saver.getTuple(config))?.checkpoint.channel_values;
/** @param {any} config @returns {any} */
const latestOf = ({ configurable: { thread_id, checkpoint_ns } }) => ({
  configurable: { thread_id, checkpoint_ns },
});
const messagesOf = (/** @type {string} */ thread_id) => all(store.messages(thread_id + "/"));

test("the suite of @langchain/langgraph-checkpoint-validation", (t) =>
  runVitest(t, "langgraph.suite.js", servers.env));

describe("values of channels", () => {
  const sizes = { small: 100, middle: 700, large: 20_000 };

  test("a channel that does not change is not written again, and is in every checkpoint", async () => {
    const values = Object.fromEntries(
      Object.entries(sizes).map(([name, size]) => [name, name[0].repeat(size)]),
    );
    let config = thread();
    const configs = [];
    for (let i = 0; i < 6; i++) {
      config = await put(config, { ...values, count: i }, i === 0 ? undefined : ["count"]);
      configs.push(config);
    }
    for (const [i, each] of configs.entries())
      assert.deepEqual(await valuesAt(each), { ...values, count: i }, `checkpoint ${i}`);
    assert.deepEqual(await valuesAt(latestOf(config)), { ...values, count: 5 });
    const text = JSON.stringify(await messagesOf(config.configurable.thread_id));
    for (const name of ["middle", "large"])
      assert.equal(text.split(/** @type {any} */ (values)[name]).length - 1, 1, `${name} is stored once`);
    assert(
      JSON.stringify(await store.get(config.configurable.thread_id + "/")).length < 5000,
      "the document stays small",
    );
  });

  test("branches do not see each other's values, whose versions are the same", async () => {
    const large = (/** @type {string} */ letter) => letter.repeat(5000);
    const one = await put(thread(), { a: large("a"), b: large("b") });
    const two = await put(one, { a: large("c"), b: large("b") }, ["a"]);
    const three = await put(one, { a: large("d"), b: large("b") }, ["a"]); // from the same parent: the same version
    const four = await put(two, { a: large("c"), b: large("e") }, ["b"]); // from one that is not the latest
    assert.deepEqual(await valuesAt(two), { a: large("c"), b: large("b") });
    assert.deepEqual(await valuesAt(three), { a: large("d"), b: large("b") });
    assert.deepEqual(await valuesAt(four), { a: large("c"), b: large("e") });
    assert.deepEqual(
      (await all(saver.list(latestOf(one)))).map(({ checkpoint }) => checkpoint.channel_values.a[0]),
      [..."cdca"],
    );
  });

  test("any value and any name come back", async () => {
    const values = {
      ["__proto__"]: { a: 1 },
      constructor: "b",
      "": "empty",
      "ünïcode\u0000\ud800": "\u0000 \ud800 \u0010 \u{1f600}",
      bytes: new Uint8Array([0, 255, 128]),
      large: new Uint8Array(5000).fill(7),
      nested: { set: new Set([1]), map: new Map([["a", undefined]]), order: { z: 1, a: 2 } },
      nothing: null,
    };
    const config = await put(
      thread("a/b %\u0001 " + "x".repeat(300), { checkpoint_ns: "node:1|sub:" + "y".repeat(300) }),
      values,
    );
    const found = await valuesAt(latestOf(config));
    assert.deepEqual(found, values);
    assert.equal(
      JSON.stringify(found?.nested.order),
      JSON.stringify(values.nested.order),
      "members keep their order",
    );
    const [tuple] = await all(saver.list(latestOf(config)));
    assert.deepEqual(tuple.config, config);
  });
});

describe("pending writes", () => {
  const writes = (/** @type {any} */ tuple) =>
    tuple.pendingWrites.map((/** @type {any} */ [task, channel, value]) => [task, channel, value]);

  test("are in the order in which the tasks are applied, whatever came first, and those of a task replace each other", async () => {
    const config = await put(thread(), { a: 1 });
    await Promise.all([
      saver.putWrites(
        config,
        [
          ["a", "b1"],
          ["a", "b2"],
        ],
        "task-b",
        "~1",
      ),
      saver.putWrites(config, [["a", "c"]], "task-c", "~0"),
      saver.putWrites(config, [["a", "input"]], "task-z"),
      saver.putWrites(config, [[INTERRUPT, "i"]], "task-b", "~1"),
    ]);
    await saver.putWrites(config, [[INTERRUPT, "j"]], "task-b", "~1");
    await saver.putWrites(config, [["a", "c2"]], "task-c", "~0");
    await saver.putWrites(config, [], "task-d");
    assert.deepEqual(writes(await saver.getTuple(latestOf(config))), [
      ["task-z", "a", "input"],
      ["task-c", "a", "c2"],
      ["task-b", INTERRUPT, "j"],
      ["task-b", "a", "b1"],
      ["task-b", "a", "b2"],
    ]);
  });

  test("are there before their checkpoint is put, as writes may overtake it", async () => {
    const config = thread();
    const id = uuid6(0);
    const at = thread(config.configurable.thread_id, { checkpoint_ns: "", checkpoint_id: id });
    await saver.putWrites(at, [["a", 1]], "early");
    assert.equal(await saver.getTuple(at), undefined);
    const parent = { ...emptyCheckpoint(), id: uuid6(0) };
    await saver.put(config, parent, { source: "loop", step: 0, parents: {} }, {});
    await saver.put(latestOf(at), { ...emptyCheckpoint(), id }, { source: "loop", step: 1, parents: {} }, {});
    assert.deepEqual(writes(await saver.getTuple(at)), [["early", "a", 1]]);
  });

  test("of earlier checkpoints leave the document, and are found with these", async () => {
    let config = thread();
    const configs = [];
    for (let i = 0; i < 30; i++) {
      config = await put(config, { n: i });
      configs.push(config);
      await saver.putWrites(config, [["n", `of ${i}`]], "task");
      if (i > 0) await saver.putWrites(configs[i - 1], [["n", `of ${i - 1}`]], "task that was late");
    }
    for (const [i, each] of configs.entries()) {
      const expected = [
        ["task", "n", `of ${i}`],
        ["task that was late", "n", `of ${i}`],
      ];
      assert.deepEqual(
        writes(await saver.getTuple(each)),
        i < 29 ? expected : expected.slice(0, 1),
        `checkpoint ${i}`,
      );
    }
    const document = await store.get(config.configurable.thread_id + "/");
    assert(Object.keys(document.writes).length <= 3, "only what is pending is in the document");
    assert.equal(document.late, undefined, "where the others are need not be said");
    for (const tuple of await all(saver.list(latestOf(config))))
      assert.deepEqual(writes(tuple), writes(await saver.getTuple(tuple.config)));
  });

  test("to a checkpoint that a run went back to are found with it", async () => {
    let config = thread();
    /** @type {any[]} */
    const configs = [];
    for (let i = 0; i < 12; i++) configs.push((config = await put(config, { n: i })));
    await saver.putWrites(configs[2], [["n", "again"]], "replay");
    config = await put(configs[2], { n: "fork" });
    for (let i = 0; i < 8; i++) config = await put(config, { n: i });
    assert.deepEqual(writes(await saver.getTuple(configs[2])), [["replay", "n", "again"]]);
    const listed = await all(saver.list(latestOf(config)));
    assert.deepEqual(
      writes(listed.find((tuple) => tuple.checkpoint.id === configs[2].configurable.checkpoint_id)),
      [["replay", "n", "again"]],
    );
  });

  test("that come late are found although others have put many checkpoints since", async () => {
    const start = await put(thread(), { n: 0 });
    const mine = await put(start, { n: 1 });
    let other = start;
    for (let i = 0; i < 8; i++) other = await put(other, { n: i });
    const next = await put(mine, { n: 2 });
    await saver.putWrites(mine, [["n", "late"]], "task");
    await put(next, { n: 3 });
    assert.deepEqual(writes(await saver.getTuple(mine)), [["task", "n", "late"]]);
  });

  test("those of branches that go back and forth are exact", async () => {
    // What MemorySaver holds is compared after each of many random puts and writes.
    const theirs = new MemorySaver();
    const seed = Number(process.env.SS_SEED ?? Date.now() % 1e6);
    let state = seed;
    const random = (/** @type {number} */ n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
    const id = randomUUID();
    /** @type {any[]} */
    const configs = [];
    const names = ["a", "b", "c", "d"];
    for (let i = 0; i < 120; i++) {
      const parent =
        configs.length === 0 ? thread(id) : configs[random(3) ? configs.length - 1 : random(configs.length)];
      if (configs.length > 0 && random(2)) {
        // writes: a task writes once to a checkpoint, as the two differ in what a second time does
        const write = /** @type {any} */ ([[names[random(4)], `${i}`.repeat(1 + random(900))]]);
        for (const by of [saver, theirs]) await by.putWrites(parent, write, `task-${i}`, "");
        continue;
      }
      const before = parent.configurable.checkpoint_id ? await theirs.getTuple(parent) : undefined;
      const values = { ...before?.checkpoint.channel_values };
      const newVersions = Object.fromEntries(
        names.filter(() => !before || random(3) === 0).map((name) => [name, i + 1]),
      );
      for (const name of Object.keys(newVersions)) values[name] = name.repeat([10, 600, 3000][random(3)]) + i;
      const checkpoint = {
        ...emptyCheckpoint(),
        id: uuid6(0),
        channel_values: values,
        channel_versions: { ...before?.checkpoint.channel_versions, ...newVersions },
      };
      const metadata = /** @type {any} */ ({ source: "loop", step: i, parents: {} });
      configs.push(await saver.put(parent, checkpoint, metadata, newVersions));
      await theirs.put({ configurable: { checkpoint_ns: "", ...parent.configurable } }, checkpoint, metadata);
    }
    for (const config of [...configs, thread(id)]) {
      const [mine, expected] = await Promise.all([saver.getTuple(config), theirs.getTuple(config)]);
      assert.deepEqual(mine?.checkpoint, expected?.checkpoint, `seed ${seed}`);
      assert.deepEqual(mine?.pendingWrites, expected?.pendingWrites, `seed ${seed}`);
      assert.deepEqual(mine?.parentConfig, expected?.parentConfig, `seed ${seed}`);
    }
    const ids = (/** @type {any[]} */ tuples) => tuples.map(({ checkpoint }) => checkpoint.id);
    const [mine, expected] = [await all(saver.list(thread(id))), await all(theirs.list(thread(id)))];
    assert.deepEqual(ids(mine), ids(expected), `seed ${seed}`);
    assert.deepEqual(
      mine.map(({ pendingWrites }) => pendingWrites),
      expected.map(({ pendingWrites }) => pendingWrites),
      `seed ${seed}`,
    );
    const before = configs[configs.length >> 1];
    assert.deepEqual(
      await all(saver.list(thread(id, { checkpoint_ns: "" }), { before, limit: 5 })).then(ids),
      await all(theirs.list(thread(id), { before, limit: 5 })).then(ids),
      `seed ${seed}`,
    );
  });
});

describe("threads", () => {
  test("an earlier checkpoint is found by few calls, in a thread of any length", async () => {
    let calls = 0;
    const counted = new SessionStoreSaver(
      new SessionStore({
        pool: { query: (/** @type {any} */ query) => (calls++, pool.query(query)) },
        namespace: "threads",
      }),
    );
    const count = async (/** @type {() => Promise<any>} */ act) => {
      calls = 0;
      await act();
      return calls;
    };
    let config = await put(thread(), { text: "t".repeat(5000), n: 0 });
    const configs = [config];
    /** @type {number[]} */
    const puts = [];
    for (let i = 1; i < 200; i++) {
      await saver.putWrites(config, [["n", i]], "task");
      const checkpoint = (await saver.getTuple(config))?.checkpoint;
      assert(checkpoint);
      checkpoint.id = uuid6(0);
      Object.assign(checkpoint.channel_versions, { n: i + 1 });
      const values = { ...checkpoint.channel_values, n: i };
      const next = { ...checkpoint, channel_values: values };
      puts.push(
        await count(
          async () => (config = await counted.put(config, next, /** @type {any} */ ({}), { n: i + 1 })),
        ),
      );
      configs.push(config);
    }
    assert.deepEqual([...new Set(puts.slice(1))], [2], "a put is a read and an append");
    assert.equal(
      await count(() => counted.getTuple(latestOf(config))),
      2,
      "the document and a value that is kept",
    );
    assert.equal(await count(() => counted.putWrites(config, [["n", 1]], "task")), 1);
    for (const i of [0, 3, 100, 195])
      assert((await count(() => counted.getTuple(configs[i]))) <= 14, `checkpoint ${i} is found by halving`);
    assert((await count(() => all(counted.list(latestOf(config), { limit: 3 })))) <= 5);
    const before = configs[20];
    assert((await count(() => all(counted.list(latestOf(config), { before, limit: 1 })))) <= 14);
    assert.equal(await count(() => counted.deleteThread(config.configurable.thread_id)), 1);
  });

  test("that is deleted stays out, with all its namespaces, and other threads stay in", async () => {
    const id = "a";
    const config = await put(thread(id), { n: 1 });
    const child = await put(thread(id, { checkpoint_ns: "child" }), { n: 2 });
    const others = await Promise.all(
      ["a/", "a/child", "ab", "A"].map((other) => put(thread(other), { n: 3 })),
    );
    await saver.deleteThread(id);
    for (const each of [config, latestOf(config), child, latestOf(child)]) {
      assert.equal(await saver.getTuple(each), undefined);
      await assert.rejects(
        saver.putWrites({ ...config, ...each }, [["n", 4]], "late").then(() => put(each, { n: 5 })),
      );
      assert.equal(await saver.getTuple(each), undefined);
    }
    await assert.rejects(put(config, { n: 5 }), DeadSessionError);
    assert.deepEqual(await all(saver.list(thread(id))), []);
    for (const other of others) assert.deepEqual(await valuesAt(other), { n: 3 });
  });

  test("are listed newest first, by metadata, before a checkpoint, and with a limit", async () => {
    let config = thread();
    const ids = [];
    for (let i = 0; i < 250; i++) {
      config = await put(config, { n: i });
      ids.unshift(config.configurable.checkpoint_id);
    }
    /** @param {any} options */
    const listed = async (options) =>
      (await all(saver.list(latestOf(config), options))).map(({ checkpoint }) => checkpoint.id);
    assert.deepEqual(await listed({}), ids);
    assert.deepEqual(await listed({ filter: { step: 3 } }), [ids[247]]);
    assert.deepEqual(await listed({ filter: { step: 3, parents: {} } }), [ids[247]]);
    assert.deepEqual(await listed({ filter: { absent: 1 } }), []);
    assert.deepEqual(
      await listed({ before: thread("x", { checkpoint_id: ids[100] }), limit: 7 }),
      ids.slice(101, 108),
    );
    assert.deepEqual(await listed({ limit: 0 }), []);
    assert.deepEqual(
      (await all(saver.list(config))).map(({ checkpoint }) => checkpoint.id),
      [ids[0]],
    );
  });

  test("a checkpoint whose id is not in order is found, and one that is not there is not", async () => {
    let config = thread();
    for (let i = 0; i < 40; i++) config = await put(config, { n: i });
    const odd = { ...emptyCheckpoint(), id: "0-before-all" };
    const at = await saver.put(config, odd, { source: "loop", step: 0, parents: {} }, {});
    for (let i = 0; i < 61; i++) config = await put(config, { n: i });
    assert.equal((await saver.getTuple(at))?.checkpoint.id, odd.id);
    assert.equal(
      await saver.getTuple(thread(config.configurable.thread_id, { checkpoint_id: uuid6(0) })),
      undefined,
    );
    assert.equal(
      await saver.getTuple(thread(config.configurable.thread_id, { checkpoint_id: "__proto__" })),
      undefined,
    );
  });

  test("what is put between two statements of a call is not mixed up with it", async () => {
    const large = (/** @type {string} */ letter) => letter.repeat(5000);
    const start = await put(thread(), { a: large("a"), b: large("b") });
    /** @type {(() => Promise<any>) | undefined} */
    let meanwhile;
    const disturbed = new SessionStoreSaver(
      new SessionStore({
        pool: {
          query: async (/** @type {any} */ query) => {
            const act = query.text.includes("session_history") ? meanwhile : undefined;
            if (act) {
              meanwhile = undefined;
              await act();
            }
            return pool.query(query);
          },
        },
        namespace: "threads",
      }),
    );
    let other = start;
    meanwhile = async () => (other = await put(start, { a: large("c"), b: large("d"), n: "n" }));
    const tuple = await disturbed.getTuple(latestOf(start));
    assert.equal(meanwhile, undefined, "it was disturbed");
    assert.deepEqual(tuple?.config, start);
    assert.deepEqual(tuple?.checkpoint.channel_values, { a: large("a"), b: large("b") });

    const values = { a: large("e"), b: large("d"), n: "m" };
    const metadata = /** @type {any} */ ({ source: "loop", step: 0, parents: {} });
    meanwhile = () => put(other, { a: large("x"), b: large("y"), n: "z" });
    const checkpoint = { ...emptyCheckpoint(), id: uuid6(0), channel_values: values };
    const next = await disturbed.put(other, checkpoint, metadata, { a: 9, n: 9 });
    assert.equal(meanwhile, undefined, "it was disturbed");
    assert.deepEqual(await valuesAt(next), values);
    assert.deepEqual(await valuesAt(latestOf(next)), values);
  });

  test("a checkpoint that is put again replaces the one before", async () => {
    const checkpoint = { ...emptyCheckpoint(), id: uuid6(0), channel_values: { n: 1 } };
    const metadata = /** @type {any} */ ({ source: "loop", step: 0, parents: {} });
    const config = await saver.put(thread(), checkpoint, metadata, { n: 1 });
    await saver.put(latestOf(config), { ...checkpoint, channel_values: { n: 2 } }, metadata, { n: 1 });
    const next = await put(config, { n: 3 });
    assert.deepEqual(await valuesAt(config), { n: 2 });
    const listed = await all(saver.list(latestOf(next)));
    assert.deepEqual(
      listed.map(({ checkpoint }) => checkpoint.channel_values.n),
      [3, 2],
    );
  });

  test("have ids that are strings or numbers", async () => {
    assert.deepEqual(await valuesAt(await put(thread(/** @type {any} */ (44)), { n: 1 })), { n: 1 });
    assert.deepEqual(await valuesAt(thread("44")), { n: 1 });
    for (const id of /** @type {any[]} */ ([{}, null, Symbol("a"), ["a"], true])) {
      await assert.rejects(put(thread(id), { n: 1 }), /thread_id/);
      await assert.rejects(saver.deleteThread(id), /thread_id/);
    }
    assert.equal(await saver.getTuple({ configurable: {} }), undefined);
  });

  test("a delta channel of many steps is read by pages", async () => {
    let calls = 0;
    const counted = new SessionStoreSaver(
      new SessionStore({
        pool: { query: (/** @type {any} */ query) => (calls++, pool.query(query)) },
        namespace: "threads",
      }),
    );
    let config = await put(thread(), { seed: ["s"] });
    const metadata = /** @type {any} */ ({ source: "loop", step: 0, parents: {} });
    for (let i = 0; i < 120; i++) {
      await saver.putWrites(config, [["seed", i]], "task");
      config = await saver.put(config, { ...emptyCheckpoint(), id: uuid6(0) }, metadata, {});
    }
    const { seed, none } = await counted.getDeltaChannelHistory({ config, channels: ["seed", "none"] });
    assert.deepEqual(
      [seed.seed, seed.writes.map(([, , value]) => value)],
      [["s"], Array.from({ length: 120 }, (_, i) => i)],
    );
    assert.deepEqual(none, { writes: [] });
    assert(calls <= 15, `${calls} calls`);
    assert.deepEqual(await counted.getDeltaChannelHistory({ config, channels: [] }), {});
  });

  for (let round = 1; round <= 5; round++)
    test(`two clients that write to a thread at once lose nothing, ${round}`, async () => {
      const start = await put(thread(), { a: "a".repeat(3000), n: 0 });
      const other = new SessionStoreSaver(store.with({}));
      /** @param {SessionStoreSaver} by @param {string} name */
      const run = async (by, name) => {
        let config = start;
        const configs = [];
        for (let i = 0; i < 25; i++) {
          await Promise.all([
            by.putWrites(config, [["n", `${name}${i}`]], name),
            i % 5 === 0
              ? put(config, { a: name.repeat(3000), n: i }, undefined, by)
              : put(config, { n: i }, ["n"], by),
          ]).then(([, next]) => (config = next));
          configs.push(config);
        }
        return configs;
      };
      const runs = await Promise.all([run(saver, "x"), run(other, "y")]);
      for (const [which, configs] of runs.entries())
        for (const [i, config] of configs.entries()) {
          const tuple = await saver.getTuple(config);
          assert.equal(tuple?.checkpoint.channel_values.n, i);
          if (i % 5 === 0) assert.equal(tuple?.checkpoint.channel_values.a, "xy"[which].repeat(3000));
          const parent = await saver.getTuple(tuple?.parentConfig ?? {});
          const task = "xy"[which];
          assert(
            parent?.pendingWrites?.some(([by, , value]) => by === task && value === `${task}${i}`),
            `${task}${i} is there`,
          );
        }
      assert.equal((await all(saver.list(latestOf(start)))).length, 51);
    });
});

/**
 * What an application sees of a graph with parallel nodes, a subgraph and an interrupt, that is resumed, gone back to and
 * forked.
 *
 * @param {import("@langchain/langgraph-checkpoint").BaseCheckpointSaver} checkpointer
 * @param {"async" | "sync" | "exit"} durability
 */
async function play(checkpointer, durability) {
  const list = () =>
    Annotation({
      reducer: (/** @type {any[]} */ a, /** @type {any[]} */ b) => a.concat(b),
      default: () => /** @type {any[]} */ ([]),
    });
  // stored as the writes since the last snapshot
  const notes = () =>
    new DeltaChannel((/** @type {any[]} */ state, writes) => state.concat(...writes), {
      initialValueFactory: () => [],
      snapshotFrequency: 3,
    });
  const State = Annotation.Root({ log: list(), documents: Annotation(), answer: Annotation(), notes });
  let failures = 0;
  const inner = new StateGraph(State)
    .addNode("think", () => ({ log: ["think"] }))
    .addNode("ask", () => ({ log: ["ask " + interrupt("which?")], notes: ["ask"] }))
    .addEdge(START, "think")
    .addEdge("think", "ask")
    .addEdge("ask", END)
    .compile();
  const graph = new StateGraph(State)
    .addNode("search", () => ({ log: ["search"], documents: "d".repeat(4000), notes: ["search"] }))
    .addNode("check", () => ({ log: ["check"], notes: ["check"] }))
    .addNode("sub", inner)
    .addNode("finish", ({ log }) => {
      if (failures++ === 0) throw new Error("once");
      return { log: ["finish"], answer: log.length, notes: ["finish"] };
    })
    .addEdge(START, "search")
    .addEdge(START, "check")
    .addEdge(["search", "check"], "sub")
    .addEdge("sub", "finish")
    .addEdge("finish", END)
    .compile({ checkpointer });
  const config = { ...thread(), durability };
  /** @type {any[]} */
  const seen = [];
  const see = async (/** @type {string} */ what, /** @type {any} */ result) => {
    const history = await all(graph.getStateHistory(thread(config.configurable.thread_id)));
    const { values, next, tasks } = await graph.getState(thread(config.configurable.thread_id), {
      subgraphs: true,
    });
    const inside = /** @type {any} */ (tasks[0]?.state)?.values?.log;
    const interrupts = tasks.flatMap((task) => task.interrupts.map(({ value }) => value));
    const steps = history.map(({ values, next, metadata, tasks }) => ({
      values,
      next,
      source: metadata?.source,
      step: metadata?.step,
      tasks: tasks.map((/** @type {any} */ { name, error, interrupts }) => ({
        name,
        error: !!error,
        interrupts: interrupts.length,
      })),
    }));
    seen.push({ what, log: result?.log, values, next, inside, interrupts, steps });
    return history;
  };
  await see("interrupted", await graph.invoke({ log: ["in"] }, config));
  await assert.rejects(graph.invoke(new Command({ resume: "this" }), config), /once/);
  await see("failed", {});
  const history = await see("finished", await graph.invoke(null, config));
  const old = history.find(({ next }) => next.includes("finish"));
  assert(old);
  await see("replayed", await graph.invoke(null, { ...old.config, durability }));
  const fork = await graph.updateState(old.config, { log: ["edited"] });
  await see("forked", await graph.invoke(null, { ...fork, durability }));
  const asked = history.find(({ next }) => next.includes("sub"));
  assert(asked);
  await see("asked again", await graph.invoke(null, { ...asked.config, durability }));
  await see("answered again", await graph.invoke(new Command({ resume: "that" }), config));
  return seen;
}

for (const durability of /** @type {const} */ (["async", "sync", "exit"]))
  test(`a graph goes as it does with MemorySaver, durability ${durability}`, async () => {
    const [ours, theirs] = [await play(saver, durability), await play(new MemorySaver(), durability)];
    assert.deepEqual(ours, theirs);
    assert(ours.some(({ interrupts }) => interrupts[0] === "which?"));
  });

const faults = (/** @type {SessionStore} */ over) => {
  const by = new SessionStoreSaver(over);
  return {
    read: async (/** @type {string} */ id) =>
      (await by.getTuple(thread(id)))?.checkpoint.channel_values.value,
    write: (/** @type {string} */ id, /** @type {string} */ value) =>
      by.put(
        thread(id),
        { ...emptyCheckpoint(), id: uuid6(0), channel_values: { value } },
        { source: "input", step: -1, parents: {} },
        { value: 1 },
      ),
    logout: (/** @type {string} */ id) => by.deleteThread(id),
  };
};
testFaults("checkpointer of LangGraph", () => servers, faults, { namespace: "threads", lateSave: "refused" });
