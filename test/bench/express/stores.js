// The four stores that are compared, each as its users set it up.
import connectPgSimple from "connect-pg-simple";
import { RedisStore } from "connect-redis";
import session from "express-session";
import pg from "pg";
import { createClient } from "redis";
import { CachedStore, SqlStore } from "./store.js";

const pool = () => new pg.Pool(); // PGHOST, PGPORT, PGUSER, PGDATABASE say where; ten connections, its default

async function redis() {
  const client = createClient({ socket: { path: process.env.SS_REDIS_SOCKET } });
  client.on("error", (error) => console.error(error.message));
  return client.connect();
}

const stores = {
  "connect-pg-simple": () => new (connectPgSimple(session))({ pool: pool() }),
  "connect-redis": async () => new RedisStore({ client: await redis() }),
  sql: () => new SqlStore(pool(), "express"),
  cached: async () => new CachedStore(pool(), "bench", await redis(), "bench:"),
};

export const makeStore = (name) => stores[name]();
