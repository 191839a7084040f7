// Many calls at once, where the server has no call for many sessions.
import { UnavailableError } from "../../errors.js";

const concurrency = 10; // connections of a pool that one operation may use

/**
 * Makes a call for each item: several at once, and those of one key in their order. What a call is refused is left to
 * the caller, and the others go on; if there is no server, the rest is not tried.
 *
 * @template T, R
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Promise<R>} act
 * @param {(error: unknown) => R} refused the result of a call that failed
 * @returns {Promise<R[]>}
 */
export async function callEach(items, keyOf, act, refused) {
  const results = [];
  for (let i = 0; i < items.length; i += concurrency) {
    /** @type {Map<string, Promise<R>>} */
    const last = new Map();
    const calls = items.slice(i, i + concurrency).map((item) => {
      const key = keyOf(item);
      const before = last.get(key)?.catch(() => {});
      const call = before === undefined ? act(item) : before.then(() => act(item));
      last.set(key, call);
      return call;
    });
    for (const result of await Promise.allSettled(calls)) {
      if (result.status === "fulfilled") results.push(result.value);
      else if (result.reason instanceof UnavailableError) throw result.reason;
      else results.push(refused(result.reason));
    }
  }
  return results;
}
