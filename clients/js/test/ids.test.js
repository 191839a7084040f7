// Keys of other programs become ids that the store takes, and no two of them the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import { idOf, idStart, isId, keyOf } from "../src/adapters/shared/ids.js";

const plain = ["foo", " ", "a:b", "%_\\'\"", "__proto__", "\u{1f600}", "é".repeat(100), "x".repeat(200)];
const hostile = [
  "",
  "x".repeat(201),
  "é".repeat(101),
  "a\u0000b",
  "a\nb",
  "\u007f",
  "\u0085",
  "\ud800",
  "\ud801",
  "\udc00",
  "sha256:" + "0".repeat(64),
  "sha256:",
];
const prefixes = [
  "",
  "keyv:",
  "\ud83d",
  "\n:",
  "n".repeat(120),
  "n".repeat(121),
  "n".repeat(200),
  "sha256:",
  "é".repeat(300),
];

test("what is an id stays as it is", () => {
  for (const key of plain) {
    assert.ok(isId(key), key);
    assert.equal(idOf(key), key);
    assert.equal(keyOf(key), key);
  }
});

test("what the store refuses is no id", () => {
  for (const key of hostile.slice(0, -2)) assert.ok(!isId(key), JSON.stringify(key));
  for (const value of [undefined, null, 1, {}, ["a"]]) assert.ok(!isId(value));
});

test("every key has an id of its own, under every prefix", () => {
  for (const prefix of prefixes) {
    const ids = new Map();
    for (const key of [...plain, ...hostile]) {
      const id = idOf(key, prefix);
      assert.ok(isId(id), JSON.stringify([prefix, key]));
      assert.ok(id.startsWith(idStart(prefix)));
      assert.ok(!ids.has(id), `${JSON.stringify(key)} has the id of ${JSON.stringify(ids.get(id))}`);
      ids.set(id, key);
      assert.ok([key, undefined].includes(keyOf(id, prefix)), "keyOf returns the key or nothing");
    }
  }
});

test("a key that is a hash does not have the id of what was hashed", () => {
  const id = idOf("\n");
  assert.notEqual(idOf(id), id);
  assert.notEqual(idOf(id, "p:"), idOf("\n", "p:"));
  assert.equal(keyOf(id), undefined);
});

test("prefixes that cannot begin an id are told apart", () => {
  const starts = prefixes.map(idStart);
  assert.equal(new Set(starts).size, prefixes.length);
});
