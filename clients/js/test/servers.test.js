// The servers of the tests: their faults are what they say, and nothing is left of them, however a test ends.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { createClient } from "redis";
import { startServers, waitUntil } from "./support/servers.js";

/** @type {import("./support/servers.js").Servers} */
let servers;
before(async () => {
  servers = await startServers({ settings: { "session_store.fence": "all" } });
  await servers.cacheReady();
});
after(() => servers?.stop());

const runs = (/** @type {number} */ pid) => existsSync(`/proc/${pid}/cwd`);

test("a session is saved and reaches Redis", async () => {
  await servers.sql("SELECT session_save($1, $2)", ["one", { n: 1 }]);
  await servers.cacheReady();
  assert.equal(await servers.value("SELECT session_get($1) ->> 'n'", ["one"]), "1");
  const redis = createClient(servers.redis);
  await redis.connect();
  assert.equal(await redis.get("session:one"), '{"n": 1}');
  redis.destroy();
});

test("a restart ends the connections of clients, and the sessions are there", async () => {
  const client = new pg.Client(servers.pg);
  client.on("error", () => {});
  await client.connect();
  for (const mode of /** @type {const} */ (["fast", "immediate"])) {
    await servers.restartPostgres(mode);
    await assert.rejects(client.query("SELECT 1"));
    assert.equal(await servers.value("SELECT session_get($1) ->> 'n'", ["one"]), "1");
  }
});

test("a Redis that hangs does not answer; one that is killed is gone, and has nothing when it is back", async () => {
  const ask = () =>
    Promise.race([servers.redisCommand("PING"), new Promise((no) => setTimeout(no, 300, "nothing"))]);
  await servers.hangRedis();
  assert.equal(await ask(), "nothing");
  await servers.resumeRedis();
  assert.equal(await servers.redisCommand("PING"), "+PONG");
  await servers.killRedis();
  await assert.rejects(servers.redisCommand("PING"));
  await servers.startRedis();
  assert.equal(await servers.redisCommand("PING"), "+PONG");
  await servers.cacheReady();
});

test("nothing is left after stop(), and after a test that is killed", async () => {
  const support = new URL("./support/servers.js", import.meta.url);
  for (const end of ["stop", "SIGKILL", "SIGTERM"]) {
    const program = `
      import { startServers } from ${JSON.stringify(support.href)};
      const servers = await startServers();
      await servers.hangRedis();
      console.log(servers.folder);
      process.stdin.on("data", () => servers.stop().then(() => process.exit()));`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("..", support)),
      stdio: ["pipe", "pipe", "inherit"],
    });
    const folder = String((await once(child.stdout, "data"))[0]).trim();
    const pids = ["redis/redis.pid", "data/postmaster.pid"].map((file) =>
      Number(readFileSync(`${folder}/${file}`, "utf8").split("\n")[0]),
    );
    assert.deepEqual(pids.map(runs), [true, true]);
    if (end === "stop") child.stdin.write("stop");
    else child.kill(/** @type {NodeJS.Signals} */ (end));
    await waitUntil(() => !existsSync(folder), `the folder is gone (${end})`);
    assert.deepEqual(pids.map(runs), [false, false], end);
  }
});
