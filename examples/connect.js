// What the clients in Node share: connections, and an answer that must be as told.
import assert from "node:assert/strict";
import { once } from "node:events";
import pg from "pg";
import { createClient } from "redis";

/** Calls in SQL as one role: the first column of the first row, null when there is none. */
export function connect(user) {
  const pool = new pg.Pool({ user }); // PGHOST, PGPORT, PGDATABASE say where
  const rows = async (text, ...values) => (await pool.query({ text, values, rowMode: "array" })).rows;
  const sql = async (text, ...values) => (await rows(text, ...values))[0]?.[0] ?? null;
  return Object.assign(sql, { rows, pool, end: () => pool.end() });
}

/** A client of what REDIS_URL names: redis://, rediss://, or unix:// and a path. */
export async function connectRedis() {
  const url = new URL(process.env.REDIS_URL ?? "redis://localhost");
  const where = url.protocol === "unix:" ? { path: url.pathname } : {};
  const client = createClient({
    url: url.protocol === "unix:" ? undefined : url.href,
    socket: { ...where, reconnectStrategy: (retries) => Math.min(50 * 2 ** retries, 3000) + Math.random() * 50 },
    disableOfflineQueue: true, // while it is away commands fail at once, so that readers can turn to SQL
  });
  client.on("error", () => {}); // it goes on trying by itself
  client.connect().catch(() => {});
  await once(client, "ready").catch(() => {});
  return client;
}

/** Print what came out; end the program if it is not what was expected. */
export function show(what, got, expected) {
  console.log(`${what}: ${JSON.stringify(got)}`);
  assert.deepEqual(got, expected, what);
}

/** The SQLSTATE that a call fails with, "00000" if it does not. */
export const sqlstate = (call) => call.then(() => "00000", (error) => error.code ?? String(error));
