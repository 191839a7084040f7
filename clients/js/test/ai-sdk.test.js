import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import pg from "pg";
import { z } from "zod";
import { ConflictError, InvalidArgumentError, SessionStore, TooLargeError } from "../src/index.js";
import { chatStore } from "../src/adapters/ai-sdk.js";
import { testFaults } from "./support/faults.js";
import { recorded } from "./support/recorded.js";
import { startServers } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {ReturnType<typeof recorded>} */
let db;
/** @type {SessionStore} */
let store;
/** @type {import("../src/adapters/ai-sdk.js").Chats} */
let chats;

before(async () => {
  servers = await startServers();
  pool = new pg.Pool({ ...servers.pg, max: 4 });
  pool.on("error", () => {});
  db = recorded(pool);
  store = new SessionStore({ pool: db });
  chats = chatStore({ store, owner: "ada" });
});
after(async () => {
  await pool.end();
  await servers.stop();
});
beforeEach(() => void db?.take());

/** @param {"user" | "assistant"} role @param {string} text @param {object} [fields] @returns {any} */
const said = (role, text, fields) => ({ id: randomUUID(), role, parts: [{ type: "text", text }], ...fields });
const [u1, a1, u2, a2, u3, a3] = ["1", "2", "3"].flatMap((n) => [said("user", n), said("assistant", n)]);

/** A chat that holds the messages. @param {...any} messages */
async function chatWith(...messages) {
  const chatId = randomUUID();
  if (messages.length > 0) assert(await chats.saveChat({ chatId, messages, previous: [] }));
  db.take();
  return chatId;
}
/** @param {string} id @param {...any} messages */
async function holds(id, ...messages) {
  assert.deepEqual(await chats.loadChat(id), messages);
}

describe("with what was loaded, a save is one call", () => {
  test("it appends what is new", async () => {
    const chatId = await chatWith();
    assert.equal(await chats.saveChat({ chatId, messages: [u1, a1], previous: [] }), true);
    assert.deepEqual(db.take(), ["session_append"]);
    const previous = await chats.loadChat(chatId);
    db.take();
    assert.equal(await chats.saveChat({ chatId, messages: [...previous, u2, a2], previous }), true);
    assert.deepEqual(db.take(), ["session_replace_tail"]);
    await holds(chatId, u1, a1, u2, a2);
    assert.equal((await store.fetch(chatId))?.ownerId, "ada");
  });

  test("it replaces a last message that goes on", async () => {
    const chatId = await chatWith(u1, a1);
    const previous = await chats.loadChat(chatId);
    const longer = { ...a1, parts: [...a1.parts, { type: "text", text: "more" }] };
    db.take();
    await chats.saveChat({ chatId, messages: [previous[0], longer], previous });
    assert.deepEqual(db.take(), ["session_replace_tail"]);
    await holds(chatId, u1, longer);
  });

  test("it replaces what was generated again, also in the middle, and removes what is left out", async () => {
    const chatId = await chatWith(u1, a1, u2, a2);
    await chats.saveChat({ chatId, messages: [u1, a1, u2, a3], previous: [u1, a1, u2, a2] });
    await holds(chatId, u1, a1, u2, a3);
    await chats.saveChat({ chatId, messages: [u1, a2], previous: [u1, a1, u2, a3] });
    await holds(chatId, u1, a2);
    await chats.saveChat({ chatId, messages: [u1], previous: [u1, a2] });
    await holds(chatId, u1);
    await chats.saveChat({ chatId, messages: [], previous: [u1] });
    await holds(chatId);
  });

  test("nothing new is no call", async () => {
    const chatId = await chatWith(u1, a1);
    // as validateUIMessages returns them: other objects, with members that are undefined
    const copies = structuredClone([u1, a1]).map((m) => ({ metadata: undefined, ...m }));
    assert.equal(await chats.saveChat({ chatId, messages: copies, previous: [u1, a1] }), true);
    assert.deepEqual(db.take(), []);
  });

  test("messages that are only equal as JSON are not written again", async () => {
    const when = new Date(0);
    const chatId = await chatWith({ ...u1, metadata: { when, list: [1, { b: 1, a: null }] } });
    const previous = await chats.loadChat(chatId);
    const mine = { ...u1, metadata: { list: [1, { a: null, b: 1, c: undefined }], when } };
    await chats.saveChat({ chatId, messages: [mine, a1], previous });
    const seqs = (await store.history(chatId)).map(({ seq }) => seq);
    assert.deepEqual(seqs, [1, 2]);
  });
});

describe("two clients", () => {
  test("that append to the same chat lose nothing", async () => {
    const chatId = await chatWith(u1, a1);
    const previous = [u1, a1];
    await Promise.all([
      chats.saveChat({ chatId, messages: [...previous, u2, a2], previous }),
      chats.saveChat({ chatId, messages: [...previous, u3, a3], previous }),
    ]);
    const ids = (await chats.loadChat(chatId)).map(({ id }) => id);
    assert.deepEqual(new Set(ids), new Set([u1, a1, u2, a2, u3, a3].map(({ id }) => id)));
    assert.equal(ids.length, 6);
  });

  test("that generate the same answer again do not remove each other's", async () => {
    const chatId = await chatWith(u1, a1);
    const previous = [u1, a1];
    await chats.saveChat({ chatId, messages: [u1, a2], previous });
    await assert.rejects(chats.saveChat({ chatId, messages: [u1, a3], previous }), ConflictError);
    await holds(chatId, u1, a2);
  });
});

describe("without what was loaded", () => {
  test("what is stored becomes the messages", async () => {
    const chatId = await chatWith();
    await chats.saveChat({ chatId, messages: [u1] });
    await chats.saveChat({ chatId, messages: [u1, a1] });
    db.take();
    await chats.saveChat({ chatId, messages: [u1, a1, u2] });
    assert.deepEqual(db.take(), ["session_history", "session_replace_tail"]);
    await holds(chatId, u1, a1, u2);
    await chats.saveChat({ chatId, messages: [u1, a2] });
    await holds(chatId, u1, a2);
  });
});

test("a chat that was deleted or has expired meanwhile stays away, and the save says so", async () => {
  for (const previous of [[], [u1, a1]]) {
    const deleted = await chatWith(u1, a1);
    await store.delete(deleted);
    assert.equal(await chats.saveChat({ chatId: deleted, messages: [u1, a1, u2], previous }), false);
    await holds(deleted);
  }
  const expired = await chatWith(u1, a1);
  await servers.sql("DELETE FROM conversation_sessions WHERE session_id = $1", [expired]);
  assert.equal(await chats.saveChat({ chatId: expired, messages: [u1, a1, u2], previous: [u1, a1] }), false);
  assert.equal(await store.exists(expired), false);
});

test("a chat that was created is empty, and is the owner's", async () => {
  const id = await chats.createChat({ title: "tea" });
  await holds(id);
  assert.equal(await chats.saveChat({ chatId: id, messages: [u1], previous: [] }), true);
  const { sessionData, ownerId } = /** @type {any} */ (await store.fetch(id));
  assert.deepEqual([sessionData, ownerId], [{ title: "tea" }, "ada"]);
  await holds("no chat");
});

test("a window has the newest messages, and is saved like the whole", async () => {
  const call = { type: "tool-f", toolCallId: "c", state: "output-available", input: {}, output: 1 };
  const withTool = { ...a2, parts: [call] };
  const chatId = await chatWith(u1, a1, u2, withTool);
  const previous = await chats.loadChat(chatId, { maxMessages: 3 });
  assert.deepEqual(previous, [u2, withTool], "it begins with what a user said");
  await chats.saveChat({ chatId, messages: [...previous, u3, a3], previous });
  await holds(chatId, u1, a1, u2, withTool, u3, a3);
  await store.compact(chatId, 2, "they greeted each other");
  assert.deepEqual(await chats.loadChat(chatId, { maxTokens: 1000 }), [u2, withTool, u3, a3]);
});

test("a long chat is read by pages", async () => {
  const messages = Array.from({ length: 1001 }, (_, i) => said("user", `${i}`));
  const chatId = await chatWith(...messages);
  await holds(chatId, ...messages);
  assert.deepEqual(db.take(), Array(3).fill("session_history"));
});

test("what cannot be stored is an error, and changes nothing", async () => {
  const chatId = await chatWith(u1);
  const large = said("assistant", "x".repeat(9e6));
  await assert.rejects(chats.saveChat({ chatId, messages: [u1, large], previous: [u1] }), TooLargeError);
  const number = said("assistant", "", { metadata: 1n });
  await assert.rejects(chats.saveChat({ chatId, messages: [u1, number], previous: [u1] }), TypeError);
  await holds(chatId, u1);
  for (const id of ["", "x".repeat(201), "a\u0000", "\ud800"])
    await assert.rejects(chats.saveChat({ chatId: id, messages: [u1], previous: [] }), InvalidArgumentError);
  const odd = JSON.parse('{"id": "__proto__", "role": "user", "parts": [], "__proto__": "\\u0000\\ud800"}');
  await chats.saveChat({ chatId, messages: [u1, odd], previous: [u1] });
  await holds(chatId, u1, odd);
});

const versions = /** @type {const} */ ({
  "ai-5": "MockLanguageModelV2",
  ai: "MockLanguageModelV3",
  "ai-7": "MockLanguageModelV4",
});
const node = Number(process.versions.node.split(".")[0]);

for (const [name, mock] of Object.entries(versions))
  describe(
    `a route handler with ${name}`,
    { skip: name === "ai-7" && node < 20 && "ai 7 needs Node 20" },
    () => {
      /** @type {any} */
      let ai;
      /** @type {any} */
      let testing;
      before(async () => {
        ai = await import(name);
        testing = await import(`${name}/test`);
      });

      const count = { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0, text: 1, reasoning: 0 };
      const usage =
        name === "ai-5"
          ? { inputTokens: 1, outputTokens: 1, totalTokens: 2 }
          : { inputTokens: count, outputTokens: count };
      /** @param {string} reason */
      const finish = (reason) => ({
        type: "finish",
        usage,
        finishReason: name === "ai-5" ? reason : { unified: reason, raw: reason },
      });
      const text = (/** @type {string} */ delta) => [
        { type: "text-start", id: "1" },
        { type: "text-delta", id: "1", delta },
        { type: "text-end", id: "1" },
        finish("stop"),
      ];
      const toolCall = [
        { type: "tool-call", toolCallId: "c1", toolName: "look_up", input: '{"word": "tea"}' },
        finish("tool-calls"),
      ];

      /**
       * The handler of a request, as the AI SDK's documentation writes it.
       *
       * @param {string} chatId
       * @param {any} message
       * @param {any[][]} answers of the model
       * @param {{ change?: (messages: any[]) => any[], meanwhile?: () => Promise<unknown> }} [how]
       */
      async function post(chatId, message, answers, { change = (m) => m, meanwhile } = {}) {
        const tools = {
          look_up: ai.tool({
            inputSchema: z.object({ word: z.string() }),
            execute: async (/** @type {any} */ { word }) => `${word}: found`,
          }),
        };
        const steps = [...answers];
        const model = new testing[mock]({
          doStream: async () => ({ stream: testing.convertArrayToReadableStream(steps.shift()) }),
        });
        const previous = await chats.loadChat(chatId);
        const messages = await ai.validateUIMessages({ messages: change([...previous, message]), tools });
        await meanwhile?.();
        const result = ai.streamText({
          model,
          tools,
          messages: await ai.convertToModelMessages(messages),
          stopWhen: ai.stepCountIs?.(5) ?? ai.isStepCount(5),
        });
        /** @type {boolean | undefined} */
        let saved;
        const response = result.toUIMessageStreamResponse({
          originalMessages: messages,
          generateMessageId: randomUUID,
          onFinish: async (/** @type {any} */ { messages }) => {
            saved = await chats.saveChat({ chatId, messages, previous });
          },
        });
        return { body: await response.text(), saved };
      }

      test("a conversation with a tool is continued, and an answer is generated again", async () => {
        const chatId = await chats.createChat();
        const question = said("user", "find tea");
        await post(chatId, question, [toolCall, text("tea was found")]);
        const [first, answer] = /** @type {any[]} */ (await chats.loadChat(chatId));
        assert.deepEqual(first, question);
        const part = answer.parts.find((/** @type {any} */ p) => p.type === "tool-look_up");
        assert.deepEqual([part.state, part.output], ["output-available", "tea: found"]);

        db.take();
        const { body, saved } = await post(chatId, said("user", "and milk?"), [text("no milk")]);
        assert.match(body, /no milk/);
        assert.equal(saved, true);
        assert.deepEqual(db.take(), ["session_history", "session_replace_tail"]);
        const before = await chats.loadChat(chatId);
        assert.deepEqual(before.slice(0, 2), [first, answer]);
        assert.equal(before.length, 4);

        await post(chatId, undefined, [text("still no milk")], { change: (m) => m.slice(0, 3) });
        const again = /** @type {any[]} */ (await chats.loadChat(chatId));
        assert.deepEqual(again.slice(0, 3), before.slice(0, 3));
        assert.equal(again.length, 4);
        assert.match(JSON.stringify(again[3]), /still no milk/);
      });

      test("a chat that is deleted during the answer stays deleted, and the answer arrives", async () => {
        const chatId = await chats.createChat();
        await post(chatId, said("user", "hello"), [text("hello")]);
        const meanwhile = () => store.delete(chatId);
        const { body, saved } = await post(chatId, said("user", "bye"), [text("bye")], { meanwhile });
        assert.match(body, /bye/);
        assert.doesNotMatch(body, /"type":"error"/);
        assert.equal(saved, false);
        await holds(chatId);
      });
    },
  );

testFaults(
  "ai-sdk",
  () => servers,
  (faulty) => {
    const { loadChat, saveChat } = chatStore({ store: faulty });
    const textOf = (/** @type {any[]} */ messages) => messages.at(-1)?.parts[0].text;
    const save = (/** @type {string} */ chatId, /** @type {string} */ value, /** @type {any[]} */ previous) =>
      saveChat({ chatId, messages: [...previous, said("user", value)], previous });
    return {
      read: async (id) => textOf(await loadChat(id)),
      write: (id, value) => save(id, value, []),
      logout: (id) => faulty.delete(id),
      edit: async (id) => {
        const previous = await loadChat(id);
        return (value) => save(id, value, previous);
      },
    };
  },
);
