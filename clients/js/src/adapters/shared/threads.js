// Which sessions a LangGraph thread has: one for each of its checkpoint namespaces. Their ids begin with the thread, so
// that one call ends them all.
import { idOf, idStart } from "./ids.js";

/**
 * @import { RunnableConfig } from "@langchain/core/runnables"
 * @import { Thread } from "./checkpoints.js"
 *
 * @typedef {object} Place
 * @property {string} id of the session
 * @property {[thread: string, namespace: string]} of
 * @property {{ thread_id: any, checkpoint_ns: string }} configurable
 */

/** The thread with a slash, which no other thread begins with. @param {unknown} thread */
function prefixOf(thread) {
  if (typeof thread !== "string" && typeof thread !== "number")
    throw new Error(`the "thread_id" is a string or a number, not ${thread === null ? null : typeof thread}`);
  return `${thread}`.replace(/[%/]/g, encodeURIComponent) + "/";
}

/** What the ids of a thread's sessions begin with. @param {unknown} thread */
export const threadStart = (thread) => idStart(prefixOf(thread));

/** @param {RunnableConfig} config @returns {Place} */
export function placeOf({ configurable: { thread_id, checkpoint_ns = "" } = {} }) {
  const id = idOf(checkpoint_ns, prefixOf(thread_id));
  return { id, of: [`${thread_id}`, checkpoint_ns], configurable: { thread_id, checkpoint_ns } };
}

/**
 * The sessions of a config that may name no thread and no namespace.
 *
 * @param {import("../../index.js").SessionStore} store
 * @param {RunnableConfig} config
 * @returns {AsyncGenerator<{ place: Place, thread: Thread | undefined }, void, void>}
 */
export async function* threads(store, config) {
  const { thread_id, checkpoint_ns } = config.configurable ?? {};
  if (thread_id !== undefined && checkpoint_ns !== undefined) {
    const place = placeOf(config);
    yield { place, thread: await store.get(place.id) };
    return;
  }
  const idPrefix = thread_id === undefined ? "" : threadStart(thread_id);
  for await (const { sessionData } of store.sessions({ idPrefix, withData: true, pageSize: 100 })) {
    if (!Array.isArray(sessionData?.of)) continue; // a session of something else
    const [thread, namespace] = sessionData.of;
    if (checkpoint_ns !== undefined && checkpoint_ns !== namespace) continue;
    const place = placeOf({ configurable: { thread_id: thread, checkpoint_ns: namespace } });
    yield { place, thread: sessionData };
  }
}
