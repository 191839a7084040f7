import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import * as sdk from "@anthropic-ai/claude-agent-sdk";
import pg from "pg";
import { DeadSessionError, InvalidArgumentError, SessionStore } from "../src/index.js";
import { ClaudeSessionStore } from "../src/adapters/claude-agent.js";
import { testFaults } from "./support/faults.js";
import { recorded } from "./support/recorded.js";
import { startServers } from "./support/servers.js";

/** @typedef {import("@anthropic-ai/claude-agent-sdk").SessionStoreEntry} Entry */

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {ReturnType<typeof recorded>} */
let db;
/** @type {SessionStore} */
let store;

before(async () => {
  servers = await startServers();
  pool = new pg.Pool({ ...servers.pg, max: 4 });
  pool.on("error", () => {});
  db = recorded(pool);
  store = new SessionStore({ pool: db, namespace: "claude" });
  await servers.sql("INSERT INTO session_namespaces (name, ttl) VALUES ('claude', NULL)");
});
after(async () => {
  await pool.end();
  await servers.stop();
});
beforeEach(() => void db?.take());

const { foldSessionSummary } = sdk;
/** Both forms of the adapter: without and with summaries. */
const forms = () => [
  new ClaudeSessionStore({ store, pageSize: 3 }),
  new ClaudeSessionStore({ store, foldSessionSummary }),
];
const newKey = () => ({ projectKey: `project-${randomUUID()}`, sessionId: randomUUID() });
/** @param {number} n @param {object} [fields] @returns {Entry} */
const entry = (n, fields) => ({ type: "x", n, nested: { list: [n, null] }, ...fields });

/** @param {{ append: Function, load: Function }} claude @param {any} key @param {Entry[]} entries */
async function holds(claude, key, entries) {
  assert.deepEqual(await claude.load(key), entries);
}

describe("what the SDK asks of a store", () => {
  test("entries are loaded as they were appended, in that order", async () => {
    for (const claude of forms()) {
      const key = newKey();
      await claude.append(key, [entry(2, { uuid: "b" }), entry(1, { uuid: "a" })]);
      await claude.append(key, [entry(3)]);
      await claude.append(key, [entry(0, { uuid: "c" }), entry(9), entry(9)]);
      const all = [entry(2, { uuid: "b" }), entry(1, { uuid: "a" }), entry(3), entry(0, { uuid: "c" })];
      await holds(claude, key, [...all, entry(9), entry(9)]);
    }
  });

  test("what was never written is null, also after an append of nothing", async () => {
    for (const claude of forms()) {
      const key = newKey();
      await claude.append(key, []);
      assert.equal(await claude.load(key), null);
      await claude.append(key, [entry(1)]);
      await claude.append(key, []);
      await holds(claude, key, [entry(1)]);
      assert.equal(await claude.load({ ...key, subpath: "subagents/agent-1" }), null);
      assert.equal(await claude.load({ ...key, sessionId: randomUUID() }), null);
    }
  });

  test("subagents, sessions and projects do not mix", async () => {
    for (const claude of forms()) {
      const key = newKey();
      const keys = [
        key,
        { ...key, subpath: "subagents/agent-1" },
        { ...key, subpath: "subagents/agent-10" },
        { ...key, sessionId: key.sessionId + "0" },
        { ...key, sessionId: "%" },
        { ...key, sessionId: "a:b" },
        { ...key, sessionId: "a", subpath: "b" },
        { ...key, projectKey: key.projectKey + ":a", sessionId: "b" },
        { ...key, projectKey: "p".repeat(500) },
        { ...key, projectKey: "p".repeat(501) },
      ];
      for (const [i, each] of keys.entries()) await claude.append(each, [entry(i)]);
      for (const [i, each] of keys.entries()) await holds(claude, each, [entry(i)]);
      const ids = async (/** @type {string} */ project) =>
        (await claude.listSessions(project)).map(({ sessionId }) => sessionId).sort();
      assert.deepEqual(await ids(key.projectKey), [key.sessionId, key.sessionId + "0", "%", "a:b"].sort());
      assert.deepEqual(await ids("p".repeat(500)), [key.sessionId]);
      assert.deepEqual(await ids("p".repeat(499)), []);
      assert.deepEqual((await claude.listSubkeys(key)).sort(), ["subagents/agent-1", "subagents/agent-10"]);
      assert.deepEqual(await claude.listSubkeys({ ...key, sessionId: "%" }), []);
      assert.deepEqual(await claude.listSubkeys({ ...key, sessionId: "never" }), []);
      for (const each of keys) await claude.delete(each);
    }
  });

  test("a session is listed with the time of its last entry", async () => {
    for (const claude of forms()) {
      const key = newKey();
      await claude.append(key, [entry(1)]);
      const [first] = await claude.listSessions(key.projectKey);
      assert(Number.isInteger(first.mtime) && Math.abs(first.mtime - Date.now()) < 3_600_000);
      await claude.append({ ...key, sessionId: "other" }, [entry(1)]);
      await claude.append(key, [entry(2)]);
      const times = new Map((await claude.listSessions(key.projectKey)).map((s) => [s.sessionId, s.mtime]));
      assert(Number(times.get(key.sessionId)) >= Number(times.get("other")));
    }
  });

  test("deleting a session ends its subagents, and nothing else", async () => {
    for (const claude of forms()) {
      const key = newKey();
      const subs = ["a", "b"].map((name) => ({ ...key, subpath: `subagents/${name}` }));
      const others = [
        { ...key, sessionId: "other" },
        { ...key, projectKey: key.projectKey + "2" },
      ];
      for (const each of [key, ...subs, ...others]) await claude.append(each, [entry(1)]);
      await claude.delete(subs[0]);
      assert.deepEqual(await claude.listSubkeys(key), ["subagents/b"]);
      await holds(claude, key, [entry(1)]);
      await claude.delete(key);
      for (const each of [key, ...subs]) assert.equal(await claude.load(each), null);
      assert.deepEqual(await claude.listSubkeys(key), []);
      for (const each of others) await holds(claude, each, [entry(1)]);
      await claude.delete(newKey());
    }
  });

  test("an entry with a uuid is there once, however often and in whatever batches it comes", async () => {
    for (const claude of forms()) {
      const key = newKey();
      const entries = [1, 2, 3, 4].map((n) => entry(n, { uuid: `u${n}` }));
      const [a, b, c, d] = entries;
      await claude.append(key, [a, b, c]);
      await claude.append(key, [a, b, c]);
      const { messageCount } = (await store.list({ idPrefix: key.projectKey }))[0];
      assert.equal(messageCount, 3, "a batch that is repeated is not stored again");
      await claude.append(key, [b]);
      await claude.append(key, [c, d]);
      await holds(claude, key, entries);
      await claude.append(key, [entry(5)]);
      await claude.append(key, [entry(5)]);
      await holds(claude, key, [...entries, entry(5), entry(5)]);
    }
  });

  test("any JSON is an entry", async () => {
    const text =
      '{"type": "x", "__proto__": 1, "nul": "\\u0000", "lone": "\\udc00 \\u0010", "n": -1.5e-9, "e": null}';
    for (const claude of forms()) {
      const key = newKey();
      await claude.append(key, [JSON.parse(text)]);
      await holds(claude, key, [JSON.parse(text)]);
    }
  });
});

test("the SDK's InMemorySessionStore answers the same, over a random course", async () => {
  let seed = 14;
  const random = (/** @type {number} */ n) => (seed = (seed * 48271) % 2147483647) % n;
  const theirs = new sdk.InMemorySessionStore();
  const ours = new ClaudeSessionStore({ store, foldSessionSummary });
  const [projects, sessions, subpaths] = [["P", "P:Q", "-home-ada"], [1, 2, 3, 4].map(() => randomUUID()), 3];
  const dead = new Set();
  for (let step = 0; step < 150; step++) {
    const subpath = random(2) ? undefined : `subagents/agent-${random(subpaths)}`;
    const key = { projectKey: projects[random(3)], sessionId: sessions[random(4)], subpath };
    const name = `${key.projectKey} ${key.sessionId}`;
    if (random(40) === 0) {
      await Promise.all([theirs.delete(key), ours.delete(key)]);
      dead.add(subpath ? `${name} ${subpath}` : name);
    } else if (!dead.has(name) && !dead.has(`${name} ${subpath}`)) {
      const entries = Array.from({ length: random(3) }, () => entry(step, { customTitle: `title ${step}` }));
      if (entries.length > 0) await Promise.all([theirs.append(key, entries), ours.append(key, entries)]);
    }
    assert.deepEqual(await ours.load(key), await theirs.load(key), `step ${step}`);
    assert.deepEqual((await ours.listSubkeys(key)).sort(), (await theirs.listSubkeys(key)).sort());
    const listed = await Promise.all([ours, theirs].map((s) => s.listSessions(key.projectKey)));
    const [a, b] = listed.map((list) => list.map(({ sessionId }) => sessionId).sort());
    assert.deepEqual(a, b, `step ${step}`);
    const folded = await Promise.all(
      [ours, theirs].map(async (s) => (await s.listSessionSummaries?.(key.projectKey)) ?? []),
    );
    const [x, y] = folded.map((list) => new Map(list.map(({ sessionId, data }) => [sessionId, data])));
    assert.deepEqual(x, y, `step ${step}`);
  }
});

describe("summaries", () => {
  test("one is left out, and not wrong, when two processes appended at once", async () => {
    const key = newKey();
    const [one, two] = [1, 2].map(() => new ClaudeSessionStore({ store, foldSessionSummary }));
    await one.append(key, [entry(1)]);
    const get = store.get;
    // both fold what they add to the same summary
    const racing = new ClaudeSessionStore({
      store: /** @type {any} */ ({
        with: () =>
          Object.assign(store.with({}), {
            get: async (/** @type {string} */ id) => {
              const before = await get.call(store, id);
              await two.append(key, [entry(2)]);
              return before;
            },
          }),
      }),
      foldSessionSummary,
    });
    await racing.append(key, [entry(3)]);
    await holds(one, key, [entry(1), entry(2), entry(3)]);
    assert.deepEqual(await one.listSessionSummaries?.(key.projectKey), []);
    assert.equal((await one.listSessions(key.projectKey)).length, 1);
  });

  test("are folded from what PostgreSQL has, whatever is in Redis", async () => {
    const key = newKey();
    const redis = { isReady: true, mGet: async () => ['{"summary": "{}", "count": 1}'] };
    const reading = new SessionStore({ pool, redis, reads: "plain", namespace: "claude" });
    const claude = new ClaudeSessionStore({ store: reading, foldSessionSummary });
    for (const n of [1, 2, 3]) await claude.append(key, [entry(n, { customTitle: `title ${n}` })]);
    const [summary] = (await claude.listSessionSummaries?.(key.projectKey)) ?? [];
    assert.equal(summary?.data.customTitle, "title 3");
  });

  test("are left out for sessions that a process without them appended to", async () => {
    const key = newKey();
    const [plain, folding] = forms();
    assert.equal(plain.listSessionSummaries, undefined, "the SDK looks whether there is the method");
    await plain.append(key, [entry(1)]);
    assert.deepEqual(await folding.listSessionSummaries?.(key.projectKey), []);
    await folding.append(key, [entry(2)]);
    assert.deepEqual(await folding.listSessionSummaries?.(key.projectKey), []);
  });

  test("have the time that the session is listed with", async () => {
    const key = newKey();
    const [, folding] = forms();
    await folding.append(key, [entry(1, { customTitle: "one" })]);
    await folding.append({ ...key, subpath: "subagents/agent-1" }, [entry(1, { customTitle: "two" })]);
    const [summary] = (await folding.listSessionSummaries?.(key.projectKey)) ?? [];
    const [listed] = await folding.listSessions(key.projectKey);
    assert.deepEqual([summary.sessionId, summary.mtime], [listed.sessionId, listed.mtime]);
    assert.equal(foldSessionSummary(summary, key, [entry(2)]).data.customTitle, "one");
  });
});

test("each operation is one call", async () => {
  const [plain, folding] = forms();
  const key = newKey();
  await plain.append(key, [entry(1)]);
  await plain.append({ ...key, subpath: "s" }, [entry(1)]);
  await plain.load(key);
  await plain.listSessions(key.projectKey);
  await plain.listSubkeys(key);
  await plain.delete({ ...key, subpath: "s" });
  await plain.delete(key);
  const lists = ["session_history", "session_list", "session_list"];
  assert.deepEqual(db.take(), [
    "session_append",
    "session_append",
    ...lists,
    "session_delete",
    "session_clear",
  ]);
  const other = newKey();
  await folding.append(other, [entry(1)]);
  await folding.append({ ...other, subpath: "s" }, [entry(1)]);
  await folding.listSessionSummaries?.(other.projectKey);
  assert.deepEqual(db.take(), ["session_get", "session_append", "session_append", "session_list"]);
});

test("a key that the store refuses is an error, and a deleted session stays deleted", async () => {
  for (const claude of forms()) {
    const key = newKey();
    const refused = ["s".repeat(300), "\ud800"];
    for (const subpath of refused)
      await assert.rejects(claude.append({ ...key, subpath }, [entry(1)]), InvalidArgumentError);
    await claude.append(key, [entry(1)]);
    await claude.delete(key);
    await assert.rejects(claude.append(key, [entry(2)]), DeadSessionError);
    assert.equal(await claude.load(key), null);
  }
});

describe("the functions of the SDK", () => {
  /** @type {string} */
  let dir;
  before(async () => void (dir = await realpath(await mkdtemp(join(tmpdir(), "claude-")))));
  after(() => rm(dir, { recursive: true }));

  /** A transcript as the CLI writes it. @param {string} sessionId @param {string} text @returns {Entry[]} */
  const transcript = (sessionId, text) => {
    const [ask, answer] = [randomUUID(), randomUUID()];
    const common = { sessionId, cwd: dir, version: "2.1.0", isSidechain: false, userType: "external" };
    const time = (/** @type {number} */ s) => ({ timestamp: new Date(1.7e12 + s * 1000).toISOString() });
    const message = { role: "assistant", content: [{ type: "text", text: `answer to ${text}` }], id: "m" };
    return [
      {
        type: "user",
        uuid: ask,
        parentUuid: null,
        message: { role: "user", content: text },
        ...common,
        ...time(0),
      },
      { type: "assistant", uuid: answer, parentUuid: ask, message, ...common, ...time(1) },
    ];
  };

  test("list, read, rename, tag, fork and delete sessions of the store", async () => {
    for (const sessionStore of forms()) {
      const [first, second] = [randomUUID(), randomUUID()];
      // the project's key is the SDK's own: what an import gives it
      await importTranscript(first, transcript(first, "tea?"), sessionStore);
      await importTranscript(second, transcript(second, "milk?"), sessionStore);
      const options = { dir, sessionStore };
      const listed = async () =>
        Object.fromEntries((await sdk.listSessions(options)).map((s) => [s.sessionId, s.summary]));
      assert.deepEqual(await listed(), { [first]: "tea?", [second]: "milk?" });

      const messages = await sdk.getSessionMessages(first, options);
      assert.deepEqual(
        messages.map(({ type }) => type),
        ["user", "assistant"],
      );
      await sdk.renameSession(first, "about tea", options);
      await sdk.tagSession(first, "hot", options);
      const info = await sdk.getSessionInfo(first, options);
      assert.deepEqual([info?.customTitle, info?.tag], ["about tea", "hot"]);
      assert.equal((await sdk.listSessions(options))[0].customTitle, "about tea");

      const { sessionId: fork } = await sdk.forkSession(first, options);
      assert.equal((await sdk.getSessionMessages(fork, options)).length, 2);
      await sdk.deleteSession(first, options);
      assert.deepEqual(await sdk.getSessionMessages(first, options), []);
      assert.deepEqual(Object.keys(await listed()).sort(), [second, fork].sort());
      for (const id of [second, fork]) await sdk.deleteSession(id, options);
    }
  });

  test("import a session with its subagents, again and again", async () => {
    const [sessionStore] = forms();
    const id = randomUUID();
    const entries = transcript(id, "tea?");
    await importTranscript(id, entries, sessionStore, "agent-1");
    await importTranscript(id, entries, sessionStore, "agent-1", 1);
    const options = { dir, sessionStore };
    assert.equal((await sdk.getSessionMessages(id, options)).length, 2);
    assert.deepEqual(await sdk.listSubagents(id, options), ["1"]);
    assert.equal((await sdk.getSubagentMessages(id, "1", options)).length, 2);
  });

  /**
   * Writes a transcript where the CLI keeps them, and imports it.
   *
   * @param {string} id
   * @param {Entry[]} entries
   * @param {ClaudeSessionStore} claude
   * @param {string} [subagent]
   * @param {number} [batchSize]
   */
  async function importTranscript(id, entries, claude, subagent, batchSize) {
    const config = join(dir, "config");
    process.env.CLAUDE_CONFIG_DIR = config;
    const project = join(config, "projects", dir.replace(/[^a-zA-Z0-9]/g, "-"));
    const lines = entries.map((each) => JSON.stringify(each) + "\n").join("");
    await mkdir(join(project, id, "subagents"), { recursive: true });
    await writeFile(join(project, `${id}.jsonl`), lines);
    if (subagent) await writeFile(join(project, id, "subagents", `${subagent}.jsonl`), lines);
    await sdk.importSessionToStore(id, claude, { dir, batchSize });
  }
});

testFaults(
  "claude-agent",
  () => servers,
  (faulty) => {
    const claude = new ClaudeSessionStore({ store: faulty, foldSessionSummary });
    const key = (/** @type {string} */ sessionId) => ({ projectKey: "faults", sessionId });
    return {
      read: async (id) => (await claude.load(key(id)))?.at(-1)?.text,
      write: (id, text) => claude.append(key(id), [{ type: "x", uuid: randomUUID(), text }]),
      logout: (id) => claude.delete(key(id)),
    };
  },
  { namespace: "claude", lateSave: "refused" },
);
