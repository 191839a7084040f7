// What the adapters for conversations share: reading a whole history, comparing messages, and ids of several parts.
import { createHash } from "node:crypto";
import { text } from "../../json.js";

const longestPart = 60; // characters: leaves room for the other parts in the 200 bytes of an id

/**
 * The messages of a history, read by pages.
 *
 * @param {import("../../index.js").SessionStore} store
 * @param {string} id
 * @param {number} [pageSize]
 * @returns {Promise<any[]>} empty if there is no session
 */
export async function readAll(store, id, pageSize) {
  const messages = [];
  for await (const { message } of store.messages(id, { pageSize })) messages.push(message);
  return messages;
}

/**
 * A part of an id: it contains no ":" and no control character, and can be decoded.
 *
 * @param {string} name
 */
export const part = (name) => encodeURIComponent(text(name));

/** @param {string} encoded */
export const nameOf = (encoded) => decodeURIComponent(encoded);

/**
 * A part of an id that has at most 60 bytes. What is longer is a hash, which no part begins as.
 *
 * @param {string} name
 */
export function shortPart(name) {
  const encoded = part(name);
  return encoded.length > longestPart ? "=" + sha256(name) : encoded;
}

/** @param {string} input */
export const sha256 = (input) => createHash("sha256").update(input).digest("base64url");

/**
 * Whether two values have the same JSON; members that are undefined do not count, nor does the order of members.
 *
 * @param {any} a
 * @param {any} b
 * @returns {boolean}
 */
export function sameJson(a, b) {
  if (typeof a?.toJSON === "function") a = a.toJSON();
  if (typeof b?.toJSON === "function") b = b.toJSON();
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b))
    return Array.isArray(a) && a.length === b.length && a.every((value, i) => sameJson(value, b[i]));
  const names = Object.keys(a).filter((name) => a[name] !== undefined);
  const others = Object.keys(b).filter((name) => b[name] !== undefined);
  return (
    names.length === others.length &&
    names.every((name) => Object.hasOwn(b, name) && sameJson(a[name], b[name]))
  );
}
