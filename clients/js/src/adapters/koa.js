// An external store for koa-session.
import { webSessions } from "./shared/moving.js";
import { lifeOf } from "./shared/web.js";

/** @typedef {import("./shared/web.js").WebOptions} WebOptions */
/** @typedef {{ ctx?: any, rolling?: boolean, changed?: boolean }} KoaOptions */

// A request has here the id of the session that it read.
const idRead = Symbol("session_store.idRead");
const graceMs = 10000; // koa-session checks the end itself: the store keeps a session for so much longer

export class SessionStoreKoa {
  #sessions;

  /** @param {WebOptions} options */
  constructor(options) {
    const life = (/** @type {any} */ { _maxAge: ms }) =>
      lifeOf({ originalMaxAge: typeof ms === "number" ? ms + graceMs : undefined }, options.ttl);
    this.#sessions = webSessions(options, life);
  }

  /** @param {string} key @param {unknown} [_maxAge] @param {KoaOptions} [options] */
  async get(key, _maxAge, { ctx } = {}) {
    const found = await this.#sessions.read(key);
    if (found !== undefined && ctx) ctx[idRead] = key;
    return found;
  }

  /** @param {string} key @param {any} session @param {unknown} [_maxAge] @param {KoaOptions} [options] */
  async set(key, session, _maxAge, { ctx } = {}) {
    await this.#sessions.write(key, session, ctx?.[idRead] === key);
  }

  /** @param {string} key */
  async destroy(key) {
    await this.#sessions.end(key);
  }
}

export default SessionStoreKoa;
