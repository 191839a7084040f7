// session_store/express: what express-session asks of a store, what applications see of it, and its faults.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import session from "express-session";
import { SessionStoreExpress } from "../src/adapters/express.js";
import { ConflictError, InvalidArgumentError, SessionStore, UnavailableError } from "../src/index.js";
import { application } from "./support/application.js";
import { Browser, countCalls, serve } from "./support/browser.js";
import { openWeb, testFaults } from "./support/faults.js";
import { waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {Awaited<ReturnType<typeof openWeb>>["opened"]} */
let opened;

before(async () => {
  ({ servers, opened } =
    await openWeb(`INSERT INTO session_namespaces (name, ttl, cache, tombstone, sliding) VALUES
    ('web', '1 hour', 'hot', '5 minutes', true), ('brief', '1 hour', 'off', '0', true)`));
});
after(async () => {
  await opened?.close();
  await servers?.stop();
});

const hour = 3600_000;
const Cookie = /** @type {new (options: object) => import("express-session").Cookie} */ (session.Cookie);

/** The methods of a store as promises. @param {any} store */
function methods(store) {
  const names = /** @type {const} */ (["get", "set", "touch", "destroy", "all", "length", "clear", "load"]);
  return /** @type {Record<(typeof names)[number], (...args: any[]) => Promise<any>>} */ (
    Object.fromEntries(names.map((name) => [name, promisify(store[name]).bind(store)]))
  );
}

/** @param {object} [options] @param {SessionStore} [store] */
const make = (options, store = opened.store) => new SessionStoreExpress({ store, ...options });

/** A session as express-session passes it to a store. @param {number | null} maxAge @param {object} [data] */
const made = (maxAge, data) => ({ cookie: new Cookie({ maxAge }), ...data });

/** A session's ttl in the table, in milliseconds. @param {string} id */
const ttlOf = (id) =>
  servers.value(
    `SELECT extract(epoch FROM ttl)::float8 * 1000 FROM conversation_sessions WHERE session_id = $1`,
    [id],
  );

describe("what express-session asks of a store", () => {
  test("get finds what set saved, and nothing under another id", async () => {
    const { get, set } = methods(make());
    const id = randomUUID();
    assert.equal(await get(id), undefined);
    await set(id, made(hour, { user: "ada", nested: { list: [1, null, "\u0000 \ud800 é"] } }));
    const found = await get(id);
    assert.deepEqual([found.user, found.nested], ["ada", { list: [1, null, "\u0000 \ud800 é"] }]);
    assert.equal(found.cookie.originalMaxAge, hour);
    await set(id, made(hour, { user: "grace" }));
    assert.equal((await get(id)).user, "grace");
    assert.equal((await get(id)).nested, undefined, "set replaces the session");
    assert.equal(await get(randomUUID()), undefined);
  });

  test("destroy ends a session, and is no error if there is none", async () => {
    const { get, set, destroy } = methods(make());
    const id = randomUUID();
    await destroy(id);
    await set(id, made(hour));
    await destroy(id);
    assert.equal(await get(id), undefined);
    await destroy(id);
  });

  test("a session lives as long as its cookie", async () => {
    const { set, touch } = methods(make());
    const day = methods(make({ ttl: "1 day" }));
    const id = randomUUID();
    await set(id, made(2 * hour));
    assert.equal(await ttlOf(id), 2 * hour);
    await touch(id, made(3 * hour));
    assert.equal(await ttlOf(id), 3 * hour);
    await day.touch(id, { cookie: {} });
    assert.equal(await ttlOf(id), 24 * hour, "the store's");
    await set(id, made(0.25));
    await set(randomUUID(), { cookie: { originalMaxAge: Infinity } });
    const others = [randomUUID(), randomUUID(), randomUUID()];
    await set(others[0], made(null));
    assert.equal(await ttlOf(others[0]), hour, "the namespace's, for a cookie that ends with the browser");
    await day.set(others[1], made(null));
    assert.equal(await ttlOf(others[1]), 24 * hour, "or the store's");
    await set(others[2], { cookie: new Cookie({ expires: new Date(Date.now() + 4 * hour) }) });
    assert.equal(
      Math.round((await ttlOf(others[2])) / hour),
      4,
      "a date of the cookie counts from its making",
    );
  });

  test("a cookie whose time is over ends the session", async () => {
    const { get, set, touch } = methods(make());
    for (const end of [set, touch])
      for (const maxAge of [0, -1, -Infinity]) {
        const id = randomUUID();
        await set(id, made(hour));
        await end(id, { cookie: { originalMaxAge: maxAge } });
        assert.equal(await get(id), undefined, `${end.name} with ${maxAge}`);
      }
  });

  test("touch is no error if there is no session, and creates none", async () => {
    const { get, touch } = methods(make());
    const id = randomUUID();
    await touch(id, made(hour));
    assert.equal(await get(id), undefined);
  });

  test("all, length and clear", async () => {
    await servers.sql("INSERT INTO session_namespaces (name) VALUES ('counted')");
    const { set, all, length, clear } = methods(make({}, opened.store.with({ namespace: "counted" })));
    assert.deepEqual([await all(), await length()], [[], 0]);
    for (const id of ["a", "b", "c"]) await set(id, made(hour, { name: id }));
    const names = (await all()).map((/** @type {any} */ found) => found.id + found.name).sort();
    assert.deepEqual([names, await length()], [["aa", "bb", "cc"], 3]);
    await clear();
    assert.deepEqual([await all(), await length()], [[], 0]);
  });

  test("load makes a Session, which can be saved", async () => {
    const { set, get, load } = methods(make());
    const id = randomUUID();
    assert.equal(await load(id), undefined);
    await set(id, made(hour, { n: 1 }));
    const loaded = /** @type {any} */ (await load(id));
    assert.equal(loaded instanceof session.Session, true);
    assert.equal(loaded.cookie.expires instanceof Date, true);
    loaded.n = 2;
    await promisify(loaded.save).call(loaded);
    assert.equal((await get(id)).n, 2);
  });

  test("errors go to the callback, or to the promise that is returned without one", async () => {
    const nowhere = make({}, opened.store.with({ namespace: "nowhere" }));
    for (const name of /** @type {const} */ (["length", "all", "clear"]))
      await assert.rejects(methods(nowhere)[name](), { name: "NoNamespaceError" }, name);
    await assert.rejects(methods(nowhere).get("id"), { name: "NoNamespaceError" });
    await assert.rejects(methods(nowhere).destroy("id"), { name: "NoNamespaceError" });
    await assert.rejects(methods(nowhere).set("id", made(hour)), { code: "42704" });
    for (const wrong of [made(hour, { n: 1n }), null, undefined])
      await assert.rejects(methods(make()).set(randomUUID(), wrong), TypeError);
    for (const owner of [() => ({ id: 1 }), async () => "ada"])
      await assert.rejects(methods(make({ owner })).set(randomUUID(), made(hour)), /not the id of a user/);
    await assert.rejects(/** @type {any} */ (nowhere.destroy("id")), { code: "42704" });
    const id = randomUUID();
    await make().set(id, made(hour, { n: 1 }));
    assert.equal((await /** @type {any} */ (make().get(id))).n, 1);
  });

  test("an id that the store refuses has no session, and cannot be saved", async () => {
    const { get, set, destroy } = methods(make());
    for (const id of ["", "a\u0000b", "a\nb", "\ud800", "x".repeat(201), "é".repeat(101)]) {
      assert.equal(await get(id), undefined);
      await assert.rejects(set(id, made(hour)), InvalidArgumentError);
      await assert.rejects(destroy(id), InvalidArgumentError);
    }
    for (const id of ["__proto__", "constructor", "%_\\", "'; --", "é".repeat(100), "x"]) {
      await set(id, made(hour, { id: "not the id" }));
      assert.equal((await get(id)).cookie.originalMaxAge, hour);
      await destroy(id);
      assert.equal(await get(id), undefined);
    }
  });
});

/**
 * @param {any} store
 * @param {(url: string, browser: Browser, waiting: Map<string, () => void>) => Promise<void>} body
 * @param {object} [options]
 */
async function withApplication(store, body, options) {
  const { app, waiting } = application(store, options);
  const { url, stop } = await serve(app);
  try {
    await body(url, new Browser(), waiting);
  } finally {
    await stop();
  }
}

const post = { method: "POST" };

describe("what applications see", () => {
  for (const resave of [false, true])
    for (const rolling of [false, true])
      for (const saveUninitialized of [false, true])
        for (const maxAge of [hour, null]) {
          const options = { resave, rolling, saveUninitialized, cookie: { maxAge } };
          test(`login, change, logout with ${JSON.stringify(options)}`, async () => {
            await withApplication(
              make(),
              async (url, browser) => {
                await browser.go(url);
                const { body: login } = await browser.go(url + "/login/ada", post);
                assert.deepEqual((await browser.go(url)).body, { id: login.id, user: "ada" });
                await browser.go(url + "/change/7", post);
                assert.deepEqual((await browser.go(url)).body, { id: login.id, user: "ada", n: 7 });
                const cookies = new Map(browser.cookies);
                assert.equal((await browser.go(url + "/logout", post)).status, 200);
                browser.cookies = cookies;
                assert.equal(
                  (await browser.go(url)).body.user,
                  undefined,
                  "the cookie is worth nothing afterwards",
                );
              },
              options,
            );
          });
        }

  test("a login ends the session under the old id", async () => {
    await withApplication(make(), async (url, browser) => {
      const { body: guest } = await browser.go(url + "/change/1", post);
      const { body: user } = await browser.go(url + "/login/ada", post);
      assert.notEqual(guest.id, user.id);
      assert.equal(await opened.store.exists(guest.id), false);
      await assert.rejects(opened.store.save(guest.id, {}), { code: "SST10" });
    });
  });

  test("the calls that each kind of request makes", async () => {
    const { pool, redis } = opened;
    const count = countCalls(pool);
    const bySql = make({}, new SessionStore({ pool, namespace: "web" }));
    await withApplication(bySql, async (url, browser) => {
      const calls = async (/** @type {string} */ path, /** @type {RequestInit} */ init = post) => {
        count();
        await browser.go(url + path, init);
        return count();
      };
      assert.deepEqual(await calls("/", {}), [], "no cookie, and nothing to save");
      assert.deepEqual(await calls("/login/ada"), ["session_delete", "session_save"]);
      assert.deepEqual(await calls("/", {}), ["session_get"], "the read is the touch");
      assert.deepEqual(await calls("/change/1"), ["session_get", "session_save"]);
      assert.deepEqual(await calls("/age/7200000"), ["session_get", "session_touch"]);
      assert.deepEqual(await calls("/login/grace"), ["session_get", "session_delete", "session_save"]);
      assert.deepEqual(await calls("/logout"), ["session_get", "session_delete"]);
    });
    const strong = make({}, new SessionStore({ pool, redis, namespace: "web", redisTimeout: 60_000 }));
    await withApplication(strong, async (url, browser) => {
      const { body } = await browser.go(url + "/login/ada", post);
      await waitUntil(async () => (await redis.exists("web:" + body.id)) === 1, "there is a copy");
      await waitUntil(async () => {
        count();
        assert.equal((await browser.go(url)).body.user, "ada");
        return count().length === 0;
      }, "a read from Redis makes no call");
    });
  });

  test("reads from Redis see the last change, if changes wait at the fence", async () => {
    await withApplication(make(), async (url, browser) => {
      for (let n = 1; n <= 30; n++) {
        await browser.go(url + "/change/" + n, post);
        assert.equal((await browser.go(url)).body.n, n);
      }
    });
  });

  test("a read restarts the lifetime", async () => {
    await withApplication(make({}, opened.store.with({ reads: "sql" })), async (url, browser) => {
      const { body } = await browser.go(url + "/change/1", post);
      const left = async () => /** @type {number} */ (await opened.store.ttl(body.id));
      await servers.sql(
        "UPDATE conversation_sessions SET expires_at = now() + '1 minute' WHERE session_id = $1",
        [body.id],
      );
      assert((await left()) <= 60_000);
      await browser.go(url);
      assert((await left()) > 30 * 60_000);
    });
  });

  test("another maxAge is kept for the session", async () => {
    await withApplication(make(), async (url, browser) => {
      const { body } = await browser.go(url + "/change/1", post);
      await browser.go(url + "/age/7200000", post);
      await browser.go(url);
      assert.equal(await ttlOf(body.id), 2 * hour);
      await browser.go(url + "/age/0", post);
      assert.equal(await opened.store.exists(body.id), false);
    });
  });

  for (const [namespace, way] of [
    ["web", "destroy"],
    ["brief", "destroy"],
    ["web", "deleteAll"],
    ["web", "sql"],
  ])
    test(`a request that saves after a logout by ${way} neither fails nor logs in (${namespace})`, async () => {
      const store = opened.store.with({ namespace, reads: namespace === "web" ? "strong" : "sql" });
      const owner = (/** @type {any} */ found) => found.user;
      await withApplication(make({ owner }, store), async (url, browser, waiting) => {
        const { body } = await browser.go(url + "/login/ada", post);
        const cookies = new Map(browser.cookies);
        const slow = browser.go(url + "/slow", post);
        await waitUntil(() => waiting.has("slow"), "the request has read the session");
        if (way === "destroy") await browser.go(url + "/logout", post);
        else if (way === "deleteAll") assert((await store.deleteAll("ada")) >= 1);
        else await servers.sql("DELETE FROM conversation_sessions WHERE session_id = $1", [body.id]);
        waiting.get("slow")?.();
        assert.equal((await slow).status, 200);
        browser.cookies = cookies;
        assert.equal((await browser.go(url)).body.user, undefined);
        assert.equal(await store.exists(body.id), false);
      });
    });

  test("a conflict over a session that is there is an error", async () => {
    const store = /** @type {any} */ ({
      save: () => Promise.reject(new ConflictError("could not serialize access", { code: "40001" })),
      exists: () => Promise.resolve(true),
    });
    const { load, set } = methods(make({}, { ...store, get: async () => made(hour) }));
    const loaded = await load("id");
    await assert.rejects(set("id", loaded), ConflictError);
  });

  test("owners: a user has all sessions ended at once", async () => {
    const owner = (/** @type {any} */ { user }) => user && user.length; // a number: owners are text
    await withApplication(make({ owner }), async (url) => {
      const browsers = [new Browser(), new Browser(), new Browser()];
      const users = ["grace", "alan.", "linus.torvalds"];
      for (const [i, browser] of browsers.entries()) await browser.go(`${url}/login/${users[i]}`, post);
      assert.equal(await opened.store.deleteAll("5"), 2);
      const seen = await Promise.all(browsers.map(async (browser) => (await browser.go(url)).body.user));
      assert.deepEqual(seen, [undefined, undefined, "linus.torvalds"]);
    });
  });

  test("unset: destroy", async () => {
    await withApplication(
      make(),
      async (url, browser) => {
        const { body } = await browser.go(url + "/change/1", post);
        await browser.go(url + "/unset", post);
        assert.equal(await opened.store.exists(body.id), false);
      },
      { unset: "destroy" },
    );
  });

  test("the server is away: an error page, and the user is still logged in afterwards", async () => {
    await withApplication(make(), async (url, browser) => {
      const { body: login } = await browser.go(url + "/login/ada", post);
      await servers.stopPostgres();
      try {
        const { status, body } = await browser.go(url);
        assert.equal(status, 500);
        assert.equal(body.error, UnavailableError.name);
        assert.equal(
          (await browser.go(url + "/logout", post)).status,
          500,
          "a logout that did not happen says so",
        );
      } finally {
        await servers.startPostgres();
      }
      assert.deepEqual((await browser.go(url)).body, { id: login.id, user: "ada" });
    });
  });
});

testFaults(
  "express",
  () => servers,
  (store) => {
    const { get, set, destroy, load } = methods(new SessionStoreExpress({ store }));
    return {
      read: async (id) => (await get(id))?.value,
      write: (id, value) => set(id, made(hour, { value })),
      logout: (id) => destroy(id),
      edit: async (id) => {
        const loaded = await load(id);
        return (value) => set(id, Object.assign(loaded, { value }));
      },
    };
  },
  { namespace: "web" },
);
