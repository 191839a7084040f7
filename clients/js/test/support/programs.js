/**
 * Runs the programs of a document: its blocks "js", each in a process of its own, after its blocks "sql".
 *
 * A program has PGHOST and so on, REDIS_URL and PORT in its environment. One that does not import session_store itself
 * follows the first lines of the section "Set up" of docs/clients.md, so that it may use `pool`, `redis` and `store`.
 * It has to reach its end; then test/programs/NAME.js, NAME being that of the section, is loaded into the same process.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { needs } from "./needs.js";
import { startServers } from "./servers.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const clients = join(root, "../../docs/clients.md");

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address ? address.port : 0;
}

/** @param {string} text @returns {{ section: string, kind: string, block: string }[]} */
function blocks(text) {
  let section = "Begin";
  const found = [];
  for (const [, heading, kind, block] of text.matchAll(/^## ([^\n]*)|^```(\w+)\n(.*?)^```/gms)) {
    if (heading) section = heading;
    else found.push({ section, kind, block });
  }
  return found;
}

/** @param {string} document */
export async function testPrograms(document) {
  const found = blocks(await readFile(document, "utf8"));
  const setUp = blocks(await readFile(clients, "utf8")).find(
    (of) => of.kind === "js" && of.section === "Set up",
  );
  const [beginning] = setUp?.block.match(/^.*?^const store = .*?;\n/ms) ?? [];
  assert(beginning, "docs/clients.md has a section Set up that makes a store");
  /** @type {import("./servers.js").Servers} */
  let servers;
  let folder = "";
  let redisPort = 0;
  before(async () => {
    redisPort = await freePort();
    servers = await startServers({ redisSettings: [`port ${redisPort}`, "bind 127.0.0.1"] });
    folder = await mkdtemp(join(root, ".programs-")); // modules are found from here
    for (const { kind, block } of found) if (kind === "sql") await servers.sql(block);
    await servers.cacheReady();
  });
  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await servers?.stop();
  });

  for (const { section, block } of found.filter(({ kind }) => kind === "js")) {
    const packages = [...block.matchAll(/ from "((?:@[^/"]+\/)?[^/"]+)/g)]
      .map(([, name]) => name)
      .filter((name) => !/^node:|^session_store$/.test(name));
    test(section, { skip: needs(...packages) }, async () => {
      const name = section.toLowerCase().replace(/[^a-z0-9]+/g, "-");
      const check = join(root, "test/programs", `${name}.js`);
      const lines = [/ from "session_store"/.test(block) ? "" : beginning, block];
      if (existsSync(check)) lines.push(`await import(${JSON.stringify(pathToFileURL(check))});\n`);
      lines.push("process.exit(0);\n"); // servers and pools are open
      const file = join(folder, `${name}.js`);
      await writeFile(file, lines.join(""));
      const env = { ...process.env, ...servers.env, NODE_TEST_CONTEXT: "" };
      const child = spawn(process.execPath, [file], {
        env: { ...env, REDIS_URL: `redis://127.0.0.1:${redisPort}`, PORT: String(await freePort()) },
        stdio: ["ignore", "ignore", "pipe"],
        timeout: 300_000,
      });
      let errors = "";
      child.stderr.on("data", (text) => (errors += text));
      await once(child, "close");
      assert.equal(child.exitCode, 0, errors || `ended by ${child.signalCode}`);
    });
  }
}
