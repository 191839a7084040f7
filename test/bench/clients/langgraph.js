// node langgraph.js STEPS SECONDS: an agent's threads of that many steps, with session_store and with
// @langchain/langgraph-checkpoint-postgres. Prints for each what put, putWrites and getTuple take (the median, in
// milliseconds) and the bytes that a step has stored. The two take turns, so that both meet the same machine.
//
// The state of the agent: its last messages (4 kB, changed by each step), documents that it found in the beginning
// (16 kB, unchanged) and a counter. So a step costs the same whatever its number, unless the saver makes a difference.
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";

const client = new URL("../../../clients/js/", import.meta.url);
const load = (name) =>
  import(pathToFileURL(createRequire(client).resolve(name)).href);
const [
  { PostgresSaver },
  { default: pg },
  { emptyCheckpoint, uuid6 },
  { SessionStore },
  { SessionStoreSaver },
] = await Promise.all([
  load("@langchain/langgraph-checkpoint-postgres"),
  load("pg"),
  load("@langchain/langgraph-checkpoint"),
  import(new URL("src/index.js", client)),
  import(new URL("src/adapters/langgraph.js", client)),
]);

const [steps, seconds] = process.argv.slice(2).map(Number);
const pool = new pg.Pool(); // PGHOST, PGPORT, PGUSER, PGDATABASE say where
const theirs = new PostgresSaver(pool);
await theirs.setup();
await pool.query(
  "INSERT INTO session_namespaces (name, ttl) VALUES ('threads', NULL) ON CONFLICT DO NOTHING",
);
const savers = {
  session_store: {
    saver: new SessionStoreSaver(
      new SessionStore({ pool, namespace: "threads" }),
    ),
    tables: ["conversation_sessions", "conversation_history"],
  },
  "langgraph-checkpoint-postgres": {
    saver: theirs,
    tables: ["checkpoints", "checkpoint_blobs", "checkpoint_writes"],
  },
};

const message = (i) => ({
  type: i % 2 ? "ai" : "human",
  content: randomBytes(225).toString("hex"),
  id: `m${i}`,
});
const documents = Array.from({ length: 16 }, () =>
  randomBytes(500).toString("hex"),
);

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
    const writes = [
      ["messages", [this.added]],
      ["branch:to:agent", null],
    ];
    await this.saver.putWrites(
      this.config,
      writes,
      uuid6(1),
      "~__pregel_pull, agent",
    );
  }

  /** The checkpoint after it. */
  async put() {
    const step = this.step++;
    if (this.added) this.messages = [...this.messages.slice(1), this.added];
    const changed =
      step === 0
        ? ["messages", "documents", "count"]
        : ["messages", "count", "branch:to:agent"];
    const newVersions = Object.fromEntries(
      changed.map((channel) => [channel, step + 1]),
    );
    this.versions = { ...this.versions, ...newVersions };
    const checkpoint = {
      ...emptyCheckpoint(),
      id: uuid6(step),
      channel_values: { messages: this.messages, documents, count: step },
      channel_versions: this.versions,
      versions_seen: {
        agent: { "branch:to:agent": step },
        __start__: { __start__: 1 },
      },
    };
    this.config = await this.saver.put(
      this.config,
      checkpoint,
      { source: "loop", step, parents: {} },
      newVersions,
    );
  }

  async getTuple() {
    const { thread_id, checkpoint_ns } = this.config.configurable;
    return this.saver.getTuple({ configurable: { thread_id, checkpoint_ns } });
  }
}

async function size(tables) {
  await pool.query(`VACUUM FULL ${tables}`);
  const text =
    "SELECT sum(pg_total_relation_size(t::regclass)) AS n FROM unnest($1::text[]) t";
  return Number((await pool.query(text, [tables])).rows[0].n);
}

const results = {};
const threads = [];
for (const [name, { saver, tables }] of Object.entries(savers)) {
  const thread = new Thread(saver);
  await thread.put();
  const before = await size(tables);
  for (let i = 1; i < steps; i++) {
    await thread.putWrites();
    await thread.put();
  }
  results[name] = {
    steps,
    bytes: Math.round(((await size(tables)) - before) / (steps - 1)),
  };
  threads.push([name, thread]);
}

const times = {};
for (
  const until = performance.now() + seconds * 1000;
  performance.now() < until;
)
  for (const [name, thread] of threads.reverse())
    for (let i = 0; i < 20; i++)
      for (const operation of ["getTuple", "putWrites", "put"]) {
        const begun = performance.now();
        await thread[operation]();
        ((times[name] ??= {})[operation] ??= []).push(
          performance.now() - begun,
        );
      }
for (const [name, operations] of Object.entries(times))
  for (const [operation, all] of Object.entries(operations))
    results[name][operation] = Number(
      all.sort((a, b) => a - b)[all.length >> 1].toFixed(3),
    );
console.log(JSON.stringify(results));
await pool.end();
