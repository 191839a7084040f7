// Calls as SQL: how arguments and results are converted, and how a statement reaches the server.
import { createHash } from "node:crypto";
import { InvalidArgumentError, toStoreError } from "./errors.js";
import { decode } from "./json.js";

/**
 * What statements are sent with: a pg.Pool or a connected pg.Client.
 *
 * @typedef {{ query: (query: any) => Promise<{ rows: any[], fields: Field[] }> }} Queryable
 * @typedef {{ name: string, dataTypeID: number }} Field
 */

// The types of results, by their OIDs. What is not listed is text.
/** @type {Record<number, (text: string) => any>} */
const parsers = {
  16: (text) => text === "t", // boolean
  20: Number, // bigint
  23: Number, // integer
  701: Number, // double precision
  1184: timestamp,
  1700: Number, // numeric
  3802: decode, // jsonb
};
// Results are parsed here, where SQL NULL and the document null can be told apart.
const types = { getTypeParser: () => (/** @type {string} */ text) => text };

/**
 * The value of a result.
 *
 * @param {string | null} text
 * @param {{ dataTypeID: number }} field
 * @param {null | undefined} missing what SQL NULL is
 */
export function value(text, field, missing) {
  if (text === null) return missing;
  return (parsers[field.dataTypeID] ?? String)(text);
}

/** @param {string} text as 2026-01-31 12:00:00.123456+00 */
function timestamp(text) {
  if (text.endsWith("infinity")) return text.startsWith("-") ? -Infinity : Infinity;
  return new Date(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"));
}

/**
 * An interval: milliseconds, or a PostgreSQL interval.
 *
 * @param {number | string | null | undefined} value
 */
export function interval(value) {
  if (typeof value !== "number") return value;
  if (!Number.isFinite(value)) throw new InvalidArgumentError(`not an interval: ${value}`, { code: "22023" });
  return `${value} milliseconds`;
}

/**
 * A point in time.
 *
 * @param {Date | number | null | undefined} value Infinity, or a Date
 */
export function time(value) {
  if (value === Infinity) return "infinity";
  if (value instanceof Date && Number.isNaN(value.getTime()))
    throw new InvalidArgumentError("not a point in time", { code: "22023" });
  return value instanceof Date ? value.toISOString() : value;
}

/**
 * The name of a function of the extension.
 *
 * @param {string} name
 * @param {string} [schema]
 */
export const qualified = (name, schema) =>
  schema === undefined ? name : `"${schema.replaceAll('"', '""')}".${name}`;

// Names of prepared statements by their texts. The server tells names apart by their first 63 bytes.
/** @type {Map<string, string>} */
const names = new Map();

/** @param {string} text */
function nameOf(text) {
  let name = names.get(text);
  if (name === undefined) {
    name = "session_store_" + createHash("sha256").update(text).digest("base64url");
    names.set(text, name);
  }
  return name;
}

/**
 * A statement. With prepare it is parsed and planned once for each connection.
 *
 * @param {string} text
 * @param {unknown[]} values
 * @param {boolean} [prepare]
 */
export const statement = (text, values, prepare) =>
  prepare
    ? { name: nameOf(text), text, values, types, rowMode: "array" }
    : { text, values, types, rowMode: "array" };

// The texts of calls, by the function and the number of its arguments.
/** @type {Map<string, string[]>} */
const texts = new Map();

/**
 * A call with its parameters. Arguments at the end that are undefined are left to their defaults.
 *
 * @param {string} name
 * @param {unknown[]} args
 * @param {string} [schema]
 */
export function call(name, args, schema) {
  let count = args.length;
  while (count > 0 && args[count - 1] === undefined) count--;
  const known = qualified(name, schema);
  const byCount = texts.get(known) ?? [];
  if (byCount.length === 0) texts.set(known, byCount);
  byCount[count] ??= `${known}(${Array.from({ length: count }, (_, i) => "$" + (i + 1)).join(", ")})`;
  return { text: byCount[count], values: count === args.length ? args : args.slice(0, count) };
}

/**
 * Sends a statement.
 *
 * @param {Queryable} db
 * @param {object} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ rows: any[][], fields: Field[] }>}
 */
export async function send(db, query, signal) {
  try {
    if (signal === undefined) return await db.query(query);
    signal.throwIfAborted();
    return await sendAbortable(/** @type {any} */ (db), query, signal);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw toStoreError(error);
  }
}

/**
 * Sends a statement that can be aborted. A connection of a pool is closed then, which ends the statement in the server.
 * A client is its owner's: the statement goes on, and its result is discarded.
 *
 * @param {any} db
 * @param {object} query
 * @param {AbortSignal} signal
 */
async function sendAbortable(db, query, signal) {
  const isPool = typeof db.totalCount === "number";
  /** @type {() => void} */
  let abort = () => {};
  const aborted = new Promise((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  });
  const connecting = isPool ? db.connect() : Promise.resolve(db);
  const running = connecting.then((/** @type {any} */ client) =>
    signal.aborted ? undefined : client.query(query),
  );
  const release = () => connecting.then((/** @type {any} */ client) => client.release(signal.aborted));
  try {
    return await Promise.race([running, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
    running.catch(() => {});
    if (isPool) release().catch(() => {});
  }
}
