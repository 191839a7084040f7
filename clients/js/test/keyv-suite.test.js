// The suite that Keyv publishes, in a namespace as it is by default and in one for a cache.
import { after, before, test } from "node:test";
import { needs } from "./support/needs.js";
import { startServers } from "./support/servers.js";
import { runVitest } from "./support/vitest.js";

const skip = needs("vitest");
/** @type {import("./support/servers.js").Servers} */
let servers;
before(async () => {
  servers = await startServers({ redis: false });
  await servers.sql("INSERT INTO session_namespaces (name, sliding, tombstone) VALUES ('cache', false, '0')");
});
after(() => servers.stop());

for (const namespace of ["default", "cache"])
  test(`@keyv/test-suite, namespace ${namespace}`, { skip }, (t) =>
    runVitest(t, "keyv.suite.js", { ...servers.env, SS_NAMESPACE: namespace }),
  );
