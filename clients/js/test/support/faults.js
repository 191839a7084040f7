/**
 * The faults that every adapter has to bear, as tests of one file:
 *
 *   testFaults("keyv", () => servers, (store) => ({
 *     read: (id) => keyv.get(id),
 *     write: (id, value) => keyv.set(id, value),
 *     logout: (id) => keyv.delete(id),
 *   }));
 *
 * The servers are those of the file (support/servers.js). Values are strings, read() gives undefined or null where
 * there is none.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import pg from "pg";
import { createClient } from "redis";
import { SessionStore, UnavailableError } from "../../src/index.js";
import { startServers, waitUntil } from "./servers.js";

/**
 * @typedef {import("./servers.js").Servers} Servers
 *
 * @typedef {object} Adapter
 * @property {(id: string) => Promise<unknown>} read
 * @property {(id: string, value: string) => Promise<unknown>} write
 * @property {(id: string) => Promise<unknown>} logout
 * @property {(id: string) => Promise<(value: string) => Promise<unknown>>} [edit] reads, and returns what saves
 *   afterwards, as one request does; read and write if not given
 *
 * @typedef {object} FaultOptions
 * @property {string} [namespace]
 * @property {string} [keyPrefix]
 * @property {"ignored" | "refused" | "new"} [lateSave] what the adapter does with the save of a request that read the
 *   session before it was logged out: no error, or an error, and the session stays out. Names of a cache are not logged
 *   out, only deleted: the save stores the value.
 */

const connections = 3;
const timeout = 300_000; // ms: for machines that are busy

/** @param {unknown[]} promises */
const all = (promises) => Promise.all(promises);

/**
 * A store over a pool and a Redis of its own.
 *
 * @param {Servers} servers
 * @param {Partial<import("../../src/index.js").SessionStoreOptions>} [options]
 */
export async function openStore(servers, options = {}) {
  const pool = new pg.Pool({ ...servers.pg, max: connections, connectionTimeoutMillis: 60_000 });
  pool.on("error", () => {}); // a connection that is idle when the server stops
  const redis = createClient({
    socket: { ...servers.redis.socket, reconnectStrategy: 50 },
    disableOfflineQueue: true,
  });
  redis.on("error", () => {});
  redis.connect().catch(() => {});
  await waitUntil(() => redis.isReady, "the client is connected to Redis");
  const store = new SessionStore({ pool, redis, namespace: "default", ...options });
  const close = async () => {
    redis.destroy();
    await pool.end();
  };
  return { store, pool, redis, close };
}

/**
 * Servers on which each change waits at the fence, and a store in the namespace "web".
 *
 * @param {string} namespaces the statement that makes it, and others
 */
export async function openWeb(namespaces) {
  const servers = await startServers({ settings: { "session_store.fence": "all" } });
  await servers.sql(namespaces);
  await servers.cacheReady();
  return { servers, opened: await openStore(servers, { namespace: "web" }) };
}

/** Whether an error says that there was no server, or is caused by one that does. @param {any} error */
export function isUnavailable(error) {
  for (let cause = error; cause; cause = cause.cause) if (cause instanceof UnavailableError) return true;
  return false;
}

/**
 * @param {string} name of the adapter
 * @param {() => Servers} servers
 * @param {(store: SessionStore) => Adapter | Promise<Adapter>} make the adapter over a store
 * @param {FaultOptions} [options]
 */
export function testFaults(name, servers, make, { lateSave = "ignored", ...options } = {}) {
  /**
   * A test with two clients.
   *
   * @param {string} what
   * @param {(one: Adapter & { pool: pg.Pool }, two: Adapter & { pool: pg.Pool }, id: string) => Promise<unknown>} body
   */
  const fault = (what, body) =>
    test(what, { timeout }, async () => {
      await servers().cacheReady();
      const opened = await Promise.all([openStore(servers(), options), openStore(servers(), options)]);
      try {
        const [one, two] = await Promise.all(
          opened.map(async ({ store, pool }) => ({ ...(await make(store)), pool })),
        );
        await body(one, two, randomUUID());
      } finally {
        await all(opened.map(({ close }) => close()));
      }
    });
  /** The next reads give the value; strong readers may be behind a change that does not wait at the fence. */
  const reads = (/** @type {Adapter} */ adapter, /** @type {string} */ id, /** @type {string} */ value) =>
    waitUntil(async () => (await adapter.read(id)) === value, `${id} is read as ${value}`);
  const isOut = async (/** @type {Adapter} */ adapter, /** @type {string} */ id) =>
    assert((await adapter.read(id)) == null, "a session that was logged out is not read");

  /** Both go on without Redis. @param {Adapter} one @param {Adapter} two @param {string} id */
  const withoutRedis = async (one, two, id) => {
    await reads(two, id, "before");
    await two.write(id, "during");
    await reads(one, id, "during");
    await two.logout(id + "-out");
    await all([isOut(one, id + "-out"), isOut(two, id + "-out")]);
  };

  describe(`${name}: faults`, { concurrency: 1 }, () => {
    fault("two clients at once", async (one, two, id) => {
      const ids = Array.from({ length: 20 }, (_, i) => `${id}-${i}`);
      await all(ids.flatMap((each) => [one.write(each, "one"), two.write(each, "two")]));
      const values = await all(ids.map((each) => one.read(each)));
      for (const value of values) assert(value === "one" || value === "two", `${value} was saved`);
      await all(ids.flatMap((each) => [one.logout(each), two.logout(each)]));
      await all(ids.flatMap((each) => [isOut(one, each), isOut(two, each)]));
    });

    fault("a session is logged out between read and save", async (one, two, id) => {
      await one.write(id, "in");
      await reads(two, id, "in");
      const edit = two.edit ?? (async () => (/** @type {string} */ value) => two.write(id, value));
      const save = await edit(id);
      await one.logout(id);
      if (lateSave === "refused") await assert.rejects(save("late"));
      else await save("late");
      if (lateSave === "new") await reads(one, id, "late");
      else await all([isOut(one, id), isOut(two, id)]);
    });

    fault("Redis is away, and back", async (one, two, id) => {
      await all([one.write(id, "before"), one.write(id + "-out", "before")]);
      await servers().killRedis();
      try {
        await withoutRedis(one, two, id);
      } finally {
        await servers().startRedis();
      }
      await servers().cacheReady();
      await all([reads(one, id, "during"), isOut(one, id + "-out"), isOut(two, id + "-out")]);
      await one.write(id, "after");
      await reads(two, id, "after");
    });

    fault("Redis hangs, and goes on", async (one, two, id) => {
      await all([one.write(id, "before"), one.write(id + "-out", "before")]);
      await all([reads(one, id, "before"), reads(two, id, "before")]); // there may be copies
      await servers().hangRedis();
      try {
        await withoutRedis(one, two, id);
      } finally {
        await servers().resumeRedis();
      }
      await all([isOut(one, id + "-out"), isOut(two, id + "-out")]);
      await servers().cacheReady();
      await all([reads(one, id, "during"), isOut(one, id + "-out"), isOut(two, id + "-out")]);
    });

    fault("the pool is exhausted", async (one, two, id) => {
      await one.write(id, "before");
      const held = await Promise.all(Array.from({ length: connections }, () => one.pool.connect()));
      const { options } = one.pool;
      const { connectionTimeoutMillis } = options;
      options.connectionTimeoutMillis = 1000;
      try {
        await assert.rejects(one.write(id, "during"), isUnavailable);
        await assert.rejects(one.logout(id), isUnavailable);
        await two.write(id, "by another");
      } finally {
        options.connectionTimeoutMillis = connectionTimeoutMillis;
        for (const client of held) client.release();
      }
      await one.write(id, "after");
      await reads(one, id, "after");
      await one.logout(id);
      await isOut(two, id);
    });

    fault("the server is restarted", async (one, two, id) => {
      await all([one.write(id, "before"), two.write(id + "-2", "before")]); // both have connections
      await servers().stopPostgres("fast");
      try {
        await assert.rejects(one.write(id, "during"), isUnavailable);
        await assert.rejects(one.logout(id), isUnavailable);
        await assert.rejects(one.read(id + "-absent"), isUnavailable);
      } finally {
        await servers().startPostgres();
      }
      await reads(one, id, "before");
      await one.write(id, "after");
      await two.write(id + "-2", "after");
      await all([reads(two, id, "after"), reads(one, id + "-2", "after")]);
      await one.logout(id);
      await isOut(two, id);
    });
  });
}
