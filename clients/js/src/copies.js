// Reads copies in Redis, as docs/redis.md describes. What Redis cannot answer, the caller reads by SQL; no error of
// Redis gets further than here.
import { createHash } from "node:crypto";
import { decode } from "./json.js";

const leaseKey = "session_store:lease";
const pauseMs = 1000;

// When a Redis that failed is asked again, by client, since several stores may use the same.
/** @type {WeakMap<object, number>} */
const pausedUntil = new WeakMap();

export class CopyReader {
  /**
   * @param {any} redis a client of node-redis or ioredis
   * @param {{ strong: boolean, hashKeys: boolean, timeout: number }} options timeout in milliseconds
   */
  constructor(redis, { strong, hashKeys, timeout }) {
    this.redis = redis;
    this.strong = strong;
    this.hashKeys = hashKeys;
    this.timeout = timeout;
  }

  /**
   * The values of copies, in the order of the ids; undefined where there is none that may be used.
   *
   * @param {string} prefix
   * @param {string[]} ids
   * @returns {Promise<any[]>}
   */
  async read(prefix, ids) {
    const { redis, strong } = this;
    const nothing = () => ids.map(() => undefined);
    if (redis.isReady === false || (redis.status ?? "ready") !== "ready") return nothing();
    if ((pausedUntil.get(redis) ?? 0) > performance.now()) return nothing();
    const keys = ids.map((id) => prefix + (this.hashKeys ? sha256(id) : id));
    if (strong) keys.unshift(leaseKey);
    try {
      const answer = await this.#inTime(redis.mGet ? redis.mGet(keys) : redis.mget(keys));
      const lease = strong ? answer.shift() : true;
      return lease === null
        ? nothing()
        : answer.map((/** @type {string | null} */ copy) => (copy === null ? undefined : decode(copy)));
    } catch {
      pausedUntil.set(redis, performance.now() + pauseMs);
      return nothing();
    }
  }

  /**
   * @param {Promise<any>} answer
   * @returns {Promise<any>}
   */
  async #inTime(answer) {
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, this.timeout, new Error("no answer of Redis in time"));
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
      answer.catch(() => {});
    }
  }
}

/** @param {string} text */
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
