// node server.js STORE SOCKET: an application that keeps its users' carts in their sessions.
import { randomBytes } from "node:crypto";
import express from "express";
import session from "express-session";
import { makeStore } from "./stores.js";

const [store, socket] = process.argv.slice(2);
const app = express();

app.use(session({
  store: await makeStore(store),
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
app.post("/logout", (req, res, next) => req.session.destroy((error) => (error ? next(error) : res.json({}))));
app.listen(socket);
