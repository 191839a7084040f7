// Ids for the keys of other programs. An id of the store has 1 to 200 bytes and no control characters; keys of caches,
// threads and limiters may have any. A key that is no id is stored under a hash, so that it works like any other.
import { createHash } from "node:crypto";

const longestId = 200; // bytes
const longestStart = 120; // bytes: leaves room for a hash
const mark = "sha256:";

// What the server refuses: the sets C0 and C1, and DEL. A lone surrogate has no UTF-8.
const refused = /[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u;

/** @param {string} text @param {number} most bytes */
const isPlain = (text, most) => Buffer.byteLength(text) <= most && !refused.test(text);

/** Distinct keys have distinct hashes, also where they differ in lone surrogates. @param {string} key */
const hashed = (key) => mark + createHash("sha256").update(key, "utf16le").digest("hex");

/**
 * Whether the store takes this as an id. If not, there is no session under it.
 *
 * @param {unknown} value
 * @returns {value is string}
 */
export const isId = (value) => typeof value === "string" && value !== "" && isPlain(value, longestId);

/**
 * What the ids of all keys under a prefix begin with: the prefix itself, if it may begin an id.
 *
 * @param {string} prefix
 * @returns {string}
 */
export function idStart(prefix) {
  return isPlain(prefix, longestStart) && !prefix.startsWith(mark) ? prefix : hashed(prefix) + ":";
}

/**
 * The id of a key under a prefix: prefix and key, if that is an id; otherwise the prefix, `sha256:` and the hash of the
 * key. No two keys under a prefix have the same id, so a key that begins with `sha256:` is hashed as well.
 *
 * @param {string} key
 * @param {string} [prefix]
 * @returns {string}
 */
export function idOf(key, prefix = "") {
  const id = idStart(prefix) + key;
  return isId(id) && !key.startsWith(mark) ? id : idStart(prefix) + hashed(key);
}

/**
 * The key of an id that idOf returned for this prefix; undefined if the id has only its hash.
 *
 * @param {string} id
 * @param {string} [prefix]
 * @returns {string | undefined}
 */
export function keyOf(id, prefix = "") {
  const key = id.slice(idStart(prefix).length);
  return key.startsWith(mark) ? undefined : key;
}
