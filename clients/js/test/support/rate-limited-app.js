// An application with a limiter, as a process of its own: prints its port.
import express from "express";
import { rateLimit } from "express-rate-limit";
import pg from "pg";
import { SessionStoreRateLimit } from "../../src/adapters/rate-limit.js";
import { SessionStore } from "../../src/index.js";

const pool = new pg.Pool({ max: 5 });
const store = new SessionStoreRateLimit({
  store: new SessionStore({ pool, namespace: "default" }),
  prefix: "app:",
});
const app = express();
app.use(
  rateLimit({ windowMs: 3_600_000, limit: Number(process.env.SS_LIMIT), store, keyGenerator: () => "all" }),
);
app.get("/", (_, response) => void response.send("let through"));
const server = app.listen(0, "127.0.0.1", () =>
  console.log(/** @type {import("node:net").AddressInfo} */ (server.address()).port),
);
