// A storage adapter for Keyv 5 and 6: new Keyv({ store: new SessionStoreKeyv({ store }) })
//
// The two differ in what they pass. Keyv 5 puts its namespace before each key and gives a time to live; Keyv 6 leaves
// the namespace to the adapter and gives the time at which the value ends.
import { EventEmitter } from "node:events";
import { idOf, idStart, keyOf } from "./shared/ids.js";
import { callEach } from "./shared/many.js";
import { freeName, saveName } from "./shared/names.js";

const mostIds = 10_000; // of one session_get_many()
const methods = "get getMany has hasMany set setMany delete deleteMany clear disconnect iterator".split(" ");

export class SessionStoreKeyv extends EventEmitter {
  #store;
  #isKeyv6 = false;
  /** Set by Keyv. @type {string | undefined} */
  namespace;
  /** Keyv 5 iterates over stores of a dialect that it knows. @type {Record<string, any>} */
  opts = { dialect: "postgres" };

  /** @param {{ store: import("../index.js").SessionStore }} options */
  constructor({ store }) {
    super();
    this.#store = store;
  }

  /** Keyv 6 asks for this before it uses an adapter, and Keyv 5 does not: so the adapter learns what it will be passed. */
  get capabilities() {
    this.#isKeyv6 = true;
    const named = methods.map((name) => [name, { exists: true, methodType: "async" }]);
    return { compatible: true, store: "keyvStorage", expires: true, methods: Object.fromEntries(named) };
  }

  /** @param {string} key @returns {Promise<any>} */
  async get(key) {
    const { id, read } = this.#place(key);
    return read(await this.#store.get(id));
  }

  /** @param {string[]} keys @returns {Promise<any[]>} */
  async getMany(keys) {
    const places = keys.map((key) => this.#place(key));
    /** @type {any[]} */
    const found = [];
    for (let i = 0; i < places.length; i += mostIds)
      found.push(...(await this.#store.getMany(places.slice(i, i + mostIds).map(({ id }) => id))));
    return places.map(({ read }, i) => read(found[i]));
  }

  /** @param {string} key @param {any} value @param {number} [life] */
  async set(key, value, life) {
    const { id, written } = this.#place(key);
    await saveName(this.#store, id, written(value), this.#end(life));
    return true;
  }

  /** @param {{ key: string, value: any, ttl?: number, expires?: number }[]} entries */
  async setMany(entries) {
    const set = (/** @type {(typeof entries)[0]} */ entry) =>
      this.set(entry.key, entry.value, entry.expires ?? entry.ttl);
    return callEach(entries, ({ key }) => key, set, this.#refused);
  }

  /** @param {string} key */
  async delete(key) {
    return freeName(this.#store, this.#place(key).id);
  }

  /** @param {string[]} keys @returns {Promise<boolean | boolean[]>} Keyv 6: which were there; Keyv 5: whether all were */
  async deleteMany(keys) {
    const deleted = await callEach(keys, String, (key) => this.delete(key), this.#refused);
    return this.#isKeyv6 ? deleted : deleted.every(Boolean);
  }

  async clear() {
    await this.#store.clear({ idPrefix: idStart(this.#prefix) });
  }

  /** @param {string} key */
  async has(key) {
    return this.#store.exists(this.#place(key).id);
  }

  /** @param {string[]} keys */
  async hasMany(keys) {
    return (await this.getMany(keys)).map((value) => value !== undefined);
  }

  /** @returns {AsyncGenerator<[string, any], void, void>} */
  async *iterator() {
    const prefix = this.#prefix;
    const sessions = this.#store.sessions({ idPrefix: idStart(prefix), withData: true });
    for await (const { sessionId, sessionData } of sessions) {
      const key = keyOf(sessionId, prefix);
      const [name, value] = key === undefined ? [sessionData?.key, sessionData?.value] : [key, sessionData];
      if (name === undefined) continue; // not an entry of Keyv
      yield [this.#isKeyv6 ? name : prefix + name, value];
    }
  }

  /** The connections are the application's and stay open. */
  async disconnect() {}

  get #prefix() {
    return this.namespace ? this.namespace + ":" : "";
  }

  /**
   * Where a key is stored, and as what. A document under a hash has the key beside the value, for the iterator.
   *
   * @param {string} key
   */
  #place(key) {
    let prefix = this.#prefix;
    if (!this.#isKeyv6) {
      if (key.startsWith(prefix)) key = key.slice(prefix.length);
      else prefix = ""; // the option useKeyPrefix is false
    }
    const id = idOf(key, prefix);
    const isHash = keyOf(id, prefix) === undefined;
    return {
      id,
      written: (/** @type {any} */ value) => (isHash ? { key, value } : value),
      read: (/** @type {any} */ document) => (isHash ? document?.value : document),
    };
  }

  /** When a value ends, in milliseconds since 1970. @param {number | undefined} life */
  #end(life) {
    if (typeof life !== "number") return Infinity;
    return this.#isKeyv6 ? life : Date.now() + life;
  }

  /** The error of one of many goes to Keyv, which emits it. */
  #refused = (/** @type {unknown} */ error) => !this.emit("error", error);
}
