// The programs of README.md run.
import { fileURLToPath } from "node:url";
import { testPrograms } from "./support/programs.js";

await testPrograms(fileURLToPath(new URL("../README.md", import.meta.url)));
