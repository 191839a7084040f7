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
   * The values of copies, in the order of the ids; undefined where there is none, and empty if none may be used. Never
   * rejects.
   *
   * @param {string} prefix
   * @param {string[]} ids
   * @returns {Promise<any[]>}
   */
  read(prefix, ids) {
    const { redis, strong, timeout } = this;
    return new Promise((resolve) => {
      const useNone = () => resolve([]);
      const isReady = redis.isReady ?? redis.status === "ready";
      if (!isReady || (pausedUntil.get(redis) ?? 0) > performance.now()) return useNone();
      /** @type {NodeJS.Timeout | undefined} */
      let timer;
      const fail = () => {
        clearTimeout(timer);
        pausedUntil.set(redis, performance.now() + pauseMs);
        useNone();
      };
      const take = (/** @type {(string | null)[]} */ answer) => {
        clearTimeout(timer);
        const lease = strong ? answer.shift() : "not needed";
        if (lease === null) useNone();
        else resolve(answer.map((copy) => (copy === null ? undefined : decode(copy))));
      };
      const keys = ids.map((id) => prefix + (this.hashKeys ? sha256(id) : id));
      if (strong) keys.unshift(leaseKey);
      timer = setTimeout(fail, timeout);
      try {
        (redis.mGet ? redis.mGet(keys) : redis.mget(keys)).then(take).catch(fail);
      } catch {
        fail();
      }
    });
  }
}

/** @param {string} text */
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
