// The suite of @langchain/langgraph-checkpoint-validation, unmodified. Each checkpointer has a namespace of its own.
import { deltaChannelHistoryTests, validate } from "@langchain/langgraph-checkpoint-validation";
import pg from "pg";
import * as vitest from "vitest";
import { SessionStoreSaver } from "../../src/adapters/langgraph.js";
import { SessionStore } from "../../src/index.js";

Object.assign(globalThis, vitest); // the suite expects a runner with globals

const pool = new pg.Pool();
let count = 0;
const initializer = {
  checkpointerName: "session_store/langgraph",
  async createCheckpointer() {
    const namespace = `threads-${process.pid}-${++count}`;
    await pool.query("INSERT INTO session_namespaces (name, ttl) VALUES ($1, NULL)", [namespace]);
    return new SessionStoreSaver(new SessionStore({ pool, namespace }));
  },
};

validate(initializer);
deltaChannelHistoryTests(initializer); // of an optional method, and so not part of validate()
vitest.afterAll(() => pool.end());
