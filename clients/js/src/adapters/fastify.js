// A store for @fastify/session.
import { cookieSessions, settle } from "./shared/callbacks.js";

/** @typedef {import("./shared/web.js").WebOptions} WebOptions */
/** @typedef {(error: any, result?: any) => void} Done */

export class SessionStoreFastify {
  #sessions;

  /** @param {WebOptions} options */
  constructor(options) {
    this.#sessions = cookieSessions(options);
  }

  /** @param {string} id @param {Done} [done] */
  get(id, done) {
    return settle(this.#sessions.read(id), done);
  }

  /**
   * The session does not tell whether it was read or is new: one that was logged out meanwhile is dead, and stays so
   * for the namespace's tombstone.
   *
   * @param {string} id @param {any} session @param {Done} [done]
   */
  set(id, session, done) {
    return settle(this.#sessions.write(id, session, false), done);
  }

  /** @param {string} id @param {Done} [done] */
  destroy(id, done) {
    return settle(this.#sessions.end(id), done);
  }
}

export default SessionStoreFastify;
