// What the web adapters share: sessions that live as long as their cookies, and logouts that stick.
import { ConflictError, DeadSessionError, InvalidArgumentError } from "../../errors.js";

/**
 * @typedef {{ ttl?: number | string, expiresAt?: Date }} Life how long a session lives
 * @typedef {Life & { owner?: string, ifVersion?: number }} SaveOptions
 * @typedef {(session: any) => Life | undefined} LifeOf by what is stored of a session; undefined if it is over
 *
 * @typedef {object} WebOptions
 * @property {import("../../index.js").SessionStore} store
 * @property {(session: any) => unknown} [owner] the user that a session belongs to, for store.deleteAll(user)
 * @property {number | string} [ttl] for cookies that end with the browser; if not given, the namespace's
 * @property {any} [previous] the store that was used before; a session moves from there when it is read
 * @property {boolean} [adopt] false while processes run that know only the previous store: nothing moves yet
 *
 * @typedef {object} PreviousStore
 * @property {(id: string) => Promise<any>} get
 * @property {(id: string, session: any) => Promise<unknown>} set
 * @property {(id: string) => Promise<unknown>} destroy
 * @property {(id: string, session: any) => Promise<unknown>} [touch]
 * @property {() => Promise<unknown>} [clear]
 */

const longest = 36500 * 24 * 3600 * 1000; // ms: about the longest ttl that the server takes

/**
 * How long a session with this cookie lives; undefined if it is over.
 *
 * @param {{ originalMaxAge?: unknown, expires?: any } | undefined} cookie
 * @param {number | string} [ttl] for a cookie that ends with the browser
 * @returns {Life | undefined}
 */
export function lifeOf(cookie, ttl) {
  const { originalMaxAge: ms, expires } = cookie ?? {};
  if (typeof ms === "number" && !Number.isNaN(ms))
    return ms > 0 ? { ttl: Math.ceil(Math.min(ms, longest)) } : undefined;
  const end = new Date(expires || NaN);
  if (Number.isNaN(end.getTime())) return { ttl };
  return end.getTime() > Date.now() ? { expiresAt: end } : undefined;
}

export class WebSessions {
  /** Whether a read restarts the lifetime of every session. */
  slides = true;

  /** @param {WebOptions} options @param {LifeOf} lifeOf */
  constructor({ store, owner }, lifeOf) {
    this.store = store;
    this.owner = owner;
    this.lifeOf = lifeOf;
  }

  /** @param {string} id @returns {Promise<any>} */
  read(id) {
    return this.store.get(id).catch((error) => {
      if (!(error instanceof InvalidArgumentError)) throw error; // such an id has no session
    });
  }

  /**
   * Saves a session. What was logged out, or has ended since it was read, stays so.
   *
   * @param {string} id
   * @param {any} session
   * @param {boolean} wasRead whether the session existed when the request began
   */
  async write(id, session, wasRead) {
    const options = this.saveOptions(session);
    if (options === undefined) return this.end(id);
    await this.save(id, session, wasRead ? { ...options, ifVersion: -1 } : options);
  }

  /**
   * Restarts the lifetime; false if the session is not here.
   *
   * @param {string} id
   * @param {any} session
   * @returns {Promise<unknown>}
   */
  async touch(id, session) {
    const life = this.lifeOf(session);
    if (life === undefined) return this.end(id);
    return (await this.store.touch(id, life)) !== undefined;
  }

  /** Logs out. @param {string} id @returns {Promise<unknown>} */
  end(id) {
    return this.store.delete(id);
  }

  clear() {
    return this.store.clear();
  }

  /** @param {any} session @returns {SaveOptions | undefined} */
  saveOptions(session) {
    const life = this.lifeOf(session);
    const owner = this.owner?.(session) ?? undefined;
    if (owner === undefined) return life;
    const text = String(owner);
    // a user, or a promise, in place of a user's id: all users would be one
    if (text.startsWith("[object ")) throw new TypeError(`owner() returned ${text}, not the id of a user`);
    return life && { ...life, owner: text };
  }

  /**
   * False if there is no session to save over. One that was logged out stays out, and the request goes on.
   *
   * @param {string} id
   * @param {any} session
   * @param {SaveOptions} options
   */
  async save(id, session, options) {
    try {
      await this.store.save(id, session, options);
      return true;
    } catch (error) {
      if (error instanceof DeadSessionError) return true;
      // 40001 may also be a serialization failure, which the application has to know of
      const isGone =
        options.ifVersion === -1 && error instanceof ConflictError && !(await this.store.exists(id));
      if (!isGone) throw error;
      return false;
    }
  }
}
