// The suite of Keyv 5, unmodified.
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import Keyv from "keyv";
import pg from "pg";
import { createClient } from "redis";
import * as vitest from "vitest";
import { SessionStore } from "../../src/index.js";
import { SessionStoreKeyv } from "../../src/adapters/keyv.js";

const pool = new pg.Pool();
const socket = /** @type {any} */ ({ path: process.env.SS_REDIS_SOCKET });
const redis = process.env.SS_READS === "strong" ? createClient({ socket }) : undefined;
await redis?.connect();
const store = new SessionStore({ pool, redis, namespace: process.env.SS_NAMESPACE });
const adapter = () => new SessionStoreKeyv({ store });

keyvTestSuite(vitest, Keyv, adapter);
keyvIteratorTests(vitest, Keyv, adapter);
vitest.afterAll(async () => {
  redis?.destroy();
  await pool.end();
});
