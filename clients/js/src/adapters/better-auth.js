// The secondary storage of better-auth: betterAuth({ secondaryStorage: secondaryStorage({ store }) })
import { DeadSessionError } from "../errors.js";
import { idOf } from "./shared/ids.js";
import { expiryOf, freeName, saveName } from "./shared/names.js";

// A session is under its token. Everything else that better-auth stores has a name that it uses again.
const isToken = (/** @type {string} */ key) => /^[A-Za-z0-9]{32}$/.test(key);

/**
 * Functions, not methods: better-auth calls some of them without the object.
 *
 * @param {{ store: import("../index.js").SessionStore }} options
 */
export function secondaryStorage({ store }) {
  // better-auth writes back what it has read: with a copy in Redis that is behind, it would undo the last change
  const current = store.with({ reads: "sql" });
  return {
    /** @param {string} key @returns {Promise<string | null>} */
    get: async (key) => (await current.get(idOf(key))) ?? null,

    /** @param {string} key @returns {Promise<string | null>} */
    getAndDelete: async (key) => (await store.take(idOf(key))) ?? null,

    /** @param {string} key @param {number} ttl seconds */
    increment: async (key, ttl) => (await store.hit(idOf(key), ttl * 1000)).hits,

    /** @param {string} key @param {string} value @param {number} [ttl] seconds */
    async set(key, value, ttl) {
      const end = ttl ? Date.now() + ttl * 1000 : Infinity;
      if (!isToken(key)) return saveName(store, idOf(key), value, end);
      try {
        await store.save(key, value, { expiresAt: expiryOf(end) });
      } catch (error) {
        // a request that was running while the user signed out does not bring the session back
        if (!(error instanceof DeadSessionError)) throw error;
      }
    },

    /** @param {string} key */
    async delete(key) {
      if (isToken(key)) await store.delete(key);
      else await freeName(store, idOf(key));
    },
  };
}
