// Values and pending writes of LangGraph checkpoints, as they are stored.
import { compareWritesSortKeys, WRITES_IDX_MAP, writesSortKey } from "@langchain/langgraph-checkpoint";

/**
 * @typedef {[type: string, text: string]} Typed a value as the serializer wrote it: text, or base64 unless it is JSON
 * @typedef {[task: string, path: string, index: number, channel: string, type: string, text: string]} Write
 * @typedef {[id: string, ...writes: Write[]]} WriteEntry writes to the checkpoint of this id that replace each other
 */

/** @param {[string, Uint8Array]} dumped @returns {Typed} */
export const toText = ([type, data]) => [
  type,
  Buffer.from(data).toString(type === "json" ? "utf8" : "base64"),
];

/** @param {Typed} typed @returns {[string, Uint8Array | string]} */
export const fromText = ([type, text]) => [
  type,
  type === "json" ? text : new Uint8Array(Buffer.from(text, "base64")),
];

/** Writes that replace each other have the same key: those of a task, but for errors, interrupts and the like. @param {WriteEntry} entry */
export const keyOf = ([id, [task, , index, channel]]) => JSON.stringify([id, task, index < 0 ? channel : ""]);

/**
 * What the document has of the writes of a task.
 *
 * @param {string} id of the checkpoint
 * @param {string} task
 * @param {string} path
 * @param {string[]} channels
 * @param {Typed[]} values
 */
export function writeEntries(id, task, path, channels, values) {
  /** @type {Map<string, WriteEntry>} */
  const entries = new Map();
  channels.forEach((channel, i) => {
    const index = Object.hasOwn(WRITES_IDX_MAP, channel) ? WRITES_IDX_MAP[channel] : i;
    /** @type {Write} */
    const write = [task, path, index, channel, ...values[i]];
    const key = keyOf([id, write]);
    if (index >= 0 && entries.has(key)) entries.get(key)?.push(write);
    else entries.set(key, [id, write]);
  });
  return Object.fromEntries(entries);
}

/** @param {Iterable<WriteEntry>} entries @returns {Write[]} */
export function inOrder(entries) {
  const key = (/** @type {Write} */ [task, path, index]) => writesSortKey(path, task, index);
  const writes = [...entries].flatMap(([, ...writes]) => writes);
  return writes.sort((a, b) => compareWritesSortKeys(key(a), key(b)));
}

/** The writes of checkpoints, read from the newest to the oldest. */
export class EntryMap {
  /** @type {Map<string, Map<string, WriteEntry>>} */
  #entries = new Map();

  /** @param {WriteEntry[]} entries what was written before all that is here */
  addOlder(entries) {
    for (const entry of entries) {
      const [id] = entry;
      const of = this.#entries.get(id) ?? new Map();
      if (!of.has(keyOf(entry))) this.#entries.set(id, of.set(keyOf(entry), entry));
    }
  }

  /** @param {string} id */
  take(id) {
    const entries = this.#entries.get(id)?.values() ?? [];
    this.#entries.delete(id);
    return entries;
  }
}
