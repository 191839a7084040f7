// previous: moving in from another store without logging anybody out, and without reviving anybody.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import connectPgSimple from "connect-pg-simple";
import { RedisStore } from "connect-redis";
import session from "express-session";
import pg from "pg";
import { createClient } from "redis";
import { SessionStoreExpress } from "../src/adapters/express.js";
import { SessionStore } from "../src/index.js";
import { application } from "./support/application.js";
import { Browser, serve } from "./support/browser.js";
import { openStore } from "./support/faults.js";
import { startServers } from "./support/servers.js";

const hour = 3600_000;
const namespace = "web";

/** @type {import("./support/servers.js").Servers} */
let servers;
/** @type {Awaited<ReturnType<typeof openStore>>} */
let opened;

before(async () => {
  servers = await startServers({ settings: { "session_store.fence": "all" } });
  await servers.sql("INSERT INTO session_namespaces (name) VALUES ('web')");
  await servers.cacheReady();
  opened = await openStore(servers, { namespace });
});
after(async () => {
  await opened?.close();
  await servers?.stop();
});

/** The methods of a store as promises. @param {any} store */
function methods(store) {
  const names = /** @type {const} */ (["get", "set", "touch", "destroy", "clear", "load"]);
  return /** @type {Record<(typeof names)[number], (...args: any[]) => Promise<any>>} */ (
    Object.fromEntries(names.map((name) => [name, promisify(store[name]).bind(store)]))
  );
}

/** A previous store, where something else can happen before and after each of its methods. */
class Previous extends session.MemoryStore {
  /** @type {Record<string, (id: string) => unknown>} */
  before = {};
  /** @type {Record<string, (id: string) => unknown>} */
  after = {};

  /** @param {string} name @param {string} id @param {(done: any) => void} run @param {any} done */
  async #hooked(name, id, run, done) {
    const hooks = [this.before[name], this.after[name]];
    delete this.before[name]; // once
    delete this.after[name];
    try {
      await hooks[0]?.(id);
      const result = await promisify(run)();
      await hooks[1]?.(id);
      process.nextTick(done, null, result);
    } catch (error) {
      process.nextTick(done, error);
    }
  }
  /** @param {string} id @param {any} done */
  get(id, done) {
    this.#hooked("get", id, (then) => super.get(id, then), done);
  }
  /** @param {string} id @param {any} found @param {any} done */
  set(id, found, done) {
    this.#hooked("set", id, (then) => super.set(id, found, then), done);
  }
  /** @param {string} id @param {any} done */
  destroy(id, done) {
    this.#hooked("destroy", id, (then) => super.destroy(id, then), done);
  }
  /** @param {string} id @param {any} found @param {any} done */
  touch(id, found, done) {
    this.#hooked("touch", id, (then) => super.touch(id, found, then), done);
  }
}

/** A session that the previous store has, and two processes with the new one. @param {object} [options] */
async function scene(options) {
  const previous = new Previous();
  const old = methods(previous);
  const make = (/** @type {object} */ more) =>
    methods(new SessionStoreExpress({ store: opened.store, previous, ...more }));
  const id = randomUUID();
  await old.set(id, document({ user: "ada", n: 1 }));
  return { previous, old, id, one: make({ ...options }), two: make({ ...options }), make };
}

/** @param {object} [data] */
const document = (data) => ({
  cookie: { originalMaxAge: hour, expires: new Date(Date.now() + hour) },
  ...data,
});

describe("a session of the previous store", () => {
  test("moves when it is read, with its lifetime and owner", async () => {
    const { id, old, make } = await scene();
    const { get } = make({ owner: (/** @type {any} */ { user }) => user });
    assert.equal((await get(id)).n, 1);
    assert.equal(await old.get(id), undefined, "it is removed there");
    const record = await opened.store.fetch(id);
    assert.deepEqual([record?.ownerId, record?.sessionData.n], ["ada", 1]);
    assert(Math.abs(Number(await opened.store.ttl(id)) - hour) < hour / 2);
    assert.equal((await get(id)).n, 1, "and read here");
  });

  test("moves once, if several requests read it at the same time", async () => {
    const { id, one, two } = await scene();
    const found = await Promise.all([one, two, one, two, one].map(({ get }) => get(id)));
    assert.deepEqual(
      found.map((each) => each?.n),
      [1, 1, 1, 1, 1],
    );
    const record = await opened.store.fetch(id);
    await one.set(id, document({ n: 2 }));
    assert.equal((await opened.store.fetch(id))?.version, (record?.version ?? 0) + 1);
  });

  test("is found by a request that looked here before, and there after it moved", async () => {
    const { id, one, two, previous } = await scene();
    previous.before.get = () => two.get(id);
    assert.equal((await one.get(id))?.n, 1);
  });

  test("is read here, if another request has moved and changed it meanwhile", async () => {
    const { id, one, two, previous } = await scene();
    previous.after.get = async () => {
      const loaded = await two.load(id);
      await two.set(id, Object.assign(loaded, { n: 2 }));
    };
    assert.equal((await one.get(id)).n, 2);
  });

  test("stays out if it was logged out here, although the previous store still has it", async () => {
    const { id, one, old } = await scene();
    await one.get(id);
    await one.destroy(id);
    await old.set(id, document({ n: 1 })); // a process that wrote it back
    assert.equal(await one.get(id), undefined);
    assert.equal(await old.get(id), undefined, "and is not there when the tombstone is over");
  });

  test("is logged out in both, before it has moved as well as afterwards", async () => {
    for (const moved of [false, true]) {
      const { id, one, two, old } = await scene();
      if (moved) await two.get(id);
      await one.destroy(id);
      assert.deepEqual([await old.get(id), await two.get(id)], [undefined, undefined]);
      await assert.rejects(opened.store.save(id, {}), { code: "SST10" });
    }
  });

  test("stays out if it is logged out while a request moves it", async () => {
    const { id, one, two, previous } = await scene();
    previous.after.get = () => two.destroy(id);
    assert.equal(await one.get(id), undefined);
    assert.equal(await opened.store.exists(id), false);
  });

  test("stays out if it is moved while a request logs it out", async () => {
    const { id, one, two, previous } = await scene();
    previous.before.get = () => two.get(id); // after the logout looked here, before it looks there
    await one.destroy(id);
    assert.equal(await opened.store.exists(id), false);
    assert.equal(await two.get(id), undefined);
  });

  test("stays out if another request has moved it, and logs it out at that moment", async () => {
    const { id, two, previous } = await scene();
    const pool = {
      query: async (/** @type {any} */ statement) => {
        if (/session_exists/.test(statement.text)) await two.destroy(id); // it was alive, says the server
        return opened.pool.query(statement);
      },
    };
    const store = new SessionStore({ pool, namespace });
    previous.after.get = () => two.get(id);
    assert.equal(await methods(new SessionStoreExpress({ store, previous })).get(id), undefined);
    assert.equal(await opened.store.exists(id), false);
  });

  test("is not taken for missing while the previous store is away", async () => {
    const { id, one, previous } = await scene();
    for (const code of ["ECONNREFUSED", "ENOENT"]) {
      const away = () => Promise.reject(Object.assign(new Error("connect"), { code }));
      previous.before.get = away;
      await assert.rejects(one.get(id), (/** @type {any} */ error) => error.code !== "ENOENT");
      previous.before.destroy = away;
      await assert.rejects(one.destroy(randomUUID()), /connect/);
    }
    assert.equal((await one.get(id)).n, 1);
  });

  test("is an error if its id is too short to move, and is not removed", async () => {
    const { one, old } = await scene();
    await old.set("short", document({ n: 1 }));
    await assert.rejects(one.get("short"), { name: "InvalidArgumentError" });
    assert.equal((await old.get("short")).n, 1);
  });

  test("does not move if its time is over", async () => {
    const { one, old } = await scene();
    const id = randomUUID();
    await old.set(id, { cookie: { originalMaxAge: -1 } });
    assert.equal(await one.get(id), undefined);
    assert.equal(await opened.store.exists(id), false);
  });

  test("clear removes the sessions of both", async () => {
    const { id, one, old } = await scene();
    await one.set(randomUUID(), document());
    await one.clear();
    assert.deepEqual([await old.get(id), await opened.store.count()], [undefined, 0]);
  });
});

describe("while processes run that know only the previous store (adopt: false)", () => {
  test("sessions stay there, and are read, written and touched there", async () => {
    const { id, one, old, previous } = await scene({ adopt: false });
    const loaded = await one.load(id);
    assert.equal(loaded.n, 1);
    await one.set(id, Object.assign(loaded, { n: 2 }));
    const fresh = randomUUID();
    await one.set(fresh, document({ n: 3 }));
    assert.deepEqual([(await old.get(id)).n, (await old.get(fresh)).n], [2, 3]);
    /** @type {string[]} */
    const touched = [];
    previous.after.touch = (sid) => touched.push(sid);
    await one.touch(id, loaded);
    assert.deepEqual(touched, [id]);
    assert.deepEqual([await opened.store.exists(id), await opened.store.exists(fresh)], [false, false]);
  });

  test("sessions that have moved are read and written here", async () => {
    const { id, one, old, make } = await scene({ adopt: false });
    const adopting = make({});
    await adopting.get(id);
    const loaded = await one.load(id);
    await one.set(id, Object.assign(loaded, { n: 2 }));
    assert.equal((await adopting.get(id)).n, 2);
    assert.equal(await old.get(id), undefined);
  });

  test("a session that moves while it is written is not left there", async () => {
    const { id, one, old, previous, make } = await scene({ adopt: false });
    const adopting = make({});
    const loaded = await one.load(id);
    previous.after.set = () => adopting.get(id);
    await one.set(id, Object.assign(loaded, { n: 2 }));
    assert.equal((await adopting.get(id)).n, 2);
    assert.equal(await old.get(id), undefined);
  });

  test("a session that moves after a save did not find it is saved here", async () => {
    const { id, one, previous, make } = await scene({ adopt: false });
    const { store } = opened;
    const loaded = await one.load(id);
    const hooked = {
      save: store.save.bind(store),
      exists: async (/** @type {string} */ sid) => {
        await make({}).get(sid);
        return store.exists(sid);
      },
    };
    const { set } = methods(
      new SessionStoreExpress({ store: /** @type {any} */ (hooked), previous, adopt: false }),
    );
    await set(id, Object.assign(loaded, { n: 2 }));
    assert.equal((await make({}).get(id)).n, 2);
  });

  test("a session that is logged out while it is written is not left there", async () => {
    for (const adopt of [false, true]) {
      const { id, one, old, previous, make } = await scene({ adopt: false });
      const other = make({ adopt });
      const loaded = await one.load(id);
      previous.before.set = () => other.destroy(id); // after the save looked here
      await one.set(id, Object.assign(loaded, { n: 2 }));
      assert.deepEqual(
        [await old.get(id), await one.get(id), await other.get(id)],
        [undefined, undefined, undefined],
      );
    }
  });
});

// --- under load: processes are replaced one after the other, from the old store to the new one

const seed = Number(process.env.SS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const users = Number(process.env.SS_USERS ?? 8);
const rounds = Number(process.env.SS_ROUNDS ?? 4); // of each user, for each process that is replaced

/** Random numbers below n, by seed. @param {number} state */
function randomness(state) {
  return (/** @type {number} */ n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/**
 * @typedef {{ name: string, adopt?: boolean, previous: boolean, ours: boolean }} Stage
 * @type {Stage[]}
 */
const stages = [
  { name: "old", previous: true, ours: false },
  { name: "both, nothing moves", previous: true, ours: true, adopt: false },
  { name: "both, sessions move", previous: true, ours: true, adopt: true },
  { name: "new", previous: false, ours: true },
];

/**
 * @typedef {{ store: any, count: () => Promise<number>, close: () => Promise<unknown> }} Old
 * @type {Record<string, () => Promise<Old>>}
 */
const oldStores = {
  "connect-redis": async () => {
    const client = createClient({ ...servers.redis, database: 1 });
    await client.connect();
    return { store: new RedisStore({ client }), count: () => client.dbSize(), close: () => client.close() };
  },
  "connect-pg-simple": async () => {
    const pool = new pg.Pool(servers.pg);
    const store = new (connectPgSimple(session))({
      pool,
      createTableIfMissing: true,
      pruneSessionInterval: false,
    });
    const count = async () => Number((await pool.query("SELECT count(*) FROM session")).rows[0].count);
    return { store, count, close: () => pool.end() };
  },
};

/** A process of the application. @param {keyof typeof oldStores} name @param {Stage} stage */
async function startProcess(name, stage) {
  const old = await oldStores[name]();
  const ours = await openStore(servers, { namespace: name });
  const { store: previous } = old;
  const both = new SessionStoreExpress({
    store: ours.store,
    adopt: stage.adopt,
    ...(stage.previous && { previous }),
  });
  const { app, errors } = application(stage.ours ? both : previous);
  const { url, stop } = await serve(app);
  const close = async () => {
    await stop();
    await Promise.all([ours.close(), old.close()]);
  };
  return { url, close, stage, errors, requests: 0 };
}

class User {
  browser = new Browser();
  /** @type {string | undefined} */
  user;
  n = 0;
  logins = 0;

  /** @param {Fleet} fleet @param {number} number */
  constructor(fleet, number) {
    this.fleet = fleet;
    this.number = number;
    this.random = randomness(seed + number);
  }

  async login() {
    const user = `user-${this.number}-${++this.logins}`;
    await this.fleet.go(this.browser, "/login/" + user, "POST");
    this.user = user;
    this.n = 0;
  }

  async look() {
    const { body } = await this.fleet.go(this.browser, "/");
    assert.deepEqual(
      [body.user, body.n ?? 0],
      [this.user, this.n],
      `user ${this.number} is logged in, seed ${seed}`,
    );
  }

  async change() {
    await this.fleet.go(this.browser, "/change/" + (this.n + 1), "POST");
    this.n++;
  }

  async logout() {
    const { fleet, browser } = this;
    const cookies = new Map(browser.cookies);
    // With the previous store alone a request that saves late revives what was logged out: its flaw, which ends with
    // the last process that has nothing else.
    const race = !fleet.processes.some(({ stage }) => !stage.ours) && this.random(2) === 0;
    const late = race ? [fleet.go(this.clone(cookies), "/late", "POST")] : [];
    await Promise.all([fleet.go(browser, "/logout", "POST"), ...late]);
    this.user = undefined;
    browser.cookies = new Map();
    fleet.loggedOut.push(cookies);
    await this.isOut(cookies);
  }

  /** @param {Map<string, string>} cookies */
  clone(cookies) {
    const browser = new Browser();
    browser.cookies = new Map(cookies);
    return browser;
  }

  /** @param {Map<string, string>} cookies */
  async isOut(cookies) {
    const { body } = await this.fleet.go(this.clone(cookies), "/");
    assert.equal(body.user, undefined, `${body.user} was logged out, seed ${seed}`);
  }

  async act() {
    const what = this.random(10);
    const { loggedOut } = this.fleet;
    if (this.user === undefined) await this.login();
    else if (what < 3) await this.change();
    else if (what < 5) await Promise.all([this.look(), this.look()]);
    else if (what < 6) await this.logout();
    else if (what < 7 && loggedOut.length > 0) await this.isOut(loggedOut[this.random(loggedOut.length)]);
    else await this.look();
  }
}

/** The processes that run, and what was logged out. */
class Fleet {
  /** @type {Awaited<ReturnType<typeof startProcess>>[]} */
  processes = [];
  /** @type {Map<string, string>[]} */
  loggedOut = [];
  random = randomness(seed);

  /** A request to any of the processes. @param {Browser} browser @param {string} path @param {string} [method] */
  async go(browser, path, method = "GET") {
    const target = this.processes[this.random(this.processes.length)];
    target.requests++;
    try {
      const answer = await browser.go(target.url + path, { method });
      assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(answer.body)}, seed ${seed}`);
      return answer;
    } finally {
      target.requests--;
    }
  }
}

for (const name of Object.keys(oldStores))
  test(`an application on ${name} is switched under load: nobody is logged out, nobody revived`, async (t) => {
    t.diagnostic(`seed ${seed}, ${users} users`);
    await servers.sql("INSERT INTO session_namespaces (name) VALUES ($1)", [name]);
    const old = await oldStores[name]();
    const closing = new Set([old.close]);
    await promisify(old.store.get.bind(old.store))("x"); // its table is there
    const fleet = new Fleet();
    const people = Array.from({ length: users }, (_, i) => new User(fleet, i));
    const everybody = async (/** @type {(user: User) => Promise<unknown>} */ act) => {
      const results = await Promise.allSettled(people.map(act));
      for (const { errors } of fleet.processes) assert.deepEqual(errors, [], "no save has failed");
      const failed = results.find(({ status }) => status === "rejected");
      if (failed?.status === "rejected") throw failed.reason;
    };
    const start = async (/** @type {Stage} */ stage) => {
      const started = await startProcess(name, stage);
      closing.add(started.close);
      return started;
    };
    const load = () =>
      everybody(async (user) => {
        for (let i = 0; i < rounds; i++) await user.act();
      });
    try {
      for (let i = 0; i < 3; i++) fleet.processes.push(await start(stages[0]));
      await everybody((user) => user.login());
      for (const stage of stages.slice(1)) {
        if (!stage.previous) {
          await everybody((user) => (user.user === undefined ? user.login() : user.look()));
          assert.equal(await old.count(), 0, "every session has moved, and the previous store may go");
        }
        for (let i = 0; i < 3; i++) {
          const next = await start(stage);
          const running = load();
          const [replaced] = fleet.processes.splice(0, 1, next);
          fleet.processes.push(/** @type {any} */ (fleet.processes.shift()));
          await running;
          assert.deepEqual(replaced.errors, [], "no save has failed");
          assert.equal(replaced.requests, 0, "it has answered all requests");
          closing.delete(replaced.close);
          await replaced.close();
        }
        await load();
        await everybody((user) => (user.user === undefined ? user.login() : user.look()));
        for (const cookies of fleet.loggedOut) await people[0].isOut(cookies);
      }
      const { loggedOut } = fleet;
      t.diagnostic(`${loggedOut.length} logouts held, ${people.length} users are logged in`);
      let found = 0;
      for await (const { sessionData } of opened.store.with({ namespace: name }).sessions({ withData: true }))
        if (sessionData.user) found++;
      assert.equal(found, users);
    } finally {
      await Promise.all([...closing].map((close) => close()));
    }
  });
