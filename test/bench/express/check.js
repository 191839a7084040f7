// node check.js STORE: does a store keep what express-session asks of it?
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { Cookie } from "express-session";
import { makeStore } from "./stores.js";

const store = await makeStore(process.argv[2]);
const [get, set, touch, destroy] = ["get", "set", "touch", "destroy"].map((name) => promisify(store[name]).bind(store));
const document = (maxAge, more) => ({ cookie: new Cookie({ maxAge }).toJSON(), ...more });

/** What express-session holds in a request: the session as it was read. */
const load = (id) => promisify(store.load).call(store, id);

const pause = (ms) => new Promise((next) => setTimeout(next, ms));

async function checkDestroy() {
  const id = randomUUID();
  assert(!(await get(id)), "what was never saved is not there");
  await set(id, document(60000, { n: 1 }));
  assert.equal((await get(id)).n, 1);
  await set(id, document(60000, { n: 2 }));
  assert.equal((await get(id)).n, 2, "the next request sees what the last one saved");
  await destroy(id);
  assert(!(await get(id)), "after a logout there is no session");
  await touch(id, document(60000)).catch(() => {});
  assert(!(await get(id)), "nor after a touch that came late");
  await set(id, document(60000, { n: 3 }));
  if (store.namespace) assert(!(await get(id)), "nor, with ours, after a save that came late");
}

async function checkEnd() {
  const id = randomUUID();
  await set(id, document(1000));
  assert(await get(id));
  await pause(2500); // a look would be a use; others count in whole seconds
  assert(!(await get(id)), "a session ends with its cookie's age");
}

async function checkTouch() {
  const id = randomUUID();
  await set(id, document(1000, { n: 1 }));
  const session = await load(id);
  session.cookie.maxAge = 60000;
  await touch(id, session);
  await pause(2500);
  assert(await get(id), "a touch gives another age");
}

async function checkUse() {
  const id = randomUUID();
  await set(id, document(2000, { n: 1 }));
  let used = Date.now();
  for (const until = used + 2500; Date.now() < until; await pause(200)) {
    const session = await load(id);
    assert(session, `a session that is used does not end, ${Date.now() - used} ms after it was used last`);
    session.touch();
    await touch(id, session);
    used = Date.now();
  }
}

await Promise.all([checkDestroy(), checkEnd(), checkTouch(), checkUse()]);
process.exit(0);
