// An express application, as people write it.
import express from "express";
import session from "express-session";

const hour = 3600_000;

/**
 * Its sessions have a user, who logs in and out, and a number n.
 *
 * @param {any} store
 * @param {object} [options] of express-session
 */
export function application(store, options) {
  /** @type {Map<string, () => void>} */
  const waiting = new Map();
  /** @type {unknown[]} */
  const errors = []; // of saves after the answer has begun
  const app = express();
  app.use(
    session({
      store,
      secret: "s",
      resave: false,
      saveUninitialized: false,
      cookie: { maxAge: hour },
      ...options,
    }),
  );
  app.get("/", (req, res) => void res.json({ ...req.session, id: req.sessionID, cookie: undefined }));
  app.post("/login/:user", (req, res, next) => {
    req.session.regenerate((error) => {
      if (error) return next(error);
      Object.assign(req.session, { user: req.params.user });
      res.json({ id: req.sessionID });
    });
  });
  app.post("/change/:n", (req, res) => {
    Object.assign(req.session, { n: Number(req.params.n) });
    res.json({ id: req.sessionID });
  });
  app.post("/late", (req, res) => {
    if ("user" in req.session) Object.assign(req.session, { n: 99 });
    res.json({});
  });
  app.post("/slow", async (req, res) => {
    await new Promise((/** @type {(_: void) => void} */ go) => waiting.set("slow", go));
    Object.assign(req.session, { slow: true });
    res.json({ id: req.sessionID });
  });
  app.post("/age/:ms", (req, res) => {
    req.session.cookie.maxAge = Number(req.params.ms);
    res.json({});
  });
  app.post("/logout", (req, res, next) =>
    req.session.destroy((error) => (error ? next(error) : res.json({}))),
  );
  app.post("/unset", (req, res) => {
    delete (/** @type {any} */ (req).session);
    res.json({});
  });
  app.use(
    (/** @type {any} */ error, /** @type {any} */ _req, /** @type {any} */ res, /** @type {any} */ _next) => {
      if (res.headersSent) return void errors.push(error);
      res.status(500).json({ error: error.name, code: error.code });
    },
  );
  return { app, waiting, errors };
}
