// SessionStore: the calls of session_store as methods. docs/reference.md says what each call does; the types here say
// how its arguments and results look in JavaScript.
import { CopyReader } from "./copies.js";
import { encode, text } from "./json.js";
import { call, interval, qualified, send, statement, time, value } from "./sql.js";

export * from "./errors.js";

/**
 * @typedef {import("./sql.js").Queryable} Queryable
 * @typedef {number | string} Interval milliseconds, or a PostgreSQL interval such as "30 minutes"
 * @typedef {{ signal?: AbortSignal }} CallOptions
 *
 * @typedef {object} SessionStoreOptions
 * @property {Queryable} [pool] a pg.Pool
 * @property {Queryable} [client] a connected pg.Client, in place of a pool
 * @property {any} [redis] a client of node-redis or ioredis, for reads "plain" and "strong"
 * @property {"sql" | "plain" | "strong"} [reads] how get, getMany and tail read; "strong" if there is a redis
 * @property {string} [namespace] without one the server's setting session_store.namespace decides, and reads are "sql"
 * @property {string} [keyPrefix] the namespace's key_prefix; its name and a colon, "session:" for the default one
 * @property {string} [tailPrefix] the namespace's tail_prefix; without it tails are read by SQL
 * @property {boolean} [hashKeys] whether the namespace has hash_keys
 * @property {number} [redisTimeout] milliseconds after which a read turns to SQL; 100
 * @property {string} [schema] where the extension is installed, if not on the search_path
 * @property {boolean} [prepare] use prepared statements: faster, but poolers in transaction mode may not have them
 *
 * @typedef {object} SessionRecord
 * @property {string} namespace
 * @property {string} sessionId
 * @property {any} sessionData
 * @property {string | null} ownerId
 * @property {number} version
 * @property {Date} createdAt
 * @property {Date} updatedAt
 * @property {Date} expiresAt
 * @property {number} messageCount
 *
 * @typedef {SessionRecord & { pageCursor: string }} SessionSummary sessionData is null unless withData was given
 * @typedef {{ seq: number, message: any, createdAt: Date }} Message
 * @typedef {{ seq: number | null, message: any, createdAt: Date | null, tokens: number }} WindowMessage
 * @typedef {{ pageCursor: string, kind: string, item: any }} ExportItem
 * @typedef {{ hits: number, remaining: number | null, resetsAt: Date | null }} Hits
 *
 * @typedef {object} ListOptions
 * @property {string} [owner]
 * @property {string} [idLike]
 * @property {string} [idPrefix]
 * @property {object} [filter]
 * @property {string} [after] the pageCursor of the last row of the page before
 * @property {number} [pageSize]
 * @property {boolean} [withData]
 */

export class SessionStore {
  /** @type {SessionStoreOptions} */
  #options;
  /** @type {Queryable} */
  #db;
  /** @type {CopyReader | undefined} */
  #copies;

  /** @param {SessionStoreOptions} options */
  constructor(options) {
    const {
      pool,
      client,
      redis,
      reads = redis ? "strong" : "sql",
      hashKeys = false,
      redisTimeout = 100,
    } = options;
    const db = client ?? pool;
    if (typeof db?.query !== "function") throw new TypeError("SessionStore needs a pool or a client of pg");
    if (!["sql", "plain", "strong"].includes(reads))
      throw new TypeError(`reads is sql, plain or strong, not ${reads}`);
    if (reads !== "sql" && !redis) throw new TypeError(`reads: "${reads}" needs a redis`);
    // The server's setting may name any namespace: without its prefix the copies of another one would be read.
    if (reads !== "sql" && options.namespace === undefined && options.keyPrefix === undefined)
      throw new TypeError(`reads: "${reads}" needs a namespace`);
    this.#options = options;
    this.#db = db;
    if (reads !== "sql")
      this.#copies = new CopyReader(redis, { strong: reads === "strong", hashKeys, timeout: redisTimeout });
  }

  /**
   * The same store with other options, such as another namespace. What belongs to the namespace (keyPrefix, tailPrefix,
   * hashKeys) is not taken over to another one.
   *
   * @param {SessionStoreOptions} options
   */
  with(options) {
    const { keyPrefix, tailPrefix, hashKeys, ...rest } = this.#options;
    return new SessionStore(
      "namespace" in options
        ? { ...rest, ...options }
        : { ...rest, keyPrefix, tailPrefix, hashKeys, ...options },
    );
  }

  /**
   * The same store on a client of the caller, in the caller's transaction. It reads by SQL, and so sees its own changes.
   *
   * @param {Queryable} client
   */
  using(client) {
    return this.with({ client, reads: "sql" });
  }

  /** @returns {string | undefined} */
  get namespace() {
    return this.#options.namespace;
  }

  // --- one session

  /**
   * Creates a session under a random id, and returns the id.
   *
   * @param {unknown} [data]
   * @param {{ ttl?: Interval, owner?: string, expiresAt?: Date | number } & CallOptions} [options]
   * @returns {Promise<string>}
   */
  async create(data = {}, { ttl, owner, expiresAt, signal } = {}) {
    return this.#one(
      "session_create",
      [encode(data), ...this.#life(ttl, expiresAt, [optional(owner), this.#ns])],
      signal,
    );
  }

  /**
   * Stores the document, and returns its version; undefined if expiresAt has passed.
   *
   * @param {string} id
   * @param {unknown} data
   * @param {{ ttl?: Interval, owner?: string, ifVersion?: number, expiresAt?: Date | number, turn?: number }
   *   & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async save(id, data, { ttl, owner, ifVersion, expiresAt, turn, signal } = {}) {
    const life = this.#life(ttl, expiresAt, [optional(owner), ifVersion, this.#ns]);
    return this.#one("session_save", [text(id), encode(data), ...life, turn], signal);
  }

  /**
   * Creates a session under an id of another store, only if the id is neither alive nor dead here; false if it is
   * alive. A dead id is a DeadSessionError. The id has at least 16 bytes.
   *
   * @param {string} id
   * @param {unknown} data
   * @param {{ ttl?: Interval, owner?: string, expiresAt?: Date | number } & CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async adopt(id, data, { ttl, owner, expiresAt, signal } = {}) {
    // A regenerated session takes no id that is alive or dead, so a new one is given the id in this way.
    const { schema, prepare } = this.#options;
    const create = `${qualified("session_create", schema)}($1, $2, $3, $4, $5)`;
    const select = `SELECT ${qualified("session_regenerate", schema)}(${create}, $4, $6)`;
    const values = [encode(data), ...this.#life(ttl, expiresAt, [optional(owner), this.#ns]), text(id)];
    const query = statement(select, values, prepare);
    for (let isRepeated = false; ; isRepeated = true) {
      try {
        await send(this.#db, query, signal);
        return true;
      } catch (error) {
        // 22023 is an id that is alive, or no id. One that was alive, and is not any more, is tried once more.
        if (/** @type {any} */ (error).code !== "22023") throw error;
        if (await this.exists(id, { signal })) return false;
        if (isRepeated) throw error;
      }
    }
  }

  /**
   * The document; undefined if there is no session.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async get(id, { signal } = {}) {
    const [copy] = await this.#read(this.#keyPrefix, [id]);
    return copy === undefined ? this.#one("session_get", [id, this.#ns], signal) : copy;
  }

  /**
   * The documents of several sessions, in the order of the ids; undefined where there is no session.
   *
   * @param {string[]} ids
   * @param {CallOptions} [options]
   * @returns {Promise<any[]>}
   */
  async getMany(ids, { signal } = {}) {
    const copies = await this.#read(this.#keyPrefix, ids);
    const missing = ids.filter((_, i) => copies[i] === undefined);
    if (missing.length === 0) return copies;
    const rows = await this.#rows("session_get_many", [missing, this.#ns], signal, { nulls: false });
    let next = 0;
    return ids.map((_, i) => (copies[i] === undefined ? rows[next++].sessionData : copies[i]));
  }

  /**
   * The session with all its columns; undefined if there is none.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<SessionRecord | undefined>}
   */
  async fetch(id, { signal } = {}) {
    return (await this.#rows("session_fetch", [text(id), this.#ns], signal))[0];
  }

  /**
   * Restarts the lifetime, or changes it, and returns when it ends (Infinity: never).
   *
   * @param {string} id
   * @param {{ ttl?: Interval, expiresAt?: Date | number } & CallOptions} [options]
   * @returns {Promise<Date | number | undefined>}
   */
  async touch(id, { ttl, expiresAt, signal } = {}) {
    return this.#one("session_touch", [text(id), ...this.#life(ttl, expiresAt, [this.#ns])], signal);
  }

  /**
   * Applies a JSON merge patch, and returns the new document.
   *
   * @param {string} id
   * @param {unknown} patch
   * @param {{ ifVersion?: number, owner?: string, shallow?: boolean, turn?: number } & CallOptions} [options]
   * @returns {Promise<any>}
   */
  async merge(id, patch, { ifVersion, owner, shallow = false, turn, signal } = {}) {
    return this.#one(
      "session_merge",
      [text(id), encode(patch), ifVersion, this.#ns, optional(owner), shallow, turn],
      signal,
    );
  }

  /**
   * Adds to the number at the path, and returns the sum; undefined, and nothing is changed, if it would exceed max.
   *
   * @param {string} id
   * @param {string[]} path
   * @param {{ by?: number, max?: number, owner?: string, turn?: number } & CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async incr(id, path, { by = 1, max, owner, turn, signal } = {}) {
    return this.#one(
      "session_incr",
      [text(id), path.map(text), by, max, this.#ns, optional(owner), turn],
      signal,
    );
  }

  /**
   * Ends the session; true if there was one.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async delete(id, { signal } = {}) {
    return this.#one("session_delete", [text(id), this.#ns], signal);
  }

  /**
   * Ends the session and returns its document; undefined if there is none.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async take(id, { signal } = {}) {
    return this.#one("session_take", [text(id), this.#ns], signal);
  }

  /**
   * Gives the session a new id and returns it; undefined if there is no session.
   *
   * @param {string} id
   * @param {{ newSessionId?: string } & CallOptions} [options]
   * @returns {Promise<string | undefined>}
   */
  async regenerate(id, { newSessionId, signal } = {}) {
    return this.#one("session_regenerate", [text(id), this.#ns, optional(newSessionId)], signal);
  }

  /**
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async exists(id, { signal } = {}) {
    return this.#one("session_exists", [text(id), this.#ns], signal);
  }

  /**
   * Milliseconds that the session will live; undefined if there is none.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async ttl(id, { signal } = {}) {
    const seconds = await this.#one("session_ttl", [text(id), this.#ns], signal, "EXTRACT(epoch FROM ", ")");
    return seconds === undefined ? undefined : seconds * 1000;
  }

  // --- conversations

  /**
   * Appends a message or an array of messages, and returns the seq of the last.
   *
   * @param {string} id
   * @param {object | object[]} messages
   * @param {{ operationId?: string, owner?: string, patch?: unknown, keep?: number, turn?: number } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async append(id, messages, { operationId, owner, patch, keep, turn, signal } = {}) {
    const change = patch === undefined ? undefined : encode(patch);
    const args = [
      text(id),
      encode(messages),
      optional(operationId),
      this.#ns,
      optional(owner),
      change,
      keep,
      turn,
    ];
    return this.#one("session_append", args, signal);
  }

  /**
   * Messages, oldest first.
   *
   * @param {string} id
   * @param {{ last?: number, before?: number, after?: number, first?: number } & CallOptions} [options]
   * @returns {Promise<Message[]>}
   */
  async history(id, { last, before, after, first, signal } = {}) {
    return this.#rows("session_history", [text(id), last, before, this.#ns, after, first], signal);
  }

  /**
   * All messages, oldest first, read by pages.
   *
   * @param {string} id
   * @param {{ pageSize?: number, before?: number, after?: number } & CallOptions} [options]
   * @returns {AsyncGenerator<Message, void, void>}
   */
  async *messages(id, { pageSize = 500, before, after = 0, signal } = {}) {
    for (let page; page === undefined || page.length === pageSize;) {
      page = await this.history(id, { first: pageSize, before, after, signal });
      yield* page;
      after = page.at(-1)?.seq ?? after;
    }
  }

  /**
   * The newest messages that fit into limits, cut where a model can begin to read.
   *
   * @param {string} id
   * @param {{ maxTokens?: number, maxMessages?: number, align?: "user" | "strict" } & CallOptions} options
   * @returns {Promise<WindowMessage[]>}
   */
  async window(id, { maxTokens, maxMessages, align = "user", signal }) {
    return this.#rows("session_window", [text(id), maxTokens, maxMessages, align, this.#ns], signal);
  }

  /**
   * Lets a summary stand in for the messages up to a seq, and returns their number; undefined if there is no session.
   *
   * @param {string} id
   * @param {number} upTo
   * @param {unknown} summary
   * @param {{ turn?: number } & CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async compact(id, upTo, summary, { turn, signal } = {}) {
    return this.#one("session_compact", [text(id), upTo, encode(summary), this.#ns, turn], signal);
  }

  /**
   * The last messages, after the summary if there is one; undefined if there is no session.
   *
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<any[] | undefined>}
   */
  async tail(id, { signal } = {}) {
    const { tailPrefix } = this.#options;
    const [copy] = await this.#read(tailPrefix, [id]);
    return copy === undefined ? this.#one("session_tail", [id, this.#ns], signal) : copy;
  }

  /**
   * Removes the last n messages, or the first, and returns them, oldest first.
   *
   * @param {string} id
   * @param {{ n?: number, fromStart?: boolean, turn?: number } & CallOptions} [options]
   * @returns {Promise<any[]>}
   */
  async pop(id, { n = 1, fromStart = false, turn, signal } = {}) {
    return this.#one("session_pop", [text(id), n, this.#ns, fromStart, turn], signal);
  }

  /**
   * Replaces the last n messages, and returns the seq of the last; undefined if there is no session.
   *
   * @param {string} id
   * @param {number} n
   * @param {object[]} messages
   * @param {{ expected?: object[], operationId?: string, turn?: number } & CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async replaceTail(id, n, messages, { expected, operationId, turn, signal } = {}) {
    const old = expected === undefined ? undefined : encode(expected);
    const args = [text(id), n, encode(messages), old, optional(operationId), this.#ns, turn];
    return this.#one("session_replace_tail", args, signal);
  }

  /**
   * Replaces one message; true if there was one.
   *
   * @param {string} id
   * @param {number} seq
   * @param {object} message
   * @param {{ turn?: number } & CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async amend(id, seq, message, { turn, signal } = {}) {
    return this.#one("session_amend", [text(id), seq, encode(message), this.#ns, turn], signal);
  }

  /**
   * Removes all but the last messages, and returns how many were removed; undefined if there is no session.
   *
   * @param {string} id
   * @param {number} keep
   * @param {{ turn?: number } & CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async trim(id, keep, { turn, signal } = {}) {
    return this.#one("session_trim", [text(id), keep, this.#ns, turn], signal);
  }

  /**
   * Copies the session, and returns the id of the copy; undefined if there is no session.
   *
   * @param {string} id
   * @param {{ newSessionId?: string, upTo?: number } & CallOptions} [options]
   * @returns {Promise<string | undefined>}
   */
  async fork(id, { newSessionId, upTo, signal } = {}) {
    return this.#one("session_fork", [text(id), optional(newSessionId), upTo, this.#ns], signal);
  }

  /**
   * Merges the source into the target and ends the source; the number of messages that moved, undefined unless both
   * are alive.
   *
   * @param {string} target
   * @param {string} source
   * @param {CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async absorb(target, source, { signal } = {}) {
    return this.#one("session_absorb", [text(target), text(source), this.#ns], signal);
  }

  // --- members

  /**
   * @param {string} id
   * @param {string} member
   * @param {{ role?: "viewer" | "editor" | "owner" } & CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async share(id, member, { role = "viewer", signal } = {}) {
    return this.#one("session_share", [text(id), text(member), role, this.#ns], signal);
  }

  /**
   * @param {string} id
   * @param {string} member
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async unshare(id, member, { signal } = {}) {
    return this.#one("session_unshare", [text(id), text(member), this.#ns], signal);
  }

  /**
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async accept(id, { signal } = {}) {
    return this.#one("session_accept", [text(id), this.#ns], signal);
  }

  /**
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<{ member: string, role: string, createdAt: Date }[]>}
   */
  async members(id, { signal } = {}) {
    return this.#rows("session_members", [text(id), this.#ns], signal);
  }

  // --- turns

  /**
   * Begins the turn and returns its token; undefined if another holds it, or if there is no session. With wait it needs
   * a pool, or a client that is in no transaction that has written.
   *
   * @param {string} id
   * @param {{ ttl?: Interval, wait?: Interval, holder?: string } & CallOptions} [options]
   * @returns {Promise<number | undefined>}
   */
  async turnBegin(id, { ttl = "30 seconds", wait = 0, holder, signal } = {}) {
    const args = [text(id), interval(ttl), interval(wait), optional(holder), this.#ns];
    return this.#one("session_turn_begin", args, signal);
  }

  /**
   * @param {string} id
   * @param {number} turn
   * @param {{ ttl?: Interval } & CallOptions} [options]
   * @returns {Promise<boolean>} whether the turn is still held
   */
  async turnRenew(id, turn, { ttl = "30 seconds", signal } = {}) {
    return this.#one("session_turn_renew", [text(id), turn, interval(ttl), this.#ns], signal);
  }

  /**
   * @param {string} id
   * @param {number} turn
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>} whether the turn was still held
   */
  async turnEnd(id, turn, { signal } = {}) {
    return this.#one("session_turn_end", [text(id), turn, this.#ns], signal);
  }

  /**
   * @param {string} id
   * @param {CallOptions} [options]
   * @returns {Promise<{ holder: string | null, until: Date } | undefined>} undefined if the turn is not held
   */
  async turn(id, { signal } = {}) {
    return (await this.#rows("session_turn", [text(id), this.#ns], signal))[0];
  }

  // --- counters

  /**
   * Counts a hit, or several, and returns the hits of the running period.
   *
   * @param {string} counterId
   * @param {Interval | null} period
   * @param {{ by?: number, max?: number } & CallOptions} [options]
   * @returns {Promise<Hits>}
   */
  async hit(counterId, period, { by = 1, max, signal } = {}) {
    return (
      await this.#rows("session_hit", [text(counterId), interval(period), by, max, this.#ns], signal)
    )[0];
  }

  /**
   * @param {string} counterId
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>} whether a period was running
   */
  async hitReset(counterId, { signal } = {}) {
    return this.#one("session_hit_reset", [text(counterId), this.#ns], signal);
  }

  // --- many sessions

  /**
   * Ends all sessions of the owner, and returns how many.
   *
   * @param {string} owner
   * @param {{ exceptSessionId?: string } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async deleteAll(owner, { exceptSessionId, signal } = {}) {
    return this.#one("session_delete_all", [text(owner), optional(exceptSessionId), this.#ns], signal);
  }

  /**
   * Ends all sessions of the namespace, or those with such an id, and returns how many.
   *
   * @param {{ idLike?: string, idPrefix?: string } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async clear({ idLike, idPrefix, signal } = {}) {
    const { schema, prepare } = this.#options;
    // session_clear takes no default: the namespace is named, by the setting if need be.
    const namespace = "coalesce($1, current_setting('session_store.namespace'))";
    const select = `SELECT ${qualified("session_clear", schema)}(${namespace}, $2, $3)`;
    return this.#value(statement(select, [this.#ns, optional(idLike), optional(idPrefix)], prepare), signal);
  }

  /**
   * @param {{ owner?: string, idLike?: string, idPrefix?: string } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async count({ owner, idLike, idPrefix, signal } = {}) {
    return this.#one(
      "session_count",
      [optional(owner), optional(idLike), this.#ns, optional(idPrefix)],
      signal,
    );
  }

  /**
   * A page of sessions, newest first, or with idPrefix in the order of their ids.
   *
   * @param {ListOptions & CallOptions} [options]
   * @returns {Promise<SessionSummary[]>}
   */
  async list({ owner, idLike, filter, after, pageSize = 50, idPrefix, withData, signal } = {}) {
    const contained = filter === undefined ? undefined : encode(filter);
    const which = [
      optional(owner),
      optional(idLike),
      contained,
      after,
      pageSize,
      this.#ns,
      optional(idPrefix),
    ];
    return this.#rows("session_list", [...which, withData], signal);
  }

  /**
   * All sessions of a list, read by pages.
   *
   * @param {ListOptions & CallOptions} [options]
   * @returns {AsyncGenerator<SessionSummary, void, void>}
   */
  sessions({ pageSize = 500, ...options } = {}) {
    return pages((after) => this.list({ ...options, pageSize, after }), pageSize, options.after);
  }

  /**
   * A page of what the namespace has of the owner.
   *
   * @param {string} owner
   * @param {{ after?: string, pageSize?: number } & CallOptions} [options]
   * @returns {Promise<ExportItem[]>}
   */
  async export(owner, { after, pageSize = 100, signal } = {}) {
    return this.#rows("session_export", [text(owner), after, pageSize, this.#ns], signal);
  }

  /**
   * All that the namespace has of the owner, read by pages.
   *
   * @param {string} owner
   * @param {{ pageSize?: number } & CallOptions} [options]
   * @returns {AsyncGenerator<ExportItem, void, void>}
   */
  exportAll(owner, { pageSize = 500, signal } = {}) {
    return pages((after) => this.export(owner, { pageSize, after, signal }), pageSize);
  }

  /**
   * Removes all that the namespace has of the owner, and returns a receipt.
   *
   * @param {string} owner
   * @param {{ keepEvents?: boolean } & CallOptions} [options]
   * @returns {Promise<any>}
   */
  async forget(owner, { keepEvents = false, signal } = {}) {
    return this.#one("session_forget", [text(owner), keepEvents, this.#ns], signal);
  }

  // --- upkeep and the cache

  /**
   * @param {{ maxRows?: number } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async purge({ maxRows, signal } = {}) {
    return this.#one("session_purge", [maxRows, this.#ns], signal);
  }

  /**
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async health({ signal } = {}) {
    return this.#one("session_health", [], signal);
  }

  /**
   * @param {CallOptions} [options]
   * @returns {Promise<string>} in the text format of Prometheus
   */
  async metrics({ signal } = {}) {
    return this.#one("session_metrics", [], signal);
  }

  /**
   * Waits until Redis has what was committed before; false if it has not by then.
   *
   * @param {{ timeout?: Interval } & CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async cacheSync({ timeout, signal } = {}) {
    return this.#one("session_cache_sync", [interval(timeout)], signal);
  }

  /**
   * @param {{ sample?: number } & CallOptions} [options]
   * @returns {Promise<{ checked: number, stale: number, missing: number, orphaned: number }>}
   */
  async cacheVerify({ sample, signal } = {}) {
    return (await this.#rows("session_cache_verify", [sample], signal))[0];
  }

  /**
   * @param {CallOptions} [options]
   * @returns {Promise<number>}
   */
  async cacheFlush({ signal } = {}) {
    return this.#one("session_cache_flush", [this.#ns], signal);
  }

  /**
   * @param {CallOptions} [options]
   * @returns {Promise<boolean>}
   */
  async cacheTakeover({ signal } = {}) {
    return this.#one("session_cache_takeover", [], signal);
  }

  // --- how a call is made

  get #ns() {
    return this.#options.namespace;
  }

  get #keyPrefix() {
    const { namespace, keyPrefix } = this.#options;
    return keyPrefix ?? (namespace === "default" ? "session:" : namespace + ":");
  }

  /**
   * The arguments ttl, those between, and expires_at. A ttl of Infinity is an expires_at of infinity.
   *
   * @param {Interval | undefined} ttl
   * @param {Date | number | undefined} expiresAt
   * @param {unknown[]} between
   */
  #life(ttl, expiresAt, between) {
    const forever = ttl === Infinity;
    return [forever ? undefined : interval(ttl), ...between, forever ? "infinity" : time(expiresAt)];
  }

  /**
   * The values of copies in Redis; undefined, or missing, where the server has to be asked. Ids are checked first: one
   * that cannot be sent would be the key of another session.
   *
   * @param {string | undefined} prefix
   * @param {string[]} ids
   * @returns {Promise<any[]> | any[]}
   */
  #read(prefix, ids) {
    const checked = ids.map(text);
    return prefix === undefined || ids.length === 0 ? [] : (this.#copies?.read(prefix, checked) ?? []);
  }

  /**
   * A call with one result; undefined if it is NULL.
   *
   * @param {string} name
   * @param {unknown[]} args
   * @param {AbortSignal} [signal]
   * @param {string} [before] SQL around the call
   * @param {string} [after]
   * @returns {Promise<any>}
   */
  async #one(name, args, signal, before = "", after = "") {
    const { schema, prepare } = this.#options;
    const { text, values } = call(name, args, schema);
    return this.#value(statement(`SELECT ${before}${text}${after}`, values, prepare), signal);
  }

  /**
   * The result of a statement that has one; undefined if it is NULL.
   *
   * @param {object} query
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async #value(query, signal) {
    const { rows, fields } = await send(this.#db, query, signal);
    return value(rows[0][0], fields[0], undefined);
  }

  /**
   * A call with rows, each an object whose members are named as its columns, in camel case.
   *
   * @param {string} name
   * @param {unknown[]} args
   * @param {AbortSignal} [signal]
   * @param {{ nulls: boolean }} [how] whether SQL NULL is null, as the document null is; else it is undefined
   * @returns {Promise<any[]>}
   */
  async #rows(name, args, signal, { nulls } = { nulls: true }) {
    const { schema, prepare } = this.#options;
    const { text, values } = call(name, args, schema);
    const { rows, fields } = await send(
      this.#db,
      statement(`SELECT * FROM ${text}`, values, prepare),
      signal,
    );
    const names = fields.map((field) => field.name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase()));
    return rows.map((row) =>
      Object.fromEntries(names.map((name, i) => [name, value(row[i], fields[i], nulls ? null : undefined)])),
    );
  }
}

/** @param {string | null | undefined} value */
const optional = (value) => (value == null ? value : text(value));

/**
 * Rows that have a pageCursor, page by page.
 *
 * @template {{ pageCursor: string }} T
 * @param {(after: string | undefined) => Promise<T[]>} read
 * @param {number} pageSize
 * @param {string} [after]
 * @returns {AsyncGenerator<T, void, void>}
 */
async function* pages(read, pageSize, after) {
  for (let page; page === undefined || page.length === pageSize;) {
    page = await read(after);
    yield* page;
    after = page.at(-1)?.pageCursor ?? after;
  }
}
