// Stores for express-session over session_store: one that reads by SQL, one that reads from Redis.
import session from "express-session";

const DAY = 86400;

/** How long a session lives after its last use, in seconds, as its cookie says; a cookie that ends with the browser says nothing. */
function lifetime({ cookie }) {
  return typeof cookie?.originalMaxAge === "number" ? Math.ceil(cookie.originalMaxAge / 1000) : DAY;
}

/** For a sliding namespace: there a read keeps a session alive, so that a touch costs nothing beside it. */
export class SqlStore extends session.Store {
  #found = new WeakMap(); // the lifetime that a session had when it was read

  constructor(pool, namespace) {
    super();
    this.pool = pool;
    this.namespace = namespace;
  }

  async call(text, ...values) {
    return Object.values((await this.pool.query(text, values)).rows[0])[0];
  }

  read(id) {
    return this.call("SELECT session_get($1, $2)", id, this.namespace);
  }

  get(id, done) {
    this.read(id).then((found) => done(null, found), done);
  }

  createSession(req, found) {
    const seconds = lifetime(found);
    const made = super.createSession(req, found);
    this.#found.set(made, seconds);
    return made;
  }

  set(id, session, done = () => {}) {
    const seconds = lifetime(session);
    if (seconds <= 0) return this.destroy(id, done);
    this.call("SELECT session_save($1, $2, make_interval(secs => $3), namespace => $4)",
      id, JSON.stringify(session), seconds, this.namespace)
      // SST10: another request has logged out meanwhile, and that holds
      .then(() => done(null), (error) => done(error.code === "SST10" ? null : error));
  }

  touch(id, session, done = () => {}) {
    const seconds = lifetime(session);
    if (this.#found.get(session) === seconds) return done(null); // the read was the touch
    if (seconds <= 0) return this.destroy(id, done);
    this.call("SELECT session_touch($1, make_interval(secs => $2), $3)", id, seconds, this.namespace)
      .then(() => done(null), done);
  }

  destroy(id, done = () => {}) {
    this.call("SELECT session_delete($1, $2)", id, this.namespace).then(() => done(null), done);
  }
}

/**
 * Reads from Redis while it has a lease and the session, else by SQL. Wants session_store.fence = all, so that
 * the next request of a browser sees what the last one saved. A copy lives for an eighth of the lifetime, at most 5
 * minutes: then a read goes to SQL and keeps the session alive.
 */
export class CachedStore extends SqlStore {
  constructor(pool, namespace, redis, prefix) {
    super(pool, namespace);
    this.redis = redis;
    this.prefix = prefix;
  }

  async read(id) {
    const [lease, copy] = await this.redis.mGet(["session_store:lease", this.prefix + id]).catch(() => []);
    return lease && copy ? JSON.parse(copy) : super.read(id);
  }
}
