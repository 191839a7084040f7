/**
 * Runs a suite that is written for vitest, in a process of its own, and reports each of its tests as one of node:test:
 *
 *   test("the suite", (t) => runVitest(t, "keyv.suite.js", servers.env));
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { needs } from "./needs.js";

const root = fileURLToPath(new URL("../suites", import.meta.url));
const program = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");

/**
 * @param {import("node:test").TestContext} t
 * @param {string} file in test/suites
 * @param {Record<string, string>} [env]
 */
export async function runVitest(t, file, env = {}) {
  const why = needs("vitest");
  if (why) return t.skip(why);
  const folder = await mkdtemp(join(tmpdir(), "vitest-"));
  try {
    const report = join(folder, "report.json");
    const args = [program, "run", "--root", root, "--reporter", "json", "--outputFile", report, file];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...env, SS_VITEST_CACHE: folder, NODE_TEST_CONTEXT: "" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
    await once(child, "close");
    const { testResults } = JSON.parse(
      await readFile(report, "utf8").catch(() => assert.fail(`vitest did not run: ${output}`)),
    );
    const results = testResults.flatMap((/** @type {any} */ of) => of.assertionResults);
    assert(results.length > 0, `no test ran: ${output}`);
    for (const { fullName, status, failureMessages } of results)
      await t.test(fullName, { skip: status === "skipped" || status === "todo" }, () =>
        assert(status === "passed", failureMessages.join("\n")),
      );
    assert.equal(
      child.exitCode,
      results.some((/** @type {any} */ of) => of.status === "failed") ? 1 : 0,
      output,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
