// Chats of the AI SDK: a chat is a session, and its UI messages are the messages of its history.
import { DeadSessionError } from "../errors.js";
import { readAll, sameJson } from "./shared/messages.js";

/**
 * @template {{ id: string }} [M=import("ai").UIMessage]
 *
 * @typedef {object} Chats
 * @property {(data?: object) => Promise<string>} createChat begins a chat and returns its id
 * @property {(id: string, window?: { maxTokens?: number, maxMessages?: number }) => Promise<M[]>} loadChat
 * @property {(chat: { chatId: string, messages: M[], previous?: M[] }) => Promise<boolean>} saveChat
 */

/**
 * The three functions of a chat store.
 *
 * loadChat returns all messages, oldest first, or the newest ones that fit into the limits; none if there is no chat.
 *
 * saveChat stores what `messages` has more than `previous`, which is what loadChat returned: it appends, or replaces
 * the messages at the end that have changed, in one call. If these have been changed by others as well, it is a
 * ConflictError. Without `previous` it reads the chat first, and what is stored becomes `messages`. It returns false,
 * and has stored nothing, if the chat was deleted or has expired meanwhile.
 *
 * @template {{ id: string }} [M=import("ai").UIMessage]
 * @param {{ store: import("../index.js").SessionStore, owner?: string, pageSize?: number }} options
 * @returns {Chats<M>}
 */
export function chatStore({ store, owner, pageSize }) {
  return {
    createChat: (data = {}) => store.create(data, { owner }),

    async loadChat(id, { maxTokens, maxMessages } = {}) {
      if (maxTokens === undefined && maxMessages === undefined) return readAll(store, id, pageSize);
      const rows = await store.window(id, { maxTokens, maxMessages });
      return rows.filter(({ seq }) => seq !== null).map(({ message }) => message); // not the summary
    },

    async saveChat({ chatId, messages, previous }) {
      const stored = previous ?? (await readAll(store, chatId, pageSize));
      let same = 0;
      while (same < stored.length && same < messages.length && sameJson(stored[same], messages[same])) same++;
      const [expected, fresh] = [stored.slice(same), messages.slice(same)];
      if (expected.length === 0 && fresh.length === 0) return true;
      try {
        const seq =
          stored.length === 0
            ? await store.append(chatId, fresh, { owner })
            : await store.replaceTail(chatId, expected.length, fresh, { expected });
        return seq !== undefined;
      } catch (error) {
        if (error instanceof DeadSessionError) return false;
        throw error;
      }
    },
  };
}
