/**
 * The calls that an adapter makes, in place of a pool: `calls` are their names, as session_get.
 *
 * @param {import("pg").Pool} pool
 */
export function recorded(pool) {
  /** @type {string[]} */
  const calls = [];
  return {
    calls,
    /** The calls made since the last time. */
    take: () => calls.splice(0),
    /** @param {any} query */
    query(query) {
      calls.push(...query.text.match(/\bsession_\w+(?=\()/g));
      return pool.query(query);
    },
  };
}
