import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { Agent, MemorySession, RunState, Runner, setTracingDisabled, tool } from "@openai/agents-core";
import { ScriptedModel, assistantMessage, functionCall } from "@openai/agents-core/testing";
import pg from "pg";
import { z } from "zod";
import { ConflictError, DeadSessionError, OperationReusedError, SessionStore } from "../src/index.js";
import { OpenAIAgentsSession } from "../src/adapters/openai-agents.js";
import { testFaults } from "./support/faults.js";
import { recorded } from "./support/recorded.js";
import { startServers } from "./support/servers.js";

/** @typedef {import("@openai/agents-core").AgentInputItem} Item */

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {ReturnType<typeof recorded>} */
let db;
/** @type {SessionStore} */
let store;

before(async () => {
  setTracingDisabled(true);
  servers = await startServers();
  pool = new pg.Pool({ ...servers.pg, max: 4 });
  pool.on("error", () => {});
  db = recorded(pool);
  store = new SessionStore({ pool: db });
});
after(async () => {
  await pool.end();
  await servers.stop();
});
beforeEach(() => void db?.take());

/** @param {string} text @returns {Item} */
const user = (text) => ({ role: "user", content: text });
/** @param {string} callId @param {string} [args] @returns {any} */
const call = (callId, args = "{}") => ({ type: "function_call", callId, name: "f", arguments: args });

/** Runs a step on the session of the SDK and on ours, and compares what they answer and then hold. */
function pair() {
  const theirs = new MemorySession();
  const ours = new OpenAIAgentsSession({ store, pageSize: 3 });
  return async (/** @type {(session: any) => Promise<any>} */ step) => {
    const answers = await Promise.allSettled([step(theirs), step(ours)]);
    const [expected, actual] = answers.map((a) =>
      a.status === "fulfilled" ? { value: a.value } : "refused",
    );
    assert.deepEqual(actual, expected, String(step));
    assert.deepEqual(await ours.getItems(), await theirs.getItems(), String(step));
  };
}

describe("the session behaves as the SDK's MemorySession", () => {
  test("items come back in order, all or the last ones", async () => {
    const both = pair();
    await both((s) => s.getItems());
    await both((s) => s.popItem());
    await both((s) => s.addItems([]));
    await both((s) => s.addItems([user("a"), call("1"), { type: "reasoning", content: [] }]));
    await both((s) => s.addItems(Array.from({ length: 7 }, (_, i) => user(`b${i}`))));
    for (const limit of [undefined, 0, -1, 1, 2, 9, 10, 11, Infinity]) await both((s) => s.getItems(limit));
  });

  test("items are removed from the end, and all at once, and the session goes on", async () => {
    const both = pair();
    await both((s) => s.addItems([user("a"), user("b"), user("c")]));
    await both((s) => s.popItem());
    await both((s) => s.popItem());
    await both((s) => s.addItems([user("d")]));
    await both((s) => s.clearSession());
    await both((s) => s.popItem());
    await both((s) => s.addItems([user("e")]));
    await both((s) => s.clearSession());
    await both((s) => s.clearSession());
  });

  test("an operation is carried out once, and not with another transaction", async () => {
    const both = pair();
    const append = { type: "append_items", items: [user("a"), user("b")] };
    const replace = (/** @type {Item[]} */ expectedSuffix, /** @type {Item[]} */ replacement) => ({
      type: "replace_suffix",
      expectedSuffix,
      replacement,
    });
    await both((s) => s.applyHistoryTransaction({ operationId: "1", transaction: append }));
    await both((s) => s.applyHistoryTransaction({ operationId: "1", transaction: append }));
    const other = { ...append, items: [user("a")] };
    await both((s) => s.applyHistoryTransaction({ operationId: "1", transaction: other }));
    const suffix = replace([user("b")], [user("c"), user("d")]);
    await both((s) => s.applyHistoryTransaction({ operationId: "2", transaction: suffix }));
    await both((s) => s.applyHistoryTransaction({ operationId: "2", transaction: suffix }));
    for (const expected of [[user("b")], [user("c")], [user("a"), user("a"), user("c"), user("d")]])
      await both((s) => s.applyHistoryTransaction({ operationId: "3", transaction: replace(expected, []) }));
    await both((s) => s.applyHistoryTransaction({ operationId: "4", transaction: replace([], [user("e")]) }));
    await both((s) => s.applyHistoryTransaction({ operationId: "5", transaction: replace([user("e")], []) }));
    const nothing = { type: "append_items", items: [] };
    await both((s) => s.applyHistoryTransaction({ operationId: "6", transaction: nothing }));
    await both((s) => s.applyHistoryTransaction({ operationId: "", transaction: append }));
  });

  test("a transaction on a conversation that has not begun", async () => {
    const suffix = { type: "replace_suffix", expectedSuffix: [user("a")], replacement: [user("b")] };
    await pair()((s) => s.applyHistoryTransaction({ operationId: "1", transaction: suffix }));
    const empty = { ...suffix, expectedSuffix: [] };
    await pair()((s) => s.applyHistoryTransaction({ operationId: "1", transaction: empty }));
  });

  test("calls are replaced where they are, and only once", async () => {
    const both = pair();
    await both((s) => s.addItems([user("a"), call("1"), user("b"), call("2"), call("1"), user("c")]));
    const replacement = call("1", '{"approved": true}');
    const mutation = { type: "replace_function_call", callId: "1", replacement };
    await both((s) => s.applyHistoryMutations({ mutations: [] }));
    await both((s) => s.applyHistoryMutations({ mutations: [{ ...mutation, callId: "3" }] }));
    await both((s) => s.applyHistoryMutations({ mutations: [mutation] }));
    const moved = { ...mutation, replacement: call("9") };
    await both((s) => s.applyHistoryMutations({ mutations: [moved, { ...moved, callId: "9" }] }));
  });
});

test("any JSON is an item", async () => {
  const session = new OpenAIAgentsSession({ store });
  const hostile = JSON.parse(
    '{"type": "x", "__proto__": {"a": 1}, "nul": "a\\u0000b", "lone": "\\ud800", "esc": "\\u0010", "n": 1e300, "e": null}',
  );
  await session.addItems([hostile]);
  assert.deepEqual(await session.getItems(), [hostile]);
  const absent = /** @type {any} */ ({ role: "user", content: "x", id: undefined });
  await session.addItems([absent]);
  const transaction = /** @type {any} */ ({
    type: "replace_suffix",
    expectedSuffix: [absent],
    replacement: [user("y")],
  });
  await session.applyHistoryTransaction({ operationId: "1", transaction });
  assert.deepEqual(await session.popItem(), user("y"));
});

test("each operation is one call, whatever the length of the history", async () => {
  const session = new OpenAIAgentsSession({ store, owner: "ada" });
  await session.addItems(Array.from({ length: 1200 }, (_, i) => user(`${i}`)));
  assert.deepEqual(db.take(), ["session_append"]);
  assert.equal((await session.getItems()).length, 1200);
  assert.deepEqual(db.take(), Array(3).fill("session_history"), "pages of 500");
  await session.getItems(5);
  await session.popItem();
  await session.applyHistoryTransaction({
    operationId: "1",
    transaction: { type: "replace_suffix", expectedSuffix: [user("1198")], replacement: [] },
  });
  await session.replaceHistoryWithCompaction([user("summary"), user("kept")]);
  await session.clearSession();
  assert.deepEqual(db.take(), [
    "session_history",
    "session_pop",
    "session_replace_tail",
    "session_append",
    "session_trim",
  ]);
  assert.equal((await store.fetch(await session.getSessionId()))?.ownerId, "ada");
});

test("a compaction replaces the history in one step", async () => {
  const [one, two] = [1, 2].map(() => new OpenAIAgentsSession({ store, sessionId: "compacted" }));
  await one.addItems([user("a"), user("b")]);
  await one.replaceHistoryWithCompaction([user("summary"), user("b")]);
  assert.deepEqual(await two.getItems(), [user("summary"), user("b")]);
  await one.replaceHistoryWithCompaction([]);
  assert.deepEqual(await two.getItems(), []);
});

test("what another client did meanwhile is not overwritten", async () => {
  const [one, two] = [1, 2].map(() => new OpenAIAgentsSession({ store, sessionId: "two clients" }));
  await one.addItems([user("a")]);
  await two.addItems([user("b")]);
  /** @type {import("@openai/agents-core").SessionHistoryTransaction} */
  const transaction = { type: "replace_suffix", expectedSuffix: [user("a")], replacement: [user("c")] };
  await assert.rejects(one.applyHistoryTransaction({ operationId: "1", transaction }), ConflictError);
  assert.deepEqual(await one.getItems(), [user("a"), user("b")]);
  // the operation has not been carried out, and may be repeated
  assert.deepEqual(await two.popItem(), user("b"));
  await one.applyHistoryTransaction({ operationId: "1", transaction });
  assert.deepEqual(await two.getItems(), [user("c")]);
  /** @type {import("@openai/agents-core").SessionHistoryTransaction} */
  const other = { type: "append_items", items: [user("d")] };
  await assert.rejects(
    two.applyHistoryTransaction({ operationId: "1", transaction: other }),
    OperationReusedError,
  );
});

test("two clients that remove items remove different ones", async () => {
  const [one, two] = [1, 2].map(() => new OpenAIAgentsSession({ store, sessionId: "popped" }));
  const items = Array.from({ length: 10 }, (_, i) => user(`${i}`));
  await one.addItems(items);
  const popped = await Promise.all(items.map((_, i) => (i % 2 ? one : two).popItem()));
  const texts = popped.map((item) => /** @type {any} */ (item).content).sort();
  assert.deepEqual(texts, items.map((item) => /** @type {any} */ (item).content).sort());
  assert.equal(await two.popItem(), undefined);
});

test("calls are not replaced over what another client appended meanwhile", async () => {
  const [one, two] = [1, 2].map(() => new OpenAIAgentsSession({ store, sessionId: "mutated" }));
  await one.addItems([call("1"), user("a")]);
  const getItems = one.getItems.bind(one);
  one.getItems = async () => {
    const items = await getItems();
    await two.addItems([user("meanwhile")]);
    return items;
  };
  const replacement = call("1", '{"approved": true}');
  const mutations = [{ type: /** @type {const} */ ("replace_function_call"), callId: "1", replacement }];
  await assert.rejects(one.applyHistoryMutations({ mutations }), ConflictError);
  assert.deepEqual(await two.getItems(), [call("1"), user("a"), user("meanwhile")]);
});

describe("agents", () => {
  const lookUp = tool({
    name: "look_up",
    description: "looks up",
    parameters: z.object({ word: z.string() }),
    execute: async ({ word }) => `${word}: found`,
  });
  const answers = () => [
    [functionCall("look_up", { word: "tea" }, { callId: "c1" })],
    [assistantMessage("tea was found")],
    [assistantMessage("as before")],
  ];

  test("a second process continues the conversation", async () => {
    const sessionId = randomUUID();
    const model = new ScriptedModel(answers());
    for (const input of ["find tea", "and now?"]) {
      const session = new OpenAIAgentsSession({ store: new SessionStore({ pool }), sessionId });
      await new Runner().run(new Agent({ name: "a", model, tools: [lookUp] }), input, { session });
    }
    const read = /** @type {any[]} */ (model.lastCall?.request.input);
    assert.deepEqual(
      read.map((item) => item.type),
      ["message", "function_call", "function_call_result", "message", "message"],
    );
    const items = await new OpenAIAgentsSession({ store, sessionId }).getItems();
    assert.equal(items.length, 6);
  });

  test("of an output that a guardrail blocks the same is kept as in the SDK's MemorySession", async () => {
    const blocks = { name: "none", execute: async () => ({ tripwireTriggered: true, outputInfo: "none" }) };
    const kept = [];
    for (const session of [new MemorySession(), new OpenAIAgentsSession({ store })]) {
      const model = new ScriptedModel(answers());
      const agent = new Agent({ name: "a", model, tools: [lookUp], outputGuardrails: [blocks] });
      await assert.rejects(new Runner().run(agent, "find tea", { session }), /guardrail/i);
      kept.push(await session.getItems());
    }
    assert.deepEqual(kept[1], kept[0]);
    assert.deepEqual(
      kept[1].map((/** @type {any} */ item) => item.type),
      ["message", "function_call", "function_call_result"],
    );
  });

  test("a run that waits for an approval is resumed in another process, and its items come once", async () => {
    const kept = [];
    const sessionId = randomUUID();
    const memory = new MemorySession();
    for (const open of [() => memory, () => new OpenAIAgentsSession({ store, sessionId })]) {
      const careful = tool({
        name: "look_up",
        description: "looks up",
        parameters: z.object({ word: z.string() }),
        needsApproval: true,
        execute: async ({ word }) => `${word}: found`,
      });
      const agent = new Agent({ name: "a", model: new ScriptedModel(answers()), tools: [careful] });
      const stopped = await new Runner().run(agent, "find tea", { session: open() });
      assert.equal(stopped.interruptions.length, 1);
      const state = await RunState.fromString(agent, stopped.state.toString());
      state.approve(state.getInterruptions()[0]);
      const done = await new Runner().run(agent, state, { session: open() });
      assert.equal(done.finalOutput, "tea was found");
      kept.push(await open().getItems());
    }
    assert.deepEqual(kept[1], JSON.parse(JSON.stringify(kept[0])));
    assert.deepEqual(
      kept[1].map(({ type }) => type),
      ["message", "function_call", "function_call_result", "message"],
    );
  });

  test("a conversation that is deleted during a run stays deleted, and the run says so", async () => {
    const session = new OpenAIAgentsSession({ store });
    const id = await session.getSessionId();
    await session.addItems([user("before")]);
    const logout = tool({
      name: "look_up",
      description: "",
      parameters: z.object({ word: z.string() }),
      execute: async () => (await store.delete(id)) && "deleted",
    });
    const agent = new Agent({ name: "a", model: new ScriptedModel(answers()), tools: [logout] });
    await assert.rejects(new Runner().run(agent, "find tea", { session }), DeadSessionError);
    assert.deepEqual(await session.getItems(), []);
    assert.equal(await store.exists(id), false);
  });
});

testFaults(
  "openai-agents",
  () => servers,
  (faulty) => {
    const of = (/** @type {string} */ sessionId) => new OpenAIAgentsSession({ store: faulty, sessionId });
    return {
      read: async (id) => /** @type {any} */ ((await of(id).getItems(1))[0])?.content,
      write: (id, value) => of(id).addItems([user(value)]),
      logout: (id) => faulty.delete(id),
    };
  },
  { lateSave: "refused" },
);
