// node langgraph.js STEPS SECONDS: an agent's threads of that many steps, with session_store/langgraph (ours) and with
// @langchain/langgraph-checkpoint-postgres (theirs). Prints lines "SIDE WHAT NUMBER": how many puts, putWrites and
// getTuples one client makes a second, by the median of their durations, and the bytes that a step has stored. The two
// take turns, so that both meet the same machine.
//
// The state of the agent: its last messages (4 kB, changed by each step), documents that it found in the beginning
// (16 kB, unchanged) and a counter. So a step costs the same whatever its number, unless the saver makes a difference.
import { randomBytes } from "node:crypto";
import { emptyCheckpoint, uuid6 } from "@langchain/langgraph-checkpoint";
import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import pg from "pg";
import { SessionStore } from "session_store";
import { SessionStoreSaver } from "session_store/langgraph";

const [steps, seconds] = process.argv.slice(2).map(Number);
const pool = new pg.Pool(); // PGHOST, PGPORT, PGUSER, PGDATABASE say where
const theirs = new PostgresSaver(pool);
await theirs.setup();
await pool.query("INSERT INTO session_namespaces (name, ttl) VALUES ('threads', NULL) ON CONFLICT DO NOTHING");
const savers = {
  ours: {
    saver: new SessionStoreSaver(new SessionStore({ pool, namespace: "threads", prepare: true })),
    tables: ["conversation_sessions", "conversation_history"],
  },
  theirs: { saver: theirs, tables: ["checkpoints", "checkpoint_blobs", "checkpoint_writes"] },
};

const message = (i) => ({ type: i % 2 ? "ai" : "human", content: randomBytes(225).toString("hex"), id: `m${i}` });
const documents = Array.from({ length: 16 }, () => randomBytes(500).toString("hex"));

class Thread {
  config = { configurable: { thread_id: uuid6(0), checkpoint_ns: "" } };
  messages = Array.from({ length: 8 }, (_, i) => message(i));
  versions = {};
  step = 0;

  constructor(saver) {
    this.saver = saver;
  }

  /** What a node has written. */
  async putWrites() {
    this.added = message(this.step);
    const writes = [["messages", [this.added]], ["branch:to:agent", null]];
    await this.saver.putWrites(this.config, writes, uuid6(1), "~__pregel_pull, agent");
  }

  /** The checkpoint after it. */
  async put() {
    const step = this.step++;
    if (this.added) this.messages = [...this.messages.slice(1), this.added];
    const changed = step === 0 ? ["messages", "documents", "count"] : ["messages", "count", "branch:to:agent"];
    const newVersions = Object.fromEntries(changed.map((channel) => [channel, step + 1]));
    this.versions = { ...this.versions, ...newVersions };
    const checkpoint = {
      ...emptyCheckpoint(),
      id: uuid6(step),
      channel_values: { messages: this.messages, documents, count: step },
      channel_versions: this.versions,
      versions_seen: { agent: { "branch:to:agent": step }, __start__: { __start__: 1 } },
    };
    this.config = await this.saver.put(this.config, checkpoint, { source: "loop", step, parents: {} }, newVersions);
  }

  async getTuple() {
    const { thread_id, checkpoint_ns } = this.config.configurable;
    const { checkpoint } = await this.saver.getTuple({ configurable: { thread_id, checkpoint_ns } });
    if (checkpoint.channel_values.count !== this.step - 1) throw new Error("that is not the latest checkpoint");
  }

  async go(until) {
    while (this.step < until) {
      await this.putWrites();
      await this.put();
    }
  }
}

async function size(tables) {
  for (const table of tables) await pool.query(`VACUUM FULL ${table}`);
  const text = "SELECT sum(pg_total_relation_size(t::regclass)) AS n FROM unnest($1::text[]) t";
  return Number((await pool.query(text, [tables])).rows[0].n);
}

// Sizes are in pages: so many threads that their steps have many. A first step stores what the others do not change.
const count = Math.ceil(1000 / steps);
const threads = [];
for (const [side, { saver, tables }] of Object.entries(savers)) {
  const own = Array.from({ length: count }, () => new Thread(saver));
  for (const thread of own) await thread.put();
  const before = await size(tables);
  for (const thread of own) await thread.go(steps);
  console.log(side, "bytes", Math.round(((await size(tables)) - before) / (count * (steps - 1))));
  threads.push([side, own]);
}

const times = { ours: {}, theirs: {} };
let turn = 0;
for (const until = performance.now() + seconds * 2000; performance.now() < until; turn++)
  for (const [side, own] of threads.reverse())
    for (let i = 0; i < 20; i++) {
      const thread = own[(turn * 20 + i) % count];
      for (const operation of ["getTuple", "putWrites", "put"]) {
        const begun = performance.now();
        await thread[operation]();
        (times[side][operation] ??= []).push(performance.now() - begun);
      }
    }
for (const [side, operations] of Object.entries(times))
  for (const [operation, all] of Object.entries(operations))
    console.log(side, operation, (1000 / all.sort((a, b) => a - b)[all.length >> 1]).toFixed(1));
await pool.end();
