// SessionStore of the Claude Agent SDK: each transcript, the main one and those of subagents, is a session, and its
// entries are the messages of its history.
//
// Ids: "project:session:" for a main transcript, followed by the subpath for others. All of a session has one prefix,
// so that one call ends it.
import { OperationReusedError } from "../errors.js";
import { nameOf, part, readAll, sha256, shortPart } from "./shared/messages.js";

/**
 * @typedef {import("@anthropic-ai/claude-agent-sdk").SessionKey} SessionKey
 * @typedef {import("@anthropic-ai/claude-agent-sdk").SessionStoreEntry} Entry
 * @typedef {import("@anthropic-ai/claude-agent-sdk").SessionSummaryEntry} SummaryEntry
 * @typedef {typeof import("@anthropic-ai/claude-agent-sdk").foldSessionSummary} Fold
 *
 * @typedef {object} Options
 * @property {import("../index.js").SessionStore} store
 * @property {string} [owner] of the sessions that are begun
 * @property {Fold} [foldSessionSummary] that of the SDK: maintains summaries, so that sessions are listed by one call
 * @property {number} [pageSize] entries read by one call
 */

/** @typedef {import("@anthropic-ai/claude-agent-sdk").SessionStore} ClaudeStore */

/** @implements {ClaudeStore} */
export class ClaudeSessionStore {
  #store;
  #owner;
  #fold;
  #pageSize;

  /** @param {Options} options */
  constructor({ store, owner, foldSessionSummary, pageSize }) {
    this.#store = store.with({ reads: "sql" }); // a copy may be older than the last append
    this.#owner = owner;
    this.#fold = foldSessionSummary;
    this.#pageSize = pageSize;
    /** @type {((projectKey: string) => Promise<SummaryEntry[]>) | undefined} */
    this.listSessionSummaries = foldSessionSummary && ((projectKey) => this.#summaries(projectKey));
  }

  /**
   * Appends entries. A batch that is repeated is stored once.
   *
   * @param {SessionKey} key
   * @param {Entry[]} entries
   */
  async append(key, entries) {
    if (entries.length === 0) return;
    const id = idOf(key);
    const operationId = entries.some((entry) => entry.uuid) ? sha256(JSON.stringify(entries)) : undefined;
    const patch = this.#fold && !key.subpath ? await this.#folded(this.#fold, id, key, entries) : undefined;
    try {
      await this.#store.append(id, entries, { operationId, owner: this.#owner, patch });
    } catch (error) {
      // The operation is this batch, by its hash. Only the summary is another now: it is stored already.
      if (!(error instanceof OperationReusedError && patch)) throw error;
    }
  }

  /**
   * The document with the summary after these entries. The count tells whether it is the summary of all entries: two
   * processes that append at once each fold only their own, and then it is not.
   *
   * @param {Fold} fold
   * @param {string} id
   * @param {SessionKey} key
   * @param {Entry[]} entries
   */
  async #folded(fold, id, key, entries) {
    const before = await this.#store.get(id);
    const previous = before?.summary && {
      sessionId: key.sessionId,
      mtime: 0,
      data: JSON.parse(before.summary),
    };
    const { data } = fold(previous, key, entries);
    // as text, in which a merge patch keeps null
    return { summary: JSON.stringify(data), count: (before?.count ?? 0) + entries.length };
  }

  /**
   * @param {SessionKey} key
   * @returns {Promise<Entry[] | null>} null if there is none
   */
  async load(key) {
    const seen = new Set();
    const entries = await readAll(this.#store, idOf(key), this.#pageSize);
    // An import may repeat entries in other batches than those that they came in.
    const distinct = entries.filter(({ uuid }) => !uuid || !(seen.has(uuid) || !seen.add(uuid)));
    return distinct.length > 0 ? distinct : null;
  }

  /** @param {string} projectKey */
  async listSessions(projectKey) {
    const sessions = [];
    for await (const row of this.#main(projectKey)) sessions.push({ sessionId: row.name, mtime: row.mtime });
    return sessions;
  }

  /** @param {string} projectKey */
  async #summaries(projectKey) {
    const summaries = [];
    for await (const { name, mtime, messageCount, sessionData } of this.#main(projectKey, true))
      if (sessionData.count === messageCount)
        summaries.push({ sessionId: name, mtime, data: JSON.parse(sessionData.summary) });
    return summaries;
  }

  /**
   * The main transcripts of a project.
   *
   * @param {string} projectKey
   * @param {boolean} [withData]
   */
  async *#main(projectKey, withData) {
    const idPrefix = shortPart(projectKey) + ":";
    for await (const row of this.#store.sessions({ idPrefix, idLike: "%:", withData })) {
      const name = nameOf(row.sessionId.slice(idPrefix.length, -1));
      yield { ...row, name, mtime: row.updatedAt.getTime() };
    }
  }

  /** @param {SessionKey} key without a subpath: the transcripts of its subagents end as well */
  async delete(key) {
    if (key.subpath) await this.#store.delete(idOf(key));
    else await this.#store.clear({ idPrefix: idOf(key) });
  }

  /** @param {{ projectKey: string, sessionId: string }} key */
  async listSubkeys({ projectKey, sessionId }) {
    const subkeys = [];
    const idPrefix = idOf({ projectKey, sessionId });
    for await (const { sessionId: id } of this.#store.sessions({ idPrefix }))
      if (id !== idPrefix) subkeys.push(nameOf(id.slice(idPrefix.length)));
    return subkeys;
  }
}

/** @param {SessionKey} key */
const idOf = ({ projectKey, sessionId, subpath }) =>
  `${shortPart(projectKey)}:${part(sessionId)}:${part(subpath ?? "")}`;
