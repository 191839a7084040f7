// A client begins an MCP session, and ends it.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "test", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${process.env.PORT}`));
await client.connect(/** @type {any} */ (transport));
await client.ping();
await transport.terminateSession();
await client.close();
