// node express.js STORE SOCKET: an application that keeps its users' carts in their sessions.
import { randomBytes } from "node:crypto";
import connectPgSimple from "connect-pg-simple";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import pg from "pg";
import { createClient } from "redis";
import { SessionStore } from "session_store";
import { SessionStoreExpress } from "session_store/express";

const [name, socket] = process.argv.slice(2);
const pool = () => new pg.Pool(); // PGHOST, PGPORT, PGUSER, PGDATABASE say where; ten connections, its default

async function redis() {
  const client = createClient({ socket: { path: process.env.SS_REDIS_SOCKET } });
  client.on("error", (error) => console.error(error.message));
  return client.connect();
}

// Each as its users set it up, without a pooler (the others' statements are not prepared, nor can they be).
const stores = {
  "connect-pg-simple": () => new (connectPgSimple(session))({ pool: pool() }),
  "connect-redis": async () => new RedisStore({ client: await redis() }),
  sql: () => new SessionStoreExpress({ store: new SessionStore({ pool: pool(), namespace: "express", prepare: true }) }),
  strong: async () => {
    const store = new SessionStore({ pool: pool(), redis: await redis(), namespace: "bench", prepare: true });
    return new SessionStoreExpress({ store });
  },
};

const app = express();
app.use(session({
  store: await stores[name](),
  secret: "keyboard cat",
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 24 * 3600 * 1000 },
}));
app.get("/cart", (req, res) => res.json({ user: req.session.user ?? null, visits: req.session.visits ?? 0 }));
app.post("/cart", (req, res) => {
  req.session.user ??= randomBytes(8).toString("hex");
  req.session.cart ??= randomBytes(400).toString("hex"); // a session of 1 KB
  req.session.visits = (req.session.visits ?? 0) + 1;
  res.json({ user: req.session.user, visits: req.session.visits });
});
app.listen(socket);
