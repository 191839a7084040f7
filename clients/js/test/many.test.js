// Many calls at once: in order where it matters, and not more than a pool bears.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { callEach } from "../src/adapters/shared/many.js";
import { TooLargeError, UnavailableError } from "../src/index.js";

const items = Array.from({ length: 35 }, (_, i) => i);
const never = () => assert.fail("nothing was refused");

test("results are in the order of the items, and at most ten calls run at once", async () => {
  let running = 0;
  let most = 0;
  const act = async (/** @type {number} */ i) => {
    most = Math.max(most, ++running);
    for (let turns = i % 7; turns >= 0; turns--) await turn();
    running--;
    return i * 2;
  };
  assert.deepEqual(
    await callEach(items, String, act, never),
    items.map((i) => i * 2),
  );
  assert.equal(most, 10);
  assert.deepEqual(await callEach([], String, act, never), []);
});

test("calls of one key are made one after another", async () => {
  /** @type {number[]} */
  const ended = [];
  const act = async (/** @type {number} */ i) => {
    for (let turns = 10 - (i % 10); turns > 0; turns--) await turn();
    ended.push(i);
  };
  await callEach(items, () => "key", act, never);
  assert.deepEqual(ended, items);
});

test("a call that is refused, and the next of its key, harm no other", async () => {
  const act = async (/** @type {number} */ i) => {
    if (i % 5 === 0) throw new TooLargeError(String(i));
    return i;
  };
  const results = await callEach(
    items,
    (i) => String(i % 2),
    act,
    (error) => -Number(/** @type {any} */ (error).message),
  );
  assert.deepEqual(
    results,
    items.map((i) => (i % 5 === 0 ? -i : i)),
  );
});

test("without a server the rest is not tried", async () => {
  let calls = 0;
  const act = async () => {
    calls++;
    throw new UnavailableError("no server");
  };
  await assert.rejects(callEach(items, String, act, never), { message: "no server" });
  assert.equal(calls, 10);
});
