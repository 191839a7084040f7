// Delta channels of LangGraph: their value is a snapshot in some ancestor of a checkpoint, and the writes since then.

/**
 * @import { BaseCheckpointSaver, CheckpointTuple, DeltaChannelHistory } from "@langchain/langgraph-checkpoint"
 * @import { RunnableConfig } from "@langchain/core/runnables"
 */

/**
 * What getDeltaChannelHistory() returns, by pages of the history in place of a getTuple() for each ancestor.
 *
 * @param {BaseCheckpointSaver} saver
 * @param {RunnableConfig} config
 * @param {string[]} channels
 * @returns {Promise<Record<string, DeltaChannelHistory>>}
 */
export async function deltaHistory(saver, config, channels) {
  /** @type {Map<string, DeltaChannelHistory>} */
  const found = new Map(channels.map((channel) => [channel, { writes: [] }]));
  const open = new Set(channels);
  const target = open.size > 0 ? await saver.getTuple(config) : undefined;
  if (target !== undefined)
    for await (const { checkpoint, pendingWrites = [] } of ancestors(saver, target)) {
      for (const write of [...pendingWrites].reverse())
        if (open.has(write[1])) found.get(write[1])?.writes.push(write);
      for (const channel of open)
        if (Object.hasOwn(checkpoint.channel_values, channel)) {
          /** @type {DeltaChannelHistory} */ (found.get(channel)).seed = checkpoint.channel_values[channel];
          open.delete(channel);
        }
      if (open.size === 0) break;
    }
  for (const { writes } of found.values()) writes.reverse();
  return Object.fromEntries(found);
}

/** From the parent on. @param {BaseCheckpointSaver} saver @param {CheckpointTuple} target */
async function* ancestors(saver, { config, parentConfig: next }) {
  const { thread_id, checkpoint_ns } = config.configurable ?? {};
  for await (const tuple of saver.list({ configurable: { thread_id, checkpoint_ns } }, { before: config })) {
    if (next === undefined) return;
    if (tuple.checkpoint.id !== next.configurable?.checkpoint_id) continue;
    yield tuple;
    next = tuple.parentConfig;
  }
  while (next !== undefined) {
    const tuple = await saver.getTuple(next); // ids that are not in order
    if (tuple === undefined) return;
    yield tuple;
    next = tuple.parentConfig;
  }
}
