// LangGraph's long-term memory: new SessionStoreMemory(store). An item is a session, whose id is the namespace and the key
// of the item, as a path. There is no search by meaning: a `query` is ignored, as in InMemoryStore without an index.
import { BaseStore, validateNamespace } from "@langchain/langgraph-checkpoint";
import { isDeepStrictEqual } from "node:util";
import { freeName, saveName } from "./shared/names.js";

/**
 * @import { GetOperation, Item, ListNamespacesOperation, MatchCondition, Operation, OperationResults, PutOperation,
 *   SearchOperation } from "@langchain/langgraph-checkpoint"
 * @import { SessionRecord, SessionStore } from "../index.js"
 */

// A part of a path has no slash, and what no id may have is escaped.
const escaped = /[%/\u0000-\u001f\u007f-\u009f]/g;
const pathOf = (/** @type {string[]} */ parts) =>
  parts.map((part) => part.replace(escaped, encodeURIComponent)).join("/");
const prefixOf = (/** @type {string[]} */ namespace) => (namespace.length > 0 ? pathOf(namespace) + "/" : "");
const partsOf = (/** @type {string} */ id) => id.split("/").map(decodeURIComponent);

/** @type {Record<string, (value: any, operand: any) => boolean>} */
const operators = {
  $eq: (value, operand) => isDeepStrictEqual(value, operand),
  $ne: (value, operand) => !isDeepStrictEqual(value, operand),
  $gt: (value, operand) => Number(value) > Number(operand),
  $gte: (value, operand) => Number(value) >= Number(operand),
  $lt: (value, operand) => Number(value) < Number(operand),
  $lte: (value, operand) => Number(value) <= Number(operand),
  $in: (value, operand) => Array.isArray(operand) && operand.includes(value),
  $nin: (value, operand) => !Array.isArray(operand) || !operand.includes(value),
};

/** Whether a member of an item is as the filter has it: equal, or as all operators say. @param {any} value @param {any} wanted */
function isAccepted(value, wanted) {
  const names = wanted !== null && typeof wanted === "object" ? Object.keys(wanted) : [];
  const isOperators = names.length > 0 && names.every((name) => Object.hasOwn(operators, name));
  return isOperators
    ? names.every((name) => operators[name](value, wanted[name]))
    : isDeepStrictEqual(value, wanted);
}

/** @param {string[]} namespace @param {MatchCondition} condition */
function isMatch(namespace, { matchType, path }) {
  const part = matchType === "prefix" ? namespace.slice(0, path.length) : namespace.slice(-path.length);
  return part.length === path.length && path.every((label, i) => label === "*" || label === part[i]);
}

/** @param {Pick<SessionRecord, "sessionId" | "sessionData" | "createdAt" | "updatedAt">} session @returns {Item} */
function itemOf({ sessionId, sessionData, createdAt, updatedAt }) {
  const namespace = partsOf(sessionId);
  const key = /** @type {string} */ (namespace.pop());
  return { value: sessionData, key, namespace, createdAt, updatedAt };
}

export class SessionStoreMemory extends BaseStore {
  #store;
  #ttl;

  /** @param {SessionStore} store @param {{ ttl?: number }} [options] minutes that an item lives; by default for ever */
  constructor(store, { ttl = Infinity } = {}) {
    super();
    this.#store = store;
    this.#ttl = ttl;
  }

  /**
   * Reads see the store as it was before the batch; of several puts of an item the last one counts.
   *
   * @template {Operation[]} Op
   * @param {Op} operations
   * @returns {Promise<OperationResults<Op>>}
   */
  async batch(operations) {
    const isPut = (/** @type {Operation} */ operation) => "value" in operation;
    const results = await Promise.all(
      operations.map((operation) => {
        if (isPut(operation)) return undefined;
        if ("namespacePrefix" in operation) return this.#search(operation);
        if ("key" in operation) return this.#get(operation);
        return this.#namespaces(/** @type {ListNamespacesOperation} */ (operation));
      }),
    );
    const puts = /** @type {PutOperation[]} */ (operations.filter(isPut));
    const last = new Map(puts.map((put) => [pathOf([...put.namespace, put.key]), put]));
    await Promise.all([...last].map(([id, put]) => this.#put(id, put)));
    return /** @type {OperationResults<Op>} */ (results);
  }

  /**
   * @param {string[]} namespace
   * @param {string} key
   * @param {Record<string, any>} value
   * @param {false | string[]} [index] not used
   * @param {{ ttl?: number }} [options] minutes
   */
  async put(namespace, key, value, index, options) {
    validateNamespace(namespace);
    await this.batch([/** @type {PutOperation} */ ({ namespace, key, value, index, options })]);
  }

  /** @param {string} id @param {PutOperation & { options?: { ttl?: number } }} operation */
  async #put(id, { value, options }) {
    if (value === null) await freeName(this.#store, id);
    else await saveName(this.#store, id, value, Date.now() + (options?.ttl ?? this.#ttl) * 60_000);
  }

  /** @param {GetOperation} operation */
  async #get({ namespace, key }) {
    const session = await this.#store.fetch(pathOf([...namespace, key]));
    return session === undefined ? null : itemOf(session);
  }

  /** In the order of the paths. @param {SearchOperation} operation */
  async #search({ namespacePrefix, filter = {}, limit = 10, offset = 0 }) {
    const wanted = Object.entries(filter);
    const scalars = wanted.filter(
      ([, value]) => value === null || !["object", "undefined"].includes(typeof value),
    );
    const sessions = this.#store.sessions({
      idPrefix: prefixOf(namespacePrefix),
      filter: scalars.length > 0 ? Object.fromEntries(scalars) : undefined,
      pageSize: Math.min(Math.max(limit + offset, 1), 500),
      withData: true,
    });
    const items = [];
    if (limit > 0)
      for await (const session of sessions) {
        const item = itemOf(session);
        if (!wanted.every(([name, value]) => isAccepted(item.value?.[name], value)) || offset-- > 0) continue;
        if (items.push(item) === limit) break;
      }
    return items;
  }

  /** @param {ListNamespacesOperation} operation */
  async #namespaces({ matchConditions = [], maxDepth, limit = 100, offset = 0 }) {
    const path = matchConditions.find(({ matchType }) => matchType === "prefix")?.path ?? [];
    const wildcard = path.indexOf("*");
    const idPrefix = prefixOf(wildcard < 0 ? path : path.slice(0, wildcard));
    const found = new Map();
    for await (const { sessionId } of this.#store.sessions({ idPrefix })) {
      const namespace = partsOf(sessionId).slice(0, -1);
      if (!matchConditions.every((condition) => isMatch(namespace, condition))) continue;
      const cut = namespace.slice(0, maxDepth);
      found.set(pathOf(cut), cut);
    }
    const paths = [...found.keys()].sort();
    return paths.slice(offset, offset + limit).map((path) => found.get(path));
  }
}
