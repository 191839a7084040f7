// session_store/koa: an external store of koa-session, through applications, and its faults.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import Koa from "koa";
import session from "koa-session";
import { SessionStoreKoa } from "../src/adapters/koa.js";
import { SessionStore, UnavailableError } from "../src/index.js";
import { Browser, countCalls, serve } from "./support/browser.js";
import { openWeb, testFaults } from "./support/faults.js";
import { waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {Awaited<ReturnType<typeof openWeb>>["opened"]} */
let opened;

before(async () => {
  ({ servers, opened } = await openWeb(`INSERT INTO session_namespaces (name, ttl, cache, tombstone) VALUES
    ('web', '1 hour', 'hot', '5 minutes'), ('brief', '1 hour', 'off', '0')`));
});
after(async () => {
  await opened?.close();
  await servers?.stop();
});

const hour = 3600_000;

/**
 * An application with sessions of its own store.
 *
 * @param {object} options of koa-session
 * @param {(url: string, browser: Browser, waiting: Map<string, () => void>, app: Koa) => Promise<void>} body
 * @param {any} [store]
 */
async function withApplication(options, body, store = new SessionStoreKoa({ store: opened.store })) {
  /** @type {Map<string, () => void>} */
  const waiting = new Map();
  const app = new Koa({ keys: ["k"] });
  app.silent = true;
  app.use(async (ctx, next) => {
    try {
      await next();
    } catch (error) {
      ctx.status = 500;
      ctx.body = { error: /** @type {Error} */ (error).name };
    }
  });
  app.use(session({ store, ...options }, app));
  app.use(async (ctx) => {
    const { session } = ctx;
    const [, what, value] = ctx.path.split("/");
    if (what === "slow") await new Promise((/** @type {(_: void) => void} */ go) => waiting.set("slow", go));
    if (what === "logout") ctx.session = null;
    else if (what === "regenerate") await session.regenerate();
    else if (what === "age") session.maxAge = value === "session" ? value : Number(value);
    else if (what) session[what] = value;
    ctx.body = ctx.session ? { key: session.externalKey, isNew: session.isNew, ...session.toJSON() } : {};
  });
  const { url, stop } = await serve(app.callback());
  try {
    await body(url, new Browser(), waiting, app);
  } finally {
    await stop();
  }
}

/** Milliseconds that a session will live. @param {string} key */
const left = async (key) => /** @type {number} */ (await opened.store.ttl(key));

describe("koa-session", () => {
  for (const options of [{}, { maxAge: "session" }, { maxAge: hour, rolling: true }, { renew: true }])
    test(`login, change, logout with ${JSON.stringify(options)}`, async () => {
      await withApplication(options, async (url, browser) => {
        assert.equal((await browser.go(url)).body.isNew, true);
        assert.equal(browser.cookies.size, 0, "nothing to save");
        const { body: login } = await browser.go(url + "/user/ada");
        assert.deepEqual((await browser.go(url)).body, { key: login.key, isNew: false, user: "ada" });
        await browser.go(url + "/n/1");
        const cookies = new Map(browser.cookies);
        assert.deepEqual((await browser.go(url)).body, { key: login.key, isNew: false, user: "ada", n: "1" });
        await browser.go(url + "/logout");
        browser.cookies = cookies;
        const { body } = await browser.go(url);
        assert.deepEqual([body.isNew, body.user], [true, undefined]);
        assert.notEqual(body.key, login.key);
      });
    });

  test("a session lives as long as its cookie, and a little longer", async () => {
    await withApplication({ maxAge: 2 * hour }, async (url, browser) => {
      const { body } = await browser.go(url + "/user/ada");
      const ttl = "SELECT extract(epoch FROM ttl)::float8 FROM conversation_sessions WHERE session_id = $1";
      assert.equal(await servers.value(ttl, [body.key]), 2 * 3600 + 10);
      await browser.go(url + "/age/" + 5 * hour);
      assert((await left(body.key)) > 4 * hour);
    });
    await withApplication({ maxAge: "session" }, async (url, browser) => {
      const { body } = await browser.go(url + "/user/ada");
      const ttl = await left(body.key);
      assert(ttl > 0.5 * hour && ttl <= hour, "the namespace's");
    });
    const day = new SessionStoreKoa({ store: opened.store, ttl: "1 day" });
    await withApplication(
      { maxAge: "session" },
      async (url, browser) => {
        const { body } = await browser.go(url + "/user/ada");
        assert((await left(body.key)) > 23 * hour, "or the store's");
      },
      day,
    );
  });

  test("regenerate moves the session to another key, and ends the old one", async () => {
    await withApplication({}, async (url, browser) => {
      const { body: before } = await browser.go(url + "/user/ada");
      await browser.go(url + "/regenerate");
      const { body } = await browser.go(url);
      assert.equal(body.user, "ada");
      assert.notEqual(body.key, before.key);
      await assert.rejects(opened.store.save(before.key, {}), { code: "SST10" });
    });
  });

  test("a session that is not there is missed", async () => {
    await withApplication({ signed: false }, async (url, browser, _waiting, app) => {
      /** @type {any[]} */
      const missed = [];
      app.on("session:missed", ({ key }) => missed.push(key));
      for (const id of ["x", "x".repeat(201), "__proto__"]) {
        browser.cookies.set("koa.sess", id);
        const { status, body } = await browser.go(url);
        assert.deepEqual([status, body.isNew], [200, true]);
      }
      await waitUntil(() => missed.length === 3);
    });
  });

  for (const namespace of ["web", "brief"])
    test(`a request that saves after a logout neither fails nor logs in (${namespace})`, async () => {
      const store = new SessionStoreKoa({ store: new SessionStore({ pool: opened.pool, namespace }) });
      await withApplication(
        {},
        async (url, browser, waiting) => {
          await browser.go(url + "/user/ada");
          const cookies = new Map(browser.cookies);
          const slow = browser.go(url + "/slow/1");
          await waitUntil(() => waiting.has("slow"), "the request has read the session");
          await browser.go(url + "/logout");
          waiting.get("slow")?.();
          assert.equal((await slow).status, 200);
          browser.cookies = cookies;
          assert.equal((await browser.go(url)).body.user, undefined);
        },
        store,
      );
    });

  test("owners, and the calls that each kind of request makes", async () => {
    const core = new SessionStore({ pool: opened.pool, namespace: "web" });
    const store = new SessionStoreKoa({ store: core, owner: ({ user }) => user });
    const count = countCalls(opened.pool);
    await withApplication(
      {},
      async (url, browser) => {
        const calls = async (/** @type {string} */ path) => {
          count();
          await browser.go(url + path);
          return count();
        };
        assert.deepEqual(await calls("/"), []);
        assert.deepEqual(await calls("/user/koa-ada"), ["session_save"]);
        assert.deepEqual(await calls("/"), ["session_get"]);
        assert.deepEqual(await calls("/n/1"), ["session_get", "session_save"]);
        assert.deepEqual(await calls("/regenerate"), ["session_get", "session_delete", "session_save"]);
        assert.equal(await core.deleteAll("koa-ada"), 1);
        assert.equal((await browser.go(url)).body.user, undefined);
        assert.deepEqual(await calls("/user/koa-ada"), ["session_get", "session_save"]);
        assert.deepEqual(await calls("/logout"), ["session_get", "session_delete"]);
      },
      store,
    );
  });

  test("sessions of a previous store move, with the lifetime that is stored in them", async () => {
    const old = new Map();
    const previous = {
      get: async (/** @type {string} */ key) => old.get(key),
      set: async (/** @type {string} */ key, /** @type {any} */ found) => void old.set(key, found),
      destroy: async (/** @type {string} */ key) => void old.delete(key),
    };
    const store = new SessionStoreKoa({ store: opened.store, previous });
    const browser = new Browser();
    await withApplication(
      { maxAge: 2 * hour },
      async (url) => void (await browser.go(url + "/user/ada")),
      previous,
    );
    assert.equal(old.size, 1);
    await withApplication(
      { maxAge: 2 * hour },
      async (url) => {
        const { body } = await browser.go(url);
        assert.deepEqual([body.user, old.size], ["ada", 0]);
        const ttl = await left(body.key);
        assert(ttl > 1.5 * hour && ttl <= 2 * hour + 10_000);
        await browser.go(url + "/logout");
        assert.equal(await opened.store.exists(body.key), false);
      },
      store,
    );
  });

  test("the server is away: an error, and the user is still logged in afterwards", async () => {
    await withApplication({}, async (url, browser) => {
      await browser.go(url + "/user/ada");
      await servers.stopPostgres();
      try {
        assert.deepEqual(await browser.go(url), { status: 500, body: { error: UnavailableError.name } });
      } finally {
        await servers.startPostgres();
      }
      assert.equal((await browser.go(url)).body.user, "ada");
    });
  });

  test("an id that the store refuses cannot be saved", async () => {
    const store = new SessionStoreKoa({ store: opened.store });
    for (const id of ["", "a\u0000b", "\ud800", "x".repeat(201)]) {
      assert.equal(await store.get(id), undefined);
      await assert.rejects(store.set(id, {}), { name: "InvalidArgumentError" });
      await assert.rejects(store.destroy(id), { name: "InvalidArgumentError" });
    }
    const id = randomUUID();
    for (const maxAge of [-hour, NaN, Infinity, 1e15, "session", null])
      await store.set(id, { _maxAge: maxAge });
  });
});

testFaults(
  "koa",
  () => servers,
  (core) => {
    const store = new SessionStoreKoa({ store: core });
    const document = (/** @type {string} */ value) => ({ value, _maxAge: hour, _expire: Date.now() + hour });
    return {
      read: async (id) => (await store.get(id))?.value,
      write: (id, value) => store.set(id, document(value)),
      logout: (id) => store.destroy(id),
      edit: async (id) => {
        const ctx = {};
        await store.get(id, hour, { ctx });
        return (value) => store.set(id, document(value), hour, { ctx });
      },
    };
  },
  { namespace: "web" },
);
