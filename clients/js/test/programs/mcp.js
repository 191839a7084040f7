// A client begins an MCP session, and ends it.
import { webcrypto } from "node:crypto";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

globalThis.crypto ??= /** @type {any} */ (webcrypto); // the SDK wants it, and Node 18 does not have it

const client = new Client({ name: "test", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${process.env.PORT}`));
await client.connect(/** @type {any} */ (transport));
await client.ping();
await transport.terminateSession();
await client.close();
