// Chat application: sessions of 30 minutes without a request, kept in Postgres and in Redis.
import { randomUUID } from "node:crypto";
import { connect, connectRedis, show, sqlstate } from "../connect.js";

const [redis, sql] = [await connectRedis(), connect("chat_app")];
const db = await sql.pool.connect(); // one connection, for transactions

// ---- BEFORE: a table of its own, and a copy in Redis; a miss there turns to the table
await db.query("CREATE TEMP TABLE sessions (id text PRIMARY KEY, data jsonb, expires_at timestamptz)");
const before = {
  async save(id, data) {
    await db.query(`INSERT INTO sessions VALUES ($1, $2, now() + interval '30 minutes') ON CONFLICT (id)
      DO UPDATE SET data = EXCLUDED.data, expires_at = EXCLUDED.expires_at`, [id, data]);
    await redis.setEx(`before:session:${id}`, 1800, JSON.stringify(data));
  },
  load: async (id) => JSON.parse(await redis.get(`before:session:${id}`)),
  async logout(id) {
    await db.query("DELETE FROM sessions WHERE id = $1", [id]);
    await redis.del(`before:session:${id}`);
  },
};

// ---- AFTER
const after = {
  save: (id, data) => db.query("SELECT session_save($1, $2)", [id, data]),
  load: async (id) => JSON.parse((await redis.get(`session:${id}`)) ?? (await sql("SELECT session_get($1)::text", id))),
  logout: (id) => db.query("SELECT session_delete($1)", [id]),
};

for (const [name, store] of Object.entries({ before, after })) {
  const wrong = store === before;
  const [id, other] = [randomUUID(), randomUUID()];
  await store.save(id, { page: 1 });
  await store.logout(id);
  show(`${name}: a request saves after the logout`, await sqlstate(store.save(id, { page: 2 })), wrong ? "00000" : "SST10");
  show(`${name}: what then is loaded`, await store.load(id), wrong ? { page: 2 } : null);
  await db.query("BEGIN");
  await store.save(other, { plan: "paid" });
  await db.query("ROLLBACK");
  show(`${name}: what was rolled back`, await store.load(other), wrong ? { plan: "paid" } : null);
  await redis.del([`before:session:${id}`, `before:session:${other}`]);
}

// a guest writes, then signs in: the guest's session is merged into the user's, and ends
const create = (data, owner) => sql("SELECT session_create($1, owner => $2)", data, owner);
const say = (id, text) => sql("SELECT session_append($1, $2)::int", id, { role: "user", text });
const [phone, laptop, guest] = [await create({}, "ada"), await create({ page: 1 }, "ada"), await create({ cart: ["tea"] })];
show("after: said", [await say(laptop, "Hello"), await say(guest, "Is there tea?"), await say(guest, "Green?")], [1, 1, 2]);
show("after: moved from the guest's session", await sql("SELECT session_absorb($1, $2)::int", laptop, guest), 2);
const [last] = await sql.rows("SELECT array_agg(message ->> 'text') FROM session_history($1, last => 2)", laptop);
show("after: the last two messages", last[0], ["Is there tea?", "Green?"]);

// the application and Redis may restart: the session goes on, and reading it begins its 30 minutes anew
const left = () => sql("SELECT extract(epoch FROM session_ttl($1))::float", laptop);
await sql("SELECT pg_sleep(0.2)");
const aged = await left();
show("after: resumed", await sql("SELECT session_get($1)", laptop), { cart: ["tea"], page: 1 });
show("after: .. for another 30 minutes", aged < 1799.9 && (await left()) > aged, true);

// a conversation of ada's is shared with grace; who calls comes with each request
const as = async (user, text, ...values) => {
  await db.query("SELECT set_config('request.jwt.claims', $1, false)", [{ sub: user }]);
  return Object.values((await db.query(text, values)).rows[0])[0];
};
const room = await as("ada", `SELECT session_create('"tea"', owner => 'ada', namespace => 'shared')`);
for (const [role, read, write] of [[null, null, "42501"], ["viewer", "tea", "42501"], ["editor", "tea", "00000"]]) {
  if (role) await as("ada", "SELECT session_share($1, 'grace', $2, 'shared')", room, role);
  show(`after: grace, ${role ?? "a stranger"}, reads`, await as("grace", "SELECT session_get($1, 'shared')", room), read);
  show("after: .. and writes", await sqlstate(as("grace", "SELECT session_merge($1, '{}', NULL, 'shared')", room)), write);
}
await as("ada", "SELECT session_delete($1, 'shared')", room);

show("after: sessions of ada", await sql("SELECT count(*)::int FROM session_list(owner => 'ada')"), 2);
show("after: logged out elsewhere", await sql("SELECT session_delete_all('ada', except_session_id => $1)::int", laptop), 1);
show("after: .. and everywhere", await sql("SELECT session_delete_all('ada')::int"), 1);
const [log] = await sql.rows("SELECT array_agg(event ORDER BY created_at) FROM session_events WHERE session_id = $1", phone);
show("after: audit log of the phone's session", log[0], ["created", "deleted"]);
db.release(true);
await Promise.all([sql.end(), redis.close()]);
