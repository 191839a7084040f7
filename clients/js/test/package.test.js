// What npm pack makes has the sources with their types and nothing else, and works where it is installed.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);
let folder = "";
let installed = "";
/** @type {any} */
let manifest;
/** @type {string[]} */
let sources;

/** @param {string} below @returns {Promise<string[]>} */
async function files(below, path = "") {
  const found = [];
  for (const entry of await readdir(join(below, path), { withFileTypes: true })) {
    const name = path ? `${path}/${entry.name}` : entry.name;
    found.push(...(entry.isDirectory() ? await files(below, name) : [name]));
  }
  return found.sort();
}

before(async () => {
  folder = await mkdtemp(join(root, ".package-")); // below node_modules of ours, for the types of pg
  const copy = join(folder, "copy");
  await mkdir(copy);
  for (const name of await readdir(root))
    if (!/^\.(package|programs)-|^node_modules$|^test$/.test(name))
      await cp(join(root, name), join(copy, name), { recursive: true });
  manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  sources = await files(join(root, "src"));
  const options = { cwd: copy, env: { ...process.env, npm_config_ignore_scripts: "false" } };
  await run("npm", ["pack", "--pack-destination", folder], options);
  installed = join(folder, "node_modules/session_store");
  await mkdir(installed, { recursive: true });
  await run("tar", [
    "-xzf",
    join(folder, `session_store-${manifest.version}.tgz`),
    "--strip-components=1",
    "-C",
    installed,
  ]);
});
after(() => rm(folder, { recursive: true, force: true }));

test("it has the sources, their types, LICENSE and README.md", async () => {
  const expected = sources.flatMap((file) => [`src/${file}`, `src/${file.replace(/\.js$/, ".d.ts")}`]);
  expected.push("LICENSE", "README.md", "package.json");
  assert.deepEqual(await files(installed), expected.sort());
});

test("its version is that of the extension", async () => {
  const control = await readFile(join(root, "../../session_store.control"), "utf8");
  assert.equal(manifest.version, control.match(/^default_version = '(.*)'/m)?.[1]);
});

test("each adapter has an export path, or is exported by one that has", async () => {
  const paths = new Set(Object.values(manifest.exports));
  for (const file of sources.filter((name) => /^adapters\/[^/]+$/.test(name))) {
    const text = await readFile(join(root, "src", file), "utf8");
    for (const [, other] of text.matchAll(/^export .* from "\.\/(.*)"/gm))
      paths.add(`./src/adapters/${other}`);
  }
  for (const file of sources.filter((name) => /^adapters\/[^/]+$/.test(name)))
    assert(paths.delete(`./src/${file}`), file);
  assert.deepEqual([...paths], ["./src/index.js", "./package.json"]);
});

test("there is no dependency, and pg and redis are optional peers", () => {
  assert.equal(manifest.dependencies, undefined);
  for (const name of Object.keys(manifest.peerDependencies))
    assert.equal(manifest.peerDependenciesMeta[name]?.optional, true, name);
});

test("the class is loaded without any peer", async () => {
  const elsewhere = await mkdtemp(join(tmpdir(), "session_store-"));
  try {
    await cp(installed, join(elsewhere, "node_modules/session_store"), { recursive: true });
    await run(process.execPath, ["--input-type=module", "-e", 'import "session_store"'], { cwd: elsewhere });
  } finally {
    await rm(elsewhere, { recursive: true });
  }
});

test("a program in TypeScript has its types", async () => {
  const imports = Object.keys(manifest.exports).filter(
    (path) => path.startsWith("./") && !path.endsWith(".json"),
  );
  await writeFile(
    join(folder, "use.mts"),
    `import pg from "pg";
import { SessionStore, type DeadSessionError } from "session_store";
${imports.map((path, i) => `import * as adapter${i} from "session_store/${path.slice(2)}";`).join("\n")}
const store = new SessionStore({ pool: new pg.Pool(), reads: "sql" });
export const version: number = await store.save("id", { a: 1 }, { ttl: "1 hour" });
export const adapters: object[] = [${imports.map((_, i) => `adapter${i}`)}];
export type Code = DeadSessionError["code"];
// @ts-expect-error a ttl is no object
await store.save("id", {}, { ttl: {} });
`,
  );
  const compilerOptions = {
    strict: true,
    noEmit: true,
    module: "nodenext",
    target: "es2022",
    skipLibCheck: true,
  };
  await writeFile(join(folder, "package.json"), "{}"); // here session_store is not this package itself
  await writeFile(
    join(folder, "tsconfig.json"),
    JSON.stringify({ compilerOptions: { ...compilerOptions, types: ["node"] }, files: ["use.mts"] }),
  );
  await run(join(root, "node_modules/.bin/tsc"), [], { cwd: folder }).catch((error) =>
    assert.fail(error.stdout || error),
  );
});

test("an adapter has at most 150 lines", async () => {
  for (const file of sources.filter((name) => /^adapters\/[^/]+$/.test(name))) {
    const lines = (await readFile(join(root, "src", file), "utf8")).split("\n").length - 1;
    assert(lines <= 150, `${file} has ${lines}`);
  }
});
