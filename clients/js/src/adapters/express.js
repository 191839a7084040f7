// A store for express-session, and so for express, connect and Nest.
import session from "express-session";
import { cookieSessions, settle } from "./shared/callbacks.js";

/** @typedef {import("./shared/web.js").WebOptions} WebOptions */
/** @typedef {(error: any, result?: any) => void} Done */

// A session that was read has here the maxAge that it had then.
const maxAgeRead = Symbol("session_store.maxAgeRead");

export class SessionStoreExpress extends session.Store {
  #store;
  #sessions;

  /** @param {WebOptions} options */
  constructor(options) {
    super();
    this.#store = options.store;
    this.#sessions = cookieSessions(options);
  }

  /** @param {any} req @param {any} found */
  createSession(req, found) {
    const made = super.createSession(req, found);
    return Object.defineProperty(made, maxAgeRead, { value: made.cookie.originalMaxAge });
  }

  /** @param {string} id @param {Done} [done] */
  get(id, done) {
    return settle(this.#sessions.read(id), done);
  }

  /** @param {string} id @param {any} session @param {Done} [done] */
  set(id, session, done) {
    return settle(this.#sessions.write(id, session, maxAgeRead in Object(session)), done);
  }

  /**
   * Needs a call only if the application gave the cookie another maxAge: the read has restarted the lifetime.
   *
   * @param {string} id @param {any} session @param {Done} [done]
   */
  touch(id, session, done) {
    const wasRead = this.#sessions.slides && maxAgeRead in Object(session);
    const isDone = wasRead && session[maxAgeRead] === session.cookie.originalMaxAge;
    return settle(isDone ? Promise.resolve() : this.#sessions.touch(id, session), done);
  }

  /** @param {string} id @param {Done} [done] */
  destroy(id, done) {
    return settle(this.#sessions.end(id), done);
  }

  /** @param {Done} [done] */
  all(done) {
    return settle(this.#all(), done);
  }

  async #all() {
    const all = [];
    for await (const { sessionId, sessionData } of this.#store.sessions({ withData: true }))
      all.push({ ...sessionData, id: sessionId });
    return all;
  }

  /** @param {Done} [done] */
  length(done) {
    return settle(this.#store.count(), done);
  }

  /** @param {Done} [done] */
  clear(done) {
    return settle(this.#sessions.clear(), done);
  }
}

export default SessionStoreExpress;
