// The suite that Keyv publishes: in a namespace as it is by default, and in one for a cache, whose copies are read.
import { after, before, test } from "node:test";
import { needs } from "./support/needs.js";
import { startServers } from "./support/servers.js";
import { runVitest } from "./support/vitest.js";

const skip = needs("vitest");
/** @type {import("./support/servers.js").Servers} */
let servers;
before(async () => {
  if (skip) return;
  servers = await startServers();
  await servers.sql("INSERT INTO session_namespaces (name, sliding, tombstone) VALUES ('cache', false, '0')");
  await servers.cacheReady();
});
after(() => servers?.stop());

test("@keyv/test-suite, namespace default", { skip }, (t) =>
  runVitest(t, "keyv.suite.js", { ...servers.env, SS_NAMESPACE: "default" }),
);

test("@keyv/test-suite, namespace cache, with strong reads", { skip }, (t) =>
  runVitest(t, "keyv.suite.js", {
    ...servers.env,
    SS_NAMESPACE: "cache",
    SS_READS: "strong",
    PGOPTIONS: "-c session_store.fence=all", // so that a read sees what was set before it
  }),
);
