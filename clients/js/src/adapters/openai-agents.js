// Session of the OpenAI Agents SDK: a conversation is a session, and its items are the messages of its history.
import { randomUUID } from "node:crypto";
import { ConflictError } from "../errors.js";
import { readAll } from "./shared/messages.js";

/**
 * @typedef {import("@openai/agents-core").AgentInputItem} Item
 * @typedef {import("@openai/agents-core").SessionHistoryTransactionArgs} TransactionArgs
 * @typedef {import("@openai/agents-core").SessionHistoryRewriteArgs} RewriteArgs
 * @typedef {import("@openai/agents-core").SessionHistoryTransactionAwareSession} TransactionAwareSession
 * @typedef {import("@openai/agents-core").SessionHistoryRewriteAwareSession} RewriteAwareSession
 *
 * @typedef {object} Options
 * @property {import("../index.js").SessionStore} store
 * @property {string} [sessionId] of the conversation; a new one without it
 * @property {string} [owner] of a conversation that is begun
 * @property {number} [pageSize] items read by one call
 */

/**
 * @implements {TransactionAwareSession}
 * @implements {RewriteAwareSession}
 */
export class OpenAIAgentsSession {
  #store;
  #id;
  #owner;
  #pageSize;

  /** @param {Options} options */
  constructor({ store, sessionId = randomUUID(), owner, pageSize }) {
    this.#store = store;
    this.#id = sessionId;
    this.#owner = owner;
    this.#pageSize = pageSize;
  }

  async getSessionId() {
    return this.#id;
  }

  /**
   * All items, or the last ones. There are exactly as many as asked for, since the runner compares them with those that
   * it has written.
   *
   * @param {number} [limit]
   * @returns {Promise<Item[]>}
   */
  async getItems(limit = Infinity) {
    if (limit === Infinity) return readAll(this.#store, this.#id, this.#pageSize);
    if (limit <= 0) return [];
    const messages = await this.#store.history(this.#id, { last: limit });
    return messages.map(({ message }) => message);
  }

  /** @param {Item[]} items */
  async addItems(items) {
    if (items.length > 0) await this.#store.append(this.#id, items, { owner: this.#owner });
  }

  /** @returns {Promise<Item | undefined>} */
  async popItem() {
    return (await this.#store.pop(this.#id))[0];
  }

  /** Removes the items. The session goes on under its id; store.delete() ends it. */
  async clearSession() {
    await this.#store.trim(this.#id, 0);
  }

  /**
   * Replaces all items in one step by a compaction and what is kept after it.
   *
   * @param {Item[]} items
   */
  async replaceHistoryWithCompaction(items) {
    if (items.length === 0) return this.clearSession();
    await this.#store.append(this.#id, items, { owner: this.#owner, keep: items.length });
  }

  /**
   * Appends items, or replaces the last ones, once for each operationId.
   *
   * @param {TransactionArgs} args
   */
  async applyHistoryTransaction({ operationId, transaction }) {
    const { expected, items } =
      transaction.type === "append_items"
        ? { expected: [], items: transaction.items }
        : { expected: transaction.expectedSuffix, items: transaction.replacement };
    const done =
      expected.length === 0
        ? await this.#store.append(this.#id, items, { operationId, owner: this.#owner })
        : await this.#store.replaceTail(this.#id, expected.length, items, { expected, operationId });
    if (done === undefined) throw new ConflictError("the conversation has ended", { code: "40001" });
  }

  /**
   * Replaces function calls that were stored, as after an approval with other arguments. If other items are appended
   * meanwhile, it is a ConflictError and nothing has changed.
   *
   * @param {RewriteArgs} args
   */
  async applyHistoryMutations({ mutations }) {
    if (mutations.length === 0) return;
    const before = await this.getItems();
    const after = mutations.reduce(replaceCall, before);
    const first = before.findIndex((item, i) => item !== after[i]);
    if (first < 0) return;
    const expected = before.slice(first);
    await this.#store.replaceTail(this.#id, expected.length, after.slice(first), { expected });
  }
}

/**
 * The items with the replacement in place of the first call of this id; further ones are left out.
 *
 * @param {Item[]} items
 * @param {RewriteArgs["mutations"][number]} mutation
 * @returns {Item[]}
 */
function replaceCall(items, { callId, replacement }) {
  const isCall = (/** @type {any} */ item) => item.type === "function_call" && item.callId === callId;
  const first = items.findIndex(isCall);
  return items.flatMap((item, i) => (i === first ? [replacement] : isCall(item) ? [] : [item]));
}
