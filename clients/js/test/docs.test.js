// The programs of docs/clients.md run.
import { fileURLToPath } from "node:url";
import { testPrograms } from "./support/programs.js";

await testPrograms(fileURLToPath(new URL("../../../docs/clients.md", import.meta.url)));
