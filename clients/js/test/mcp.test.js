import assert from "node:assert/strict";
import { randomUUID, webcrypto } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { CallToolResultSchema, LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import pg from "pg";
import { DeadSessionError, InvalidArgumentError, SessionStore } from "../src/index.js";
import { McpEventStore } from "../src/adapters/mcp.js";
import { testFaults } from "./support/faults.js";
import { recorded } from "./support/recorded.js";
import { startServers, waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool} */
let pool;
/** @type {ReturnType<typeof recorded>} */
let db;
/** @type {SessionStore} */
let store;

globalThis.crypto ??= /** @type {any} */ (webcrypto); // the SDK wants it, and Node 18 does not have it

before(async () => {
  servers = await startServers();
  pool = new pg.Pool({ ...servers.pg, max: 8 });
  pool.on("error", () => {});
  db = recorded(pool);
  store = new SessionStore({ pool: db, namespace: "mcp" });
  await servers.sql(
    "INSERT INTO session_namespaces (name, ttl, tombstone) VALUES ('mcp', '1 hour', '1 hour')",
  );
});
after(async () => {
  await pool.end();
  await servers.stop();
});
beforeEach(() => void db?.take());

/** @param {unknown} n @returns {any} */
const message = (n) => ({ jsonrpc: "2.0", method: "notifications/message", params: { n } });
const newEvents = () => new McpEventStore({ store, sessionId: randomUUID(), pageSize: 3 });

/** What a replay sends. @param {McpEventStore} events @param {string} id */
async function replay(events, id) {
  /** @type {any[]} */
  const sent = [];
  const send = async (/** @type {string} */ eventId, /** @type {any} */ event) =>
    void sent.push([eventId, event.params.n]);
  const streamId = await events.replayEventsAfter(id, { send });
  return { streamId, sent };
}

describe("the event store", () => {
  test("replays the events of the stream after one, in order, under their ids", async () => {
    const events = newEvents();
    const ids = [];
    for (let n = 0; n < 8; n++) {
      ids.push(await events.storeEvent("stream", message(n)));
      await events.storeEvent("another", message("of another"));
    }
    assert.equal(new Set(ids).size, 8);
    for (let n = 0; n < 8; n++)
      assert.deepEqual(await replay(events, ids[n]), {
        streamId: "stream",
        sent: ids.slice(n + 1).map((id, i) => [id, n + 1 + i]),
      });
  });

  test("another process replays what this one has stored; another MCP session has other streams", async () => {
    const sessionId = randomUUID();
    const [one, two, other] = [sessionId, sessionId, sessionId + "2"].map(
      (id) => new McpEventStore({ store: new SessionStore({ pool, namespace: "mcp" }), sessionId: id }),
    );
    const first = await one.storeEvent("_GET_stream", message(1));
    const second = await one.storeEvent("_GET_stream", message(2));
    await other.storeEvent("_GET_stream", message("secret"));
    assert.deepEqual((await replay(two, first)).sent, [[second, 2]]);
    assert.deepEqual(
      (await replay(other, first)).sent.map(([, n]) => n),
      ["secret"],
    );
  });

  test("an MCP session has to be named", () => {
    assert.throws(() => new McpEventStore(/** @type {any} */ ({ store })), TypeError);
  });

  test("the ids of a client cannot lead to the streams of another MCP session", async () => {
    const victim = new McpEventStore({ store, sessionId: "victim" });
    await victim.storeEvent("_GET_stream", message("secret"));
    const attacker = new McpEventStore({ store, sessionId: "attacker" });
    for (const stream of ["victim:_GET_stream", "../victim:_GET_stream", "victim%3A_GET_stream"])
      for (const id of [`${stream}:1:aaaaaaaa`, `${encodeURIComponent(stream)}:1:aaaaaaaa`])
        if (await attacker.getStreamIdForEventId(id)) assert.deepEqual((await replay(attacker, id)).sent, []);
    const joined = new McpEventStore({ store, sessionId: "victim:_GET" });
    await joined.storeEvent("stream", message("other"));
    assert.deepEqual(
      (await replay(victim, "_GET_stream:1:aaaaaaaa")).sent.map(([, n]) => n),
      ["secret"],
    );
  });

  test("an id names its stream, without a call; what is no id names none", async () => {
    const events = newEvents();
    for (const streamId of ["_GET_stream", randomUUID(), "a:1:b", "ä %3A\u0000\n"]) {
      const id = await events.storeEvent(streamId, message(1));
      assert.match(id, /^[!-~]+$/, "an id goes into a header");
      db.take();
      assert.equal(await events.getStreamIdForEventId(id), streamId);
      assert.deepEqual(db.take(), []);
    }
    for (const id of [
      "",
      "a",
      "a:1",
      "a:1:b",
      "a:-1:aaaaaaaa",
      "a:0:aaaaaaaa",
      "a:1.5:aaaaaaaa",
      "%:1:aaaaaaaa",
      `a:${9e15}0:aaaaaaaa`,
    ]) {
      assert.equal(await events.getStreamIdForEventId(id), undefined, id);
      await assert.rejects(replay(events, id), InvalidArgumentError);
    }
  });

  test("events that are stored at once have ids in the order in which they are answered", async () => {
    const events = newEvents();
    /** @type {any[]} */
    const answered = [];
    await Promise.all(
      Array.from({ length: 50 }, async (_, n) => {
        const id = await events.storeEvent("stream", message(n));
        answered.push([id, n]);
      }),
    );
    assert.deepEqual(
      answered.map(([, n]) => n),
      Array.from({ length: 50 }, (_, n) => n),
    );
    assert.deepEqual((await replay(events, answered[0][0])).sent, answered.slice(1));
  });

  test("an event that is stored during a replay is sent by it, or answered after it", async () => {
    const events = newEvents();
    const first = await events.storeEvent("stream", message(0));
    await events.storeEvent("stream", message(1));
    /** @type {unknown[]} */
    const order = [];
    /** @type {Promise<unknown> | undefined} */
    let stored;
    const send = async () => {
      order.push("sent");
      stored = events.storeEvent("stream", message(2)).then(() => order.push("stored"));
      await Promise.race([stored, pause(300)]);
    };
    await events.replayEventsAfter(first, { send });
    order.push("replayed");
    await stored;
    assert.deepEqual(order, ["sent", "replayed", "stored"]);
  });

  test("after a stream has expired and was purged, all events of the new one are replayed", async () => {
    const events = newEvents();
    let last = "";
    for (let n = 0; n < 5; n++) last = await events.storeEvent("stream", message(n));
    await servers.sql("DELETE FROM conversation_sessions WHERE namespace = 'mcp'");
    assert.deepEqual((await replay(events, last)).sent, []);
    const ids = [];
    for (let n = 10; n < 17; n++) ids.push(await events.storeEvent("stream", message(n)));
    assert.deepEqual(await replay(events, last), {
      streamId: "stream",
      sent: ids.map((id, i) => [id, 10 + i]),
    });
  });

  test("an event without a message is a position, and is not sent", async () => {
    const events = newEvents();
    const id = await events.storeEvent("stream", /** @type {any} */ ({}));
    const next = await events.storeEvent("stream", message(1));
    assert.deepEqual((await replay(events, id)).sent, [[next, 1]]);
    assert.deepEqual((await replay(events, id.replace(/.{8}$/, "aaaaaaaa"))).sent, [[next, 1]]);
  });

  test("each operation is one call; a replay reads by pages", async () => {
    const events = newEvents();
    const first = await events.storeEvent("stream", message(0));
    assert.deepEqual(db.take(), ["session_append"]);
    for (let n = 1; n < 6; n++) await events.storeEvent("stream", message(n));
    db.take();
    await replay(events, first);
    assert.deepEqual(db.take(), Array(3).fill("session_history"), "6 events in pages of 3, the last empty");
    await events.delete();
    assert.deepEqual(db.take(), ["session_clear"]);
  });

  test("an MCP session that was closed takes no event any more", async () => {
    const events = newEvents();
    const id = await events.storeEvent("stream", message(0));
    await events.storeEvent("stream", message(1));
    await events.delete();
    await assert.rejects(events.storeEvent("stream", message(2)), DeadSessionError);
    assert.deepEqual((await replay(events, id)).sent, []);
  });
});

describe("a server of the SDK", () => {
  /** A server with one MCP session, whose tool logs as many lines as asked for and leaves its client after the first. */
  async function serve() {
    const sessionId = randomUUID();
    const events = new McpEventStore({ store, sessionId });
    const mcp = new McpServer({ name: "s", version: "1" }, { capabilities: { logging: {} } });
    /** @type {{ left: () => void, go: Promise<void> }} */
    const gate = { left: () => {}, go: Promise.resolve() };
    mcp.registerTool("work", { description: "works" }, async (extra) => {
      for (let n = 1; n <= 4; n++) {
        const params = { level: /** @type {const} */ ("info"), data: n };
        await extra.sendNotification({ method: "notifications/message", params });
        if (n === 1) {
          gate.left();
          await gate.go;
          extra.closeSSEStream?.();
        }
      }
      return { content: [{ type: "text", text: "done" }] };
    });
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => sessionId,
      eventStore: events,
      onsessionclosed: () => events.delete(),
      retryInterval: 10,
    });
    await mcp.connect(/** @type {any} */ (transport));
    const http = createServer((req, res) => void transport.handleRequest(req, res)).listen(0, "127.0.0.1");
    await once(http, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (http.address());
    const close = async () => {
      await mcp.close();
      http.closeAllConnections();
      http.close();
    };
    return { url: new URL(`http://127.0.0.1:${port}/`), sessionId, events, gate, close };
  }

  /** @param {URL} url @param {string} [sessionId] */
  async function open(url, sessionId) {
    const client = new Client({ name: "c", version: "1" });
    /** @type {unknown[]} */
    const lines = [];
    client.setNotificationHandler(
      LoggingMessageNotificationSchema,
      ({ params }) => void lines.push(params.data),
    );
    const transport = new StreamableHTTPClientTransport(url, {
      sessionId,
      reconnectionOptions: {
        initialReconnectionDelay: 10,
        maxReconnectionDelay: 100,
        reconnectionDelayGrowFactor: 1.5,
        maxRetries: 20,
      },
    });
    await client.connect(/** @type {any} */ (transport));
    return { client, transport, lines };
  }

  test("a client that is sent away continues where it was, without loss and without repetition", async () => {
    const server = await serve();
    try {
      const { client, transport, lines } = await open(server.url);
      const result = await client.callTool({ name: "work" });
      assert.deepEqual(result.content, [{ type: "text", text: "done" }]);
      assert.deepEqual(lines, [1, 2, 3, 4]);
      await transport.terminateSession();
      await waitUntil(
        async () => (await store.count({ idPrefix: server.sessionId })) === 0,
        "the events are removed",
      );
      await client.close();
    } finally {
      await server.close();
    }
  });

  test("a client that crashed continues in another process, from the last event that it saw", async () => {
    const server = await serve();
    const seen = new Promise((resolve) => (server.gate.left = () => resolve(undefined)));
    let go = () => {};
    server.gate.go = new Promise((resolve) => (go = resolve));
    try {
      const one = await open(server.url);
      /** @type {string | undefined} */
      let token;
      const call = { method: /** @type {const} */ ("tools/call"), params: { name: "work" } };
      const lost = one.client
        .request(call, CallToolResultSchema, { onresumptiontoken: (t) => void (token = t) })
        .catch(() => "lost");
      await seen;
      await waitUntil(() => one.lines.length === 1, "the first line is read");
      await one.client.close();
      assert.equal(await lost, "lost");
      go();

      const two = await open(server.url, server.sessionId);
      const result = await two.client.request(call, CallToolResultSchema, { resumptionToken: token });
      assert.deepEqual(result.content, [{ type: "text", text: "done" }]);
      assert.deepEqual(two.lines, [2, 3, 4]);
      await two.client.close();
    } finally {
      go();
      await server.close();
    }
  });
});

testFaults(
  "mcp",
  () => servers,
  (faulty) => {
    const of = (/** @type {string} */ sessionId) => new McpEventStore({ store: faulty, sessionId });
    return {
      read: async (id) => (await replay(of(id), "stream:1:aaaaaaaa")).sent.at(-1)?.[1],
      write: (id, value) => of(id).storeEvent("stream", message(value)),
      logout: (id) => of(id).delete(),
    };
  },
  { namespace: "mcp", lateSave: "refused" },
);
