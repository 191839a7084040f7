// A checkpointer for LangGraph: new SessionStoreSaver(store). And a store for its long-term memory: SessionStoreMemory.
//
// A thread is a session for each of its checkpoint namespaces. The document has the latest checkpoint and the writes
// that are pending; the history has a checkpoint for each put. shared/checkpoints.js says how they look.
import { BaseCheckpointSaver, getCheckpointId, maxChannelVersion } from "@langchain/langgraph-checkpoint";
import { TASKS } from "@langchain/langgraph-checkpoint";
import { isDeepStrictEqual } from "node:util";
import { Checkpoints } from "./shared/checkpoints.js";
import { deltaHistory } from "./shared/delta.js";
import { placeOf, threads, threadStart } from "./shared/threads.js";
import { fromText, toText, writeEntries } from "./shared/writes.js";

export { SessionStoreMemory } from "./langgraph-store.js";

/**
 * @import { RunnableConfig } from "@langchain/core/runnables"
 * @import { ChannelVersions, Checkpoint, CheckpointListOptions, CheckpointMetadata, CheckpointTuple,
 *   PendingWrite, SerializerProtocol } from "@langchain/langgraph-checkpoint"
 * @import { Found, Head } from "./shared/checkpoints.js"
 * @import { Typed, Write } from "./shared/writes.js"
 */

export class SessionStoreSaver extends BaseCheckpointSaver {
  #store;
  #checkpoints;

  /** @param {import("../index.js").SessionStore} store @param {SerializerProtocol} [serde] */
  constructor(store, serde) {
    super(serde);
    this.#store = store.with({ reads: "sql" }); // a run goes on from the last checkpoint, never from the one before
    this.#checkpoints = new Checkpoints(this.#store);
  }

  /** @param {RunnableConfig} config @returns {Promise<CheckpointTuple | undefined>} */
  async getTuple(config) {
    if (config.configurable?.thread_id === undefined) return undefined;
    const place = placeOf(config);
    const thread = await this.#store.get(place.id);
    const id = getCheckpointId(config) || thread?.head?.[0].id;
    const found = id && (await this.#checkpoints.find(place.id, thread, id));
    return found && this.#tuple(place, found);
  }

  /**
   * Newest first, thread by thread.
   * @param {RunnableConfig} config
   * @param {CheckpointListOptions} [options]
   * @returns {AsyncGenerator<CheckpointTuple>}
   */
  async *list(config, { before, limit = Infinity, filter = {} } = {}) {
    const id = getCheckpointId(config);
    const end = (before && getCheckpointId(before)) || undefined;
    const accepts = async (/** @type {Head} */ head) => {
      if (id && head.id !== id) return false;
      const metadata = await this.#load(head.metadata);
      return Object.entries(filter).every(([key, value]) => isDeepStrictEqual(metadata[key], value));
    };
    if (limit <= 0) return;
    for await (const { place, thread } of threads(this.#store, config))
      for await (const found of this.#checkpoints.backwards(place.id, thread, end, accepts)) {
        yield await this.#tuple(place, found);
        if (--limit === 0) return;
      }
  }

  /**
   * @param {RunnableConfig} config
   * @param {Checkpoint} checkpoint
   * @param {CheckpointMetadata} metadata
   * @param {ChannelVersions} newVersions
   * @returns {Promise<RunnableConfig>}
   */
  async put(config, checkpoint, metadata, newVersions) {
    const place = placeOf(config);
    const { channel_values: values, ...rest } = checkpoint;
    const parent = getCheckpointId(config) || undefined;
    const dumped = await this.#dump(metadata);
    const head = { id: checkpoint.id, parent, checkpoint: JSON.stringify(rest), metadata: dumped };
    const changed = new Set(Object.keys(newVersions));
    const names = Object.keys(values).filter((name) => parent || changed.has(name));
    await this.#checkpoints.put(place, head, names, changed, (name) => this.#dump(values[name]));
    return { configurable: { ...place.configurable, checkpoint_id: checkpoint.id } };
  }

  /** @param {RunnableConfig} config @param {PendingWrite[]} writes @param {string} taskId @param {string} [taskPath] */
  async putWrites(config, writes, taskId, taskPath = "") {
    const place = placeOf(config);
    const id = getCheckpointId(config);
    if (!id) throw new Error('the config has no "checkpoint_id" to put writes to');
    if (writes.length === 0) return;
    const dumped = await Promise.all(writes.map(([, value]) => this.#dump(value)));
    const channels = writes.map(([channel]) => channel);
    const patch = { of: place.of, writes: writeEntries(id, taskId, taskPath, channels, dumped) };
    await this.#store.append(place.id, [], { patch }); // a merge would return the document
  }

  /** @param {{ config: RunnableConfig, channels: string[] }} options */
  async getDeltaChannelHistory({ config, channels }) {
    return deltaHistory(this, config, channels);
  }

  /** A run that goes on meanwhile ends with a DeadSessionError. @param {string} threadId */
  async deleteThread(threadId) {
    await this.#store.clear({ idPrefix: threadStart(threadId) });
  }

  /** @param {import("./shared/threads.js").Place} place @param {Found} found @returns {Promise<CheckpointTuple>} */
  async #tuple({ configurable }, { head, values, writes }) {
    const at = (/** @type {string} */ id) => ({ configurable: { ...configurable, checkpoint_id: id } });
    const loaded = Object.entries(values).map(async ([name, value]) => [name, await this.#load(value)]);
    const checkpoint = JSON.parse(head.checkpoint);
    checkpoint.channel_values = Object.fromEntries(await Promise.all(loaded));
    if (checkpoint.v < 4 && head.parent) await this.#migratePendingSends(checkpoint, at(head.parent));
    /** @param {Write} write @returns {Promise<[string, string, any]>} */
    const pending = async ([task, , , channel, ...value]) => [task, channel, await this.#load(value)];
    return {
      config: at(head.id),
      checkpoint,
      metadata: await this.#load(head.metadata),
      pendingWrites: await Promise.all(writes.map(pending)),
      ...(head.parent && { parentConfig: at(head.parent) }),
    };
  }

  /** Before version 4, sends were writes of the parent. @param {Checkpoint} checkpoint @param {RunnableConfig} parent */
  async #migratePendingSends(checkpoint, parent) {
    const writes = (await this.getTuple(parent))?.pendingWrites ?? [];
    const sends = writes.filter(([, channel]) => channel === TASKS).map(([, , sent]) => sent);
    if (sends.length === 0) return;
    const versions = Object.values(checkpoint.channel_versions);
    checkpoint.channel_values[TASKS] = sends;
    checkpoint.channel_versions[TASKS] = versions.length
      ? maxChannelVersion(...versions)
      : this.getNextVersion(undefined);
  }

  /** @param {any} value */
  async #dump(value) {
    return toText(await this.serde.dumpsTyped(value));
  }

  /** @param {Typed} value @returns {Promise<any>} */
  async #load(value) {
    const [type, data] = fromText(value);
    return this.serde.loadsTyped(type, data);
  }
}
