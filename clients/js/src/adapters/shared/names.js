// Names: ids of key-value interfaces, whose users write a name again right after they deleted it. So no name is dead
// after a deletion, unlike a session after its logout.
import { ConflictError, DeadSessionError } from "../../errors.js";

const longestLife = 36525 * 86_400_000; // ms: the store's 100 years

/**
 * What the store has to be told of an end. A fixed expiry, since reads of an entry do not prolong it.
 *
 * @param {number} end milliseconds since 1970; what is not finite, or 100 years away: until it is deleted
 */
export function expiryOf(end) {
  const isFar = !Number.isFinite(end) || end - Date.now() > longestLife;
  return isFar ? Infinity : new Date(Math.max(Math.ceil(end), 0));
}

/**
 * Stores a value under a name until `end`. If that has passed, the name is free afterwards.
 *
 * After session_clear() the name may be dead, and is reused on purpose by a second call. If another client reuses it in
 * between, its value came later than this one, which it has replaced.
 *
 * @param {import("../../index.js").SessionStore} store
 * @param {string} id
 * @param {unknown} value
 * @param {number} end milliseconds since 1970; Infinity: until it is deleted
 */
export async function saveName(store, id, value, end) {
  const expiresAt = expiryOf(end);
  try {
    await store.save(id, value, { expiresAt });
  } catch (error) {
    if (!(error instanceof DeadSessionError)) throw error;
    await store.save(id, value, { expiresAt, ifVersion: 0 }).catch((/** @type {unknown} */ conflict) => {
      if (!(conflict instanceof ConflictError)) throw conflict;
    });
  }
}

/**
 * Ends what is stored under a name, which is free afterwards: an expiry in the past leaves no tombstone.
 *
 * @param {import("../../index.js").SessionStore} store
 * @param {string} id
 * @returns {Promise<boolean>} whether there was something
 */
export async function freeName(store, id) {
  return (await store.touch(id, { expiresAt: new Date(0) })) !== undefined;
}
