// Stores with callbacks, as express-session and @fastify/session have them.
import { promisify } from "node:util";
import { UnavailableError } from "../../errors.js";
import { webSessions } from "./moving.js";
import { lifeOf } from "./web.js";

/**
 * Gives the result to a callback; without one the promise is the caller's.
 *
 * @template T
 * @param {Promise<T>} promise
 * @param {((error: any, value?: T) => void) | undefined} done
 * @returns {Promise<T> | undefined}
 */
export function settle(promise, done) {
  if (done === undefined) {
    promise.catch(() => {}); // an error that nobody waits for must not end the process
    return promise;
  }
  promise.then(
    (value) => process.nextTick(done, null, value),
    (error) => process.nextTick(done, notMissing(error)),
  );
}

/**
 * Middleware takes the code ENOENT for "no such session", and would begin a new one. The previous store has that code
 * when the socket of its server is missing.
 *
 * @param {any} error
 */
function notMissing(error) {
  return error?.code === "ENOENT" ? new UnavailableError(error.message, { cause: error }) : error;
}

/**
 * Sessions that live as long as their `cookie`; the previous store has callbacks as well.
 *
 * @param {import("./web.js").WebOptions} options
 */
export const cookieSessions = ({ previous, ...options }) =>
  webSessions({ ...options, previous: previous && promised(previous) }, ({ cookie }) =>
    lifeOf(cookie, options.ttl),
  );

/**
 * A store with callbacks as one with promises.
 *
 * @param {any} store
 * @returns {import("./web.js").PreviousStore}
 */
function promised(store) {
  const names = ["get", "set", "destroy", "touch", "clear"].filter(
    (name) => typeof store[name] === "function",
  );
  const methods = names.map((name) => [name, promisify(store[name]).bind(store)]);
  return /** @type {any} */ (Object.fromEntries(methods));
}
