// Checkpoints of a LangGraph thread in a session.
//
// A put appends messages, the last of which is the *head* of the checkpoint. Values of channels are in the head, and
// large ones are messages of their own. While a channel does not change, later heads refer to its value by the seq of
// the message that has it, so that it is not written again, unless it is small.
//
// The document has the head of the checkpoint that was put last, so that this one is read by one call, and the writes
// that no put has moved to the history yet. A put moves the writes of earlier checkpoints into a message, so that they
// are found after the head of their checkpoint: with one of the next puts, or anywhere in the history if the document
// says that they are `late`, as are those of a checkpoint that a run went back to.
import { EntryMap, inOrder, keyOf } from "./writes.js";

/**
 * @import { Typed, Write, WriteEntry } from "./writes.js"
 * @import { Place } from "./threads.js"
 *
 * @typedef {object} Head
 * @property {string} id
 * @property {string} [parent]
 * @property {string} checkpoint as JSON, without values
 * @property {Typed} metadata
 * @property {Record<string, Typed | number>} values of channels: the value, the seq of the message that has it, or, if
 *   negative, the place of that message before the head
 * @property {number} [after] how many messages there are after this put, if no other came between its parent and it
 *
 * @typedef {object} Thread the document of the session
 * @property {[thread: string, namespace: string]} of
 * @property {[Head]} [head] in an array, which a merge patch replaces as a whole
 * @property {Record<string, WriteEntry>} [writes]
 * @property {Record<string, true>} [late] checkpoints whose writes are anywhere in the history
 *
 * @typedef {{ head: Head, values: Record<string, Typed>, writes: Write[] }} Found
 * @typedef {{ seq: number, message: any }} Row
 */

const largeLength = 1024; // characters: longer values are messages of their own
const smallLength = 256; // characters: shorter values are copied from head to head
const near = 8; // messages around the one that is searched: ids of clients at work at the same time are out of order
const pageSize = 100;
const heads = 5; // after a checkpoint that its writes are with, unless they are late: more than clients that put at once

/** Whether a row has the head of this checkpoint. @param {Row | undefined} row @param {string} id */
const isHead = (row, id) => row?.message.id === id && row.message.checkpoint !== undefined;

/** What the document has of the writes to a checkpoint. @param {Thread} thread @param {string} id */
const writesTo = (thread, id) => Object.values(thread.writes ?? {}).filter(([of]) => of === id);

export class Checkpoints {
  #store;

  /** @param {import("../../index.js").SessionStore} store */
  constructor(store) {
    this.#store = store;
  }

  /**
   * @param {Place} place
   * @param {Omit<Head, "values" | "after">} head
   * @param {string[]} names of the channels that have a value
   * @param {Set<string>} changed which of them have another value than in the parent; the others are not written again
   * @param {(name: string) => Promise<Typed>} dump
   */
  async put({ id, of }, head, names, changed, dump) {
    const session = await this.#store.fetch(id);
    /** @type {Partial<Thread>} */
    const thread = session?.sessionData ?? {};
    const count = session?.messageCount ?? 0;
    const previous = thread.head?.[0];
    const isNext = previous !== undefined && previous.id === head.parent;
    const moved = Object.entries(thread.writes ?? {}).filter(([, [of]]) => of < head.id);
    /** @type {object[]} */
    const messages = moved.length > 0 ? [{ id: head.id, writes: moved.map(([, entry]) => entry) }] : [];
    const unchanged = names.filter((name) => !changed.has(name));
    const kept = isNext ? await this.#keep(id, previous, unchanged) : new Map();
    /** @type {[string, Typed | number][]} */
    const inline = [];
    /** @type {[string, number][]} */
    const large = [];
    for (const name of names) {
      const value = kept.get(name) ?? (await dump(name));
      if (typeof value === "number" || value[1].length <= largeLength) inline.push([name, value]);
      else large.push([name, messages.push({ id: head.id, value }) - 1]);
    }
    const values = Object.fromEntries([...inline, ...large.map(([name, i]) => [name, i - messages.length])]);
    // Whether the head of the writes is the last of the history, or the one before it
    const isNear = (/** @type {string} */ of) =>
      isNext && (of === previous.id || (of === previous.parent && previous.after === count));
    const late = moved.map(([, [of]]) => of).filter((of) => !isNear(of));
    const full = { ...head, values, after: isNext ? count + messages.length + 1 : undefined };
    await this.#store.append(id, [...messages, full], {
      patch: {
        of,
        head: [full],
        ...(moved.length > 0 && { writes: Object.fromEntries(moved.map(([key]) => [key, null])) }),
        ...(late.length > 0 && { late: Object.fromEntries(late.map((of) => [of, true])) }),
      },
    });
  }

  /**
   * A checkpoint, if there is one with this id.
   *
   * @param {string} id of the session
   * @param {Thread} thread its document
   * @param {string} wanted
   * @returns {Promise<Found | undefined>}
   */
  async find(id, thread, wanted) {
    const latest = thread?.head?.[0];
    if (latest === undefined) return undefined;
    if (wanted === latest.id && !thread.late?.[wanted]) {
      const places = Object.values(latest.values).filter((value) => typeof value === "number");
      const first = Math.min(0, ...places);
      const rows = first < 0 ? this.#store.history(id, { last: 1 - first }) : Promise.resolve([]);
      const values = this.#values(id, latest, rows);
      values.catch(() => {}); // of another checkpoint that was put meanwhile
      if (first === 0 || isHead((await rows).at(-1), wanted))
        return { head: latest, values: await values, writes: inOrder(writesTo(thread, wanted)) };
    }
    const rows = await this.#search(id, wanted);
    if (rows.length === 0) return undefined;
    const { seq, message } = /** @type {Row} */ (rows.at(-1));
    const writes = inOrder(await this.#writes(id, thread, wanted, seq));
    return { head: message, values: await this.#values(id, message, rows), writes };
  }

  /**
   * Checkpoints, newest first.
   *
   * @param {string} id of the session
   * @param {Thread | undefined} thread its document
   * @param {string | undefined} end only those before this checkpoint
   * @param {(head: Head) => Promise<boolean>} accepts
   * @returns {AsyncGenerator<Found, void, void>}
   */
  async *backwards(id, thread, end, accepts) {
    if (thread === undefined) return;
    const writes = new EntryMap();
    writes.addOlder(Object.values(thread.writes ?? {}));
    const seen = new Set();
    let before = end === undefined ? undefined : (await this.#narrow(id, end))[1] + 4 * near;
    for (let page; page === undefined || page.length === pageSize; before = page[0]?.seq) {
      page = await this.#store.history(id, { last: pageSize, before });
      for (let i = page.length - 1; i >= 0; i--) {
        const { seq, message } = page[i];
        writes.addOlder(message.writes ?? []);
        if (message.checkpoint === undefined || seen.has(message.id)) continue;
        seen.add(message.id);
        if ((end !== undefined && message.id >= end) || !(await accepts(message))) continue;
        const entries = writes.take(message.id);
        const all = thread.late?.[message.id] ? await this.#writes(id, thread, message.id, seq) : entries;
        yield {
          head: message,
          values: await this.#values(id, message, page.slice(0, i + 1)),
          writes: inOrder(all),
        };
      }
    }
  }

  /**
   * What a head has of channels that have not changed since the one before.
   *
   * @param {string} id
   * @param {Head} previous
   * @param {string[]} unchanged
   */
  async #keep(id, previous, unchanged) {
    /** @type {Map<string, Typed | number>} */
    const kept = new Map();
    let last;
    for (const name of unchanged) {
      if (!Object.hasOwn(previous.values, name)) continue;
      const value = previous.values[name];
      if (typeof value === "number" ? value > 0 : value[1].length <= smallLength) kept.set(name, value);
      else {
        [last] = last ? [last] : await this.#store.history(id, { last: 1 });
        if (isHead(last, previous.id)) kept.set(name, last.seq + (typeof value === "number" ? value : 0));
      }
    }
    return kept;
  }

  /**
   * The values of a checkpoint.
   *
   * @param {string} id
   * @param {Head} head
   * @param {Row[] | Promise<Row[]>} rows some of the history, up to the head if it has large values of its own
   */
  async #values(id, head, rows) {
    const known = new Map("then" in rows ? [] : rows.map(({ seq, message }) => [seq, message]));
    const at = async (/** @type {number} */ value) => {
      const seq = value > 0 ? value : ((await rows).at(-1)?.seq ?? 0) + value;
      if (value < 0) for (const row of await rows) known.set(row.seq, row.message);
      if (known.has(seq)) return known.get(seq);
      const [row] = await this.#store.history(id, { after: seq - 1, first: 1 });
      return row?.seq === seq ? row.message : undefined;
    };
    const read = async (/** @type {[string, Typed | number]} */ [name, value]) => {
      if (typeof value !== "number") return [name, value];
      const message = await at(value);
      const found = message?.value ?? message?.values?.[name];
      if (!Array.isArray(found)) throw new Error(`the value of channel ${name} was removed from the history`);
      return [name, found];
    };
    return Object.fromEntries(await Promise.all(Object.entries(head.values).map(read)));
  }

  /**
   * The history up to the head of a checkpoint; empty if there is none.
   *
   * @param {string} id
   * @param {string} wanted
   * @returns {Promise<Row[]>}
   */
  async #search(id, wanted) {
    const [low, high] = await this.#narrow(id, wanted);
    const rows = await this.#store.history(id, { after: Math.max(low - near, 0), before: high + near + 1 });
    const found = rows.findLastIndex((row) => isHead(row, wanted));
    if (found >= 0) return rows.slice(0, found + 1);
    let head;
    for await (const row of this.#store.messages(id)) if (isHead(row, wanted)) head = row; // ids that are not in order
    return head === undefined ? [] : [head];
  }

  /**
   * Between which seqs the last message of a checkpoint is, if ids are in order: after the first and not after the second.
   *
   * @param {string} id
   * @param {string} wanted
   */
  async #narrow(id, wanted) {
    const [newest] = await this.#store.history(id, { last: 1 });
    let [low, high] = [0, newest?.seq ?? 0];
    while (high - low > near) {
      const middle = Math.floor((low + high) / 2);
      const [row] = await this.#store.history(id, { after: middle, first: 1 });
      if (row !== undefined && row.seq <= high && row.message.id <= wanted) low = row.seq - 1;
      else high = middle;
    }
    return [low, high];
  }

  /**
   * The writes of a checkpoint, of which later ones replace earlier ones.
   *
   * @param {string} id
   * @param {Thread} thread
   * @param {string} wanted
   * @param {number} seq of its head
   */
  async #writes(id, thread, wanted, seq) {
    const isLate = thread.late?.[wanted];
    const found = new Map();
    const add = (/** @type {WriteEntry[]} */ entries) => {
      for (const entry of entries) if (entry[0] === wanted) found.set(keyOf(entry), entry);
    };
    let passed = 0;
    for await (const { message } of this.#store.messages(
      id,
      isLate ? {} : { after: seq, pageSize: 2 * near },
    )) {
      add(message.writes ?? []);
      if (message.checkpoint !== undefined && ++passed === heads && !isLate) break;
    }
    add(writesTo(thread, wanted));
    return found.values();
  }
}
