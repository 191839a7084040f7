// A store for express-rate-limit: rateLimit({ store: new SessionStoreRateLimit({ store, prefix: "login:" }) })
import { idOf } from "./shared/ids.js";

export class SessionStoreRateLimit {
  #store;
  #windowMs = 0;
  /** All processes count in the same counters. */
  localKeys = false;

  /**
   * @param {{ store: import("../index.js").SessionStore, prefix?: string }} options each limiter needs a prefix of its
   *   own
   */
  constructor({ store, prefix = "rate-limit:" }) {
    this.#store = store;
    this.prefix = prefix;
  }

  /** @param {{ windowMs: number }} options of the limiter */
  init({ windowMs }) {
    this.#windowMs = windowMs;
  }

  /** @param {string} key */
  async get(key) {
    const { hits, resetsAt } = await this.#store.hit(this.#id(key), null, { by: 0 });
    return resetsAt === null ? undefined : { totalHits: hits, resetTime: resetsAt };
  }

  /** @param {string} key */
  async increment(key) {
    const { hits, resetsAt } = await this.#store.hit(this.#id(key), this.#windowMs);
    return { totalHits: hits, resetTime: resetsAt ?? undefined };
  }

  /** @param {string} key */
  async decrement(key) {
    await this.#store.hit(this.#id(key), null, { by: -1 });
  }

  /** @param {string} key */
  async resetKey(key) {
    await this.#store.hitReset(this.#id(key));
  }

  /** @param {string} key */
  #id(key) {
    return idOf(key, this.prefix);
  }
}
