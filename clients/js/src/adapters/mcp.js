// EventStore of the Model Context Protocol: each stream of an MCP session is a session, and its events are the messages
// of its history. The id of an event says where it is, so that nothing else has to be kept.
import { randomBytes } from "node:crypto";
import { InvalidArgumentError } from "../errors.js";
import { nameOf, part, shortPart } from "./shared/messages.js";

/**
 * @typedef {import("@modelcontextprotocol/sdk/types.js").JSONRPCMessage} JSONRPCMessage
 * @typedef {import("@modelcontextprotocol/sdk/server/streamableHttp.js").EventStore} EventStore
 *
 * @typedef {object} Options
 * @property {import("../index.js").SessionStore} store
 * @property {string} sessionId of the MCP session: all have a stream of the same name, which others must not read
 * @property {string} [owner] of the streams that are begun
 * @property {number} [pageSize] events read by one call
 */

// stream, seq and nonce
const eventIdForm = /^([^:]*):([1-9]\d{0,14}):([\w-]{8})$/;

/** @implements {EventStore} */
export class McpEventStore {
  #store;
  #prefix;
  #owner;
  #pageSize;
  /** @type {Promise<unknown>} */
  #pending = Promise.resolve();

  /** @param {Options} options */
  constructor({ store, sessionId, owner, pageSize }) {
    this.#store = store;
    this.#prefix = shortPart(sessionId) + ":";
    this.#owner = owner;
    this.#pageSize = pageSize;
  }

  /**
   * Stores an event and returns its id.
   *
   * @param {string} streamId
   * @param {JSONRPCMessage} message
   * @returns {Promise<string>}
   */
  storeEvent(streamId, message) {
    return this.#inOrder(() => this.#append(streamId, message));
  }

  /**
   * @param {string} streamId
   * @param {JSONRPCMessage} message
   */
  async #append(streamId, message) {
    const nonce = randomBytes(6).toString("base64url");
    const seq = await this.#store.append(
      this.#prefix + part(streamId),
      { nonce, message },
      { owner: this.#owner },
    );
    return eventId(streamId, seq, nonce);
  }

  /**
   * @param {string} id
   * @returns {Promise<string | undefined>} undefined if it is no id of an event
   */
  async getStreamIdForEventId(id) {
    return parse(id)?.streamId;
  }

  /**
   * Sends the events after one, in order. If that one is not known, because its stream has expired and was begun again,
   * all are newer.
   *
   * @param {string} lastEventId
   * @param {{ send: (id: string, message: JSONRPCMessage) => Promise<void> }} receiver
   * @returns {Promise<string>} the stream
   */
  replayEventsAfter(lastEventId, receiver) {
    return this.#inOrder(() => this.#replay(lastEventId, receiver));
  }

  /**
   * @param {string} lastEventId
   * @param {{ send: (id: string, message: JSONRPCMessage) => Promise<void> }} receiver
   */
  async #replay(lastEventId, { send }) {
    const last = parse(lastEventId);
    if (!last) throw new InvalidArgumentError("not the id of an event", { code: "22023" });
    const { streamId } = last;
    const read = (/** @type {number} */ after) =>
      this.#store.messages(this.#prefix + part(streamId), { after, pageSize: this.#pageSize });
    let events = read(last.seq - 1);
    const { value: first } = await events.next();
    if (first?.seq !== last.seq || first.message.nonce !== last.nonce) {
      await events.return();
      events = read(0);
    }
    for await (const { seq, message: event } of events)
      // An event without a message only tells the client an id to continue from.
      if (event.message?.jsonrpc) await send(eventId(streamId, seq, event.nonce), event.message);
    return streamId;
  }

  /**
   * Takes a step when those before have ended. A client asks only for the events after one that it has seen, so these
   * must not reach it in another order than that of their ids; and an event must not be stored after a replay has read
   * and be answered before it ends, since the SDK would not send it.
   *
   * @template T
   * @param {() => Promise<T>} step
   * @returns {Promise<T>}
   */
  #inOrder(step) {
    const done = this.#pending.then(step);
    this.#pending = done.catch(() => {});
    return done;
  }

  /** Removes the events of the MCP session: for onsessionclosed. */
  async delete() {
    await this.#store.clear({ idPrefix: this.#prefix });
  }
}

/**
 * @param {string} streamId
 * @param {number} seq
 * @param {string} nonce
 */
const eventId = (streamId, seq, nonce) => `${part(streamId)}:${seq}:${nonce}`;

/** @param {string} id as the client sent it */
function parse(id) {
  const [, stream, seq, nonce] = eventIdForm.exec(id) ?? [];
  try {
    return stream === undefined ? undefined : { streamId: nameOf(stream), seq: Number(seq), nonce };
  } catch {
    return undefined; // badly encoded
  }
}
