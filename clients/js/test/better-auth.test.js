// The secondary storage of better-auth: its contract, and better-auth itself in two processes' worth of instances.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import pg from "pg";
import { secondaryStorage } from "../src/adapters/better-auth.js";
import { SessionStore } from "../src/index.js";
import { testFaults } from "./support/faults.js";
import { startServers, waitUntil } from "./support/servers.js";

const base = "http://localhost:3000";
const password = "correct horse battery staple";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {pg.Pool[]} */
let pools;
/** @type {SessionStore[]} */
let stores;

before(async () => {
  servers = await startServers();
  pools = [new pg.Pool(servers.pg), new pg.Pool(servers.pg)];
  for (const pool of pools) pool.on("error", () => {});
  stores = pools.map((pool) => new SessionStore({ pool, namespace: "default" }));
});
after(async () => {
  await Promise.all((pools ?? []).map((pool) => pool.end()));
  await servers?.stop();
});

const withBetterAuth = { skip: globalThis.crypto ? false : "better-auth needs the global crypto of Node 20" };

/** Users and accounts of a test; sessions are in the secondary storage. */
const newDatabase = () => ({ user: [], account: [], session: [], verification: [] });

/**
 * An instance of better-auth, of the many that an application runs.
 *
 * @param {Record<string, any>} db
 * @param {number} i which store
 * @param {Partial<import("better-auth").BetterAuthOptions>} [options]
 */
const open = (db, i, options = {}) =>
  betterAuth({
    baseURL: base,
    secret: "a secret of the tests that is long enough",
    database: memoryAdapter(db),
    secondaryStorage: secondaryStorage({ store: stores[i] }),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    logger: { disabled: true },
    telemetry: { enabled: false },
    ...options,
  });

/** A browser: it keeps cookies. */
class Browser {
  /** @type {Map<string, string>} */
  #cookies = new Map();

  /**
   * @param {{ handler: (request: Request) => Promise<Response> }} auth
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<{ status: number, body: any }>}
   */
  async fetch(auth, path, body) {
    const headers = new Headers({ origin: base, "x-forwarded-for": "192.0.2.1" });
    headers.set("cookie", [...this.#cookies].map((cookie) => cookie.join("=")).join("; "));
    if (body) headers.set("content-type", "application/json");
    const method = body ? "POST" : "GET";
    const request = new Request(`${base}/api/auth${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
    });
    const response = await auth.handler(request);
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /** @type {RegExpMatchArray} */ (line.match(/^([^=]+)=([^;]*)/));
      if (value === "" || /max-age=0/i.test(line)) this.#cookies.delete(name);
      else this.#cookies.set(name, value);
    }
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
  }

  copy() {
    const copy = new Browser();
    copy.#cookies = new Map(this.#cookies);
    return copy;
  }
}

/** @param {ReturnType<typeof open>} auth */
async function signUp(auth, email = "ada@example.com") {
  const browser = new Browser();
  const { status, body } = await browser.fetch(auth, "/sign-up/email", { email, password, name: "Ada" });
  assert.equal(status, 200, JSON.stringify(body));
  return { browser, token: body.token };
}

/** @param {ReturnType<typeof open>} auth */
async function signIn(auth, email = "ada@example.com") {
  const browser = new Browser();
  const { status, body } = await browser.fetch(auth, "/sign-in/email", { email, password });
  assert.equal(status, 200, JSON.stringify(body));
  return { browser, token: body.token };
}

test("signed in at one instance, known to another, signed out at both", withBetterAuth, async () => {
  const db = newDatabase();
  const [one, two] = [open(db, 0), open(db, 1)];
  await signUp(one);
  const { browser, token } = await signIn(one);
  const session = await browser.fetch(two, "/get-session");
  assert.equal(session.body.user.email, "ada@example.com");
  assert.equal(session.body.session.token, token);
  assert.deepEqual(db.session, [], "the session is in the store only");
  assert((await stores[0].get(token)).includes("ada@example.com"));

  const stolen = browser.copy();
  assert.equal((await browser.fetch(two, "/sign-out", {})).status, 200);
  for (const auth of [one, two]) assert.equal((await stolen.fetch(auth, "/get-session")).body, null);
  await assert.rejects(stores[0].save(token, "again"), { name: "DeadSessionError" });
});

test("signing in again right after signing out", withBetterAuth, async () => {
  const db = newDatabase();
  const [one, two] = [open(db, 0), open(db, 1)];
  let { browser } = await signUp(one);
  for (let round = 0; round < 3; round++) {
    await browser.fetch(two, "/sign-out", {});
    ({ browser } = await signIn(two));
    const { body } = await browser.fetch(one, "/list-sessions");
    assert.equal(body.length, 1, "the list of the user's sessions begins again");
  }
});

test(
  "a request that runs while the user signs out does not bring the session back",
  withBetterAuth,
  async () => {
    const db = newDatabase();
    const one = open(db, 0);
    const { browser, token } = await signUp(one);
    const real = secondaryStorage({ store: stores[1] });
    let saves = 0;
    const two = open(db, 1, {
      session: { updateAge: 0 }, // every read of the session prolongs it
      secondaryStorage: {
        ...real,
        async set(key, value, ttl) {
          if (key === token) {
            saves++;
            await browser.copy().fetch(one, "/sign-out", {});
          }
          return real.set(key, value, ttl);
        },
      },
    });
    const late = await browser.fetch(two, "/get-session");
    assert.equal(late.status, 200, "no error page");
    assert.equal(saves, 1, "it has saved the session");
    assert.equal((await browser.fetch(one, "/get-session")).body, null);
    assert.equal(await stores[0].get(token), undefined);
  },
);

test("revoking sessions ends them at every instance", withBetterAuth, async () => {
  const db = newDatabase();
  const [one, two] = [open(db, 0), open(db, 1)];
  const first = await signUp(one);
  const second = await signIn(two);
  const third = await signIn(one);
  assert.equal((await third.browser.fetch(two, "/list-sessions")).body.length, 3);
  await third.browser.fetch(one, "/revoke-session", { token: first.token });
  assert.equal((await first.browser.fetch(two, "/get-session")).body, null);
  await third.browser.fetch(one, "/revoke-other-sessions", {});
  assert.equal((await second.browser.fetch(two, "/get-session")).body, null);
  assert.notEqual((await third.browser.fetch(two, "/get-session")).body, null);
});

test("a password is reset once with one token", withBetterAuth, async () => {
  const db = newDatabase();
  /** @type {string[]} */
  const tokens = [];
  const options = {
    emailAndPassword: {
      enabled: true,
      sendResetPassword: async (/** @type {{ token: string }} */ { token }) => void tokens.push(token),
    },
  };
  const [one, two] = [open(db, 0, options), open(db, 1, options)];
  await signUp(one);
  await new Browser().fetch(one, "/request-password-reset", { email: "ada@example.com", redirectTo: base });
  await waitUntil(() => tokens.length === 1, "the mail is sent");
  const answers = await Promise.all(
    [one, two, one, two].map((auth, i) =>
      new Browser().fetch(auth, "/reset-password", { newPassword: password + i, token: tokens[0] }),
    ),
  );
  assert.equal(answers.filter(({ status }) => status === 200).length, 1, JSON.stringify(answers));
});

test("two instances let exactly the limit through", withBetterAuth, async () => {
  const db = newDatabase();
  const rateLimit = { enabled: true, customRules: { "/get-session": { window: 3600, max: 7 } } };
  const instances = [open(db, 0, { rateLimit }), open(db, 1, { rateLimit })];
  const answers = await Promise.all(
    Array.from({ length: 30 }, (_, i) => new Browser().fetch(instances[i % 2], "/get-session")),
  );
  assert.equal(answers.filter(({ status }) => status === 200).length, 7);
  assert.equal(answers.filter(({ status }) => status === 429).length, 23);
});

describe("the contract of a secondary storage", () => {
  const token = "abcdefghijklmnopqrstuvwxyzABC123";
  const forever = () => Date.now() + 99 * 365 * 86_400_000;
  const open = () => secondaryStorage({ store: stores[0] });
  const end = async (/** @type {string} */ key) =>
    /** @type {any} */ (await stores[0].fetch(key))?.expiresAt.getTime();

  test("a value comes back as it was; what is absent is null", async () => {
    const storage = open();
    assert.equal(await storage.get("absent"), null);
    for (const value of ["", "text", '{"session": {"a":1},  "a": 1e2}', "\u0000\ud800", "null", "123"]) {
      await storage.set("name", value, 60);
      assert.equal(await storage.get("name"), value);
    }
  });

  test("ttl is in seconds, reads do not prolong it, and without one the value is kept", async () => {
    const storage = open();
    const earliest = Date.now() + 90_000;
    await storage.set("name-ttl", "value", 90);
    const at = await end("name-ttl");
    assert(at >= earliest && at <= Date.now() + 90_000);
    await storage.get("name-ttl");
    assert.equal(await end("name-ttl"), at);
    for (const ttl of [undefined, 0, NaN, Infinity]) {
      await storage.set("name-ttl", "value", 90);
      await storage.set("name-ttl", "value", ttl);
      assert((await end("name-ttl")) > forever(), String(ttl));
    }
    await storage.set("name-ttl", "value", -1);
    assert.equal(await storage.get("name-ttl"), null);
  });

  test("a name is free after delete and getAndDelete, a token of a session is not", async () => {
    const storage = open();
    for (const [key, free] of /** @type {[string, boolean][]} */ ([
      ["active-sessions-1", true],
      ["verification:" + token, true],
      [token, false],
      [token.toUpperCase(), false],
    ])) {
      await storage.set(key, "before", 60);
      await storage.delete(key);
      assert.equal(await storage.get(key), null);
      await storage.set(key, "after", 60);
      assert.equal(await storage.get(key), free ? "after" : null, key);
    }
    await storage.set("once", "before");
    assert.equal(await storage.getAndDelete("once"), "before");
    await storage.set("once", "after");
    assert.equal(await storage.get("once"), "after");
    await storage.delete("never stored");
  });

  test("what is read is the last value, not a copy of the one before", async () => {
    const redis = { mGet: async () => ['"a copy"'] };
    const storage = secondaryStorage({ store: stores[0].with({ redis, reads: "plain" }) });
    for (const key of ["active-sessions-2", token.replace("a", "b")]) {
      await storage.set(key, "the last one", 60);
      assert.equal(await storage.get(key), "the last one");
    }
  });

  test("getAndDelete gives the value to one of many", async () => {
    const storages = stores.map((store) => secondaryStorage({ store }));
    for (let round = 0; round < 5; round++) {
      await storages[0].set("ticket", "value", 60);
      const got = await Promise.all(
        Array.from({ length: 12 }, (_, i) => storages[i % 2].getAndDelete("ticket")),
      );
      assert.deepEqual(
        got.filter((value) => value !== null),
        ["value"],
      );
    }
  });

  test("increment counts in a window that the first one begins", async () => {
    const { increment } = open(); // better-auth calls it without the object
    const earliest = Date.now() + 3_590_000; // the server's clock is this machine's
    const counts = await Promise.all(Array.from({ length: 10 }, () => increment("counter", 3600)));
    assert.deepEqual(
      counts.sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    );
    const { resetsAt } = await stores[0].hit("counter", null, { by: 0 });
    assert(resetsAt && resetsAt.getTime() > earliest && resetsAt.getTime() < Date.now() + 3_610_000);
    assert.equal(await increment("counter", 7200), 11);
    assert.deepEqual((await stores[0].hit("counter", null, { by: 0 })).resetsAt, resetsAt);
    await assert.rejects(increment("counter-2", 0), { name: "InvalidArgumentError" });
  });

  test("keys that are no ids work like others", async () => {
    const storage = open();
    const keys = [
      "x".repeat(1000),
      "a\nb",
      "\u0000",
      "\ud800",
      "verification:" + "é".repeat(150),
      "sha256:",
      "__proto__",
    ];
    for (const key of keys) await storage.set(key, key, 60);
    for (const key of keys) assert.equal(await storage.get(key), key);
    for (const key of keys) assert.equal(await storage.increment(key, 60), 1);
    for (const key of keys) assert.equal(await storage.getAndDelete(key), key);
    for (const key of keys) assert.equal(await storage.get(key), null);
  });
});

testFaults(
  "better-auth",
  () => servers,
  (store) => {
    const storage = secondaryStorage({ store });
    const token = (/** @type {string} */ id) => createHash("md5").update(id).digest("hex");
    return {
      read: (id) => storage.get(token(id)),
      write: (id, value) => storage.set(token(id), value, 3600),
      logout: (id) => storage.delete(token(id)),
    };
  },
  { namespace: "default", keyPrefix: "session:", lateSave: "ignored" },
);
