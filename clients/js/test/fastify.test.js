// session_store/fastify: a store of @fastify/session, through applications, and its faults.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import fastifyCookie from "@fastify/cookie";
import fastifySession from "@fastify/session";
import session from "express-session";
import { fastify } from "fastify";
import { SessionStoreFastify } from "../src/adapters/fastify.js";
import { SessionStore, UnavailableError } from "../src/index.js";
import { Browser, countCalls } from "./support/browser.js";
import { openWeb, testFaults } from "./support/faults.js";
import { waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {Awaited<ReturnType<typeof openWeb>>["opened"]} */
let opened;

before(async () => {
  ({ servers, opened } = await openWeb(
    "INSERT INTO session_namespaces (name, ttl, cache) VALUES ('web', '1 hour', 'hot')",
  ));
});
after(async () => {
  await opened?.close();
  await servers?.stop();
});

const hour = 3600_000;

/**
 * @param {object} options of @fastify/session
 * @param {(url: string, browser: Browser, waiting: Map<string, () => void>) => Promise<void>} body
 * @param {any} [store]
 */
async function withApplication(options, body, store = new SessionStoreFastify({ store: opened.store })) {
  /** @type {Map<string, () => void>} */
  const waiting = new Map();
  const app = fastify({ forceCloseConnections: true });
  app.register(fastifyCookie);
  app.register(fastifySession, {
    store,
    secret: "a secret of thirty-two characters",
    cookie: { secure: false, maxAge: hour },
    saveUninitialized: false,
    ...options,
  });
  const go = (/** @type {string} */ path, /** @type {(session: any, value: string) => unknown} */ act) =>
    app.get(path, async (/** @type {any} */ request) => {
      await act(request.session, request.params.value);
      return { ...request.session, id: request.session?.sessionId, cookie: undefined };
    });
  go("/", () => {});
  go("/user/:value", (found, value) => found.set("user", value));
  go("/n/:value", (found, value) => found.set("n", value));
  go("/regenerate", (found) => found.regenerate(["user"]));
  go("/reload", (found) => found.reload());
  go("/save", (found) => found.save());
  go("/logout", (found) => found.destroy());
  go("/slow", async (found) => {
    await new Promise((/** @type {(_: void) => void} */ next) => waiting.set("slow", next));
    found.set("slow", true);
  });
  app.setErrorHandler((/** @type {Error} */ error, _request, reply) =>
    reply.code(500).send({ error: error.name }),
  );
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  try {
    await body(url, new Browser(), waiting);
  } finally {
    await app.close();
  }
}

describe("@fastify/session", () => {
  for (const options of [{}, { rolling: false }, { saveUninitialized: true }, { cookie: { secure: false } }])
    test(`login, change, logout with ${JSON.stringify(options)}`, async () => {
      await withApplication(options, async (url, browser) => {
        const { body: login } = await browser.go(url + "/user/ada");
        assert.deepEqual((await browser.go(url)).body, { user: "ada", id: login.id });
        await browser.go(url + "/n/1");
        assert.deepEqual((await browser.go(url)).body, { user: "ada", n: "1", id: login.id });
        assert.deepEqual((await browser.go(url + "/reload")).body, { user: "ada", n: "1", id: login.id });
        assert.equal((await browser.go(url + "/save")).status, 200);
        const cookies = new Map(browser.cookies);
        await browser.go(url + "/logout");
        browser.cookies = cookies;
        const { body } = await browser.go(url);
        assert.equal(body.user, undefined);
        assert.notEqual(body.id, login.id);
      });
    });

  test("regenerate keeps the named members, and ends the session under the old id", async () => {
    await withApplication({}, async (url, browser) => {
      const { body: before } = await browser.go(url + "/user/ada");
      await browser.go(url + "/n/1");
      const { body } = await browser.go(url + "/regenerate");
      assert.deepEqual([body.user, body.n], ["ada", undefined]);
      assert.notEqual(body.id, before.id);
      assert.equal((await browser.go(url)).body.user, "ada");
      await assert.rejects(opened.store.save(before.id, {}), { code: "SST10" });
    });
  });

  test("a session lives as long as its cookie", async () => {
    const store = new SessionStoreFastify({ store: opened.store, ttl: "1 day" });
    const end = new Date(Date.now() + 5 * hour);
    for (const [cookie, least] of /** @type {const} */ ([
      [{ maxAge: 2 * hour }, 1.5 * hour],
      [{ expires: end }, 4 * hour],
      [{}, 23 * hour],
    ]))
      await withApplication(
        { cookie: { secure: false, ...cookie } },
        async (url, browser) => {
          const { body } = await browser.go(url + "/user/ada");
          const ttl = /** @type {number} */ (await opened.store.ttl(body.id));
          assert(ttl > least && ttl <= least + hour, `${ttl}`);
          if ("expires" in cookie)
            assert.equal(
              Number((await opened.store.fetch(body.id))?.expiresAt),
              Number(end),
              "that very date",
            );
        },
        store,
      );
  });

  test("a cookie whose time is over ends the session", async () => {
    const { get, set } = promises(new SessionStoreFastify({ store: opened.store }));
    for (const over of [{ originalMaxAge: 0 }, { originalMaxAge: null, expires: new Date(0) }]) {
      const id = randomUUID();
      await set(id, { cookie: { originalMaxAge: hour } });
      await set(id, { cookie: over });
      assert.equal(await get(id), undefined);
      await assert.rejects(opened.store.save(id, {}), { code: "SST10" }, "as by a logout");
    }
  });

  test("a request that saves after a logout neither fails nor logs in", async () => {
    await withApplication({}, async (url, browser, waiting) => {
      await browser.go(url + "/user/ada");
      const cookies = new Map(browser.cookies);
      const slow = browser.go(url + "/slow");
      await waitUntil(() => waiting.has("slow"), "the request has read the session");
      await browser.go(url + "/logout");
      waiting.get("slow")?.();
      assert.equal((await slow).status, 200);
      browser.cookies = cookies;
      assert.equal((await browser.go(url)).body.user, undefined);
    });
  });

  test("owners, and the calls that each kind of request makes", async () => {
    const core = new SessionStore({ pool: opened.pool, namespace: "web" });
    const store = new SessionStoreFastify({ store: core, owner: ({ user }) => user });
    const count = countCalls(opened.pool);
    for (const rolling of [true, false])
      await withApplication(
        { rolling },
        async (url, browser) => {
          const calls = async (/** @type {string} */ path) => {
            count();
            await browser.go(url + path);
            return count();
          };
          assert.deepEqual(await calls("/"), []);
          assert.deepEqual(await calls("/user/fastify-ada"), ["session_save"]);
          assert.deepEqual(await calls("/"), rolling ? ["session_get", "session_save"] : ["session_get"]);
          assert.deepEqual(await calls("/n/1"), ["session_get", "session_save"]);
          assert.equal(await core.deleteAll("fastify-ada"), 1);
          assert.equal((await browser.go(url)).body.user, undefined);
          await browser.go(url + "/user/fastify-ada");
          assert.deepEqual(await calls("/logout"), ["session_get", "session_delete"]);
        },
        store,
      );
  });

  test("sessions of a previous store move", async () => {
    const previous = new session.MemoryStore();
    const browser = new Browser();
    await withApplication({}, async (url) => void (await browser.go(url + "/user/ada")), previous);
    const store = new SessionStoreFastify({ store: opened.store, previous });
    await withApplication(
      {},
      async (url) => {
        const { body } = await browser.go(url);
        assert.equal(body.user, "ada");
        assert.equal(await promisify(previous.get.bind(previous))(body.id), undefined);
        await browser.go(url + "/logout");
        assert.equal(await opened.store.exists(body.id), false);
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
});

/** @param {SessionStoreFastify} store */
function promises(store) {
  const names = /** @type {const} */ (["get", "set", "destroy"]);
  return /** @type {Record<(typeof names)[number], (...args: any[]) => Promise<any>>} */ (
    Object.fromEntries(names.map((name) => [name, promisify(store[name]).bind(store)]))
  );
}

testFaults(
  "fastify",
  () => servers,
  (store) => {
    const { get, set, destroy } = promises(new SessionStoreFastify({ store }));
    return {
      read: async (id) => (await get(id))?.value,
      write: (id, value) => set(id, { cookie: { originalMaxAge: hour }, value }),
      logout: destroy,
    };
  },
  { namespace: "web" },
);
