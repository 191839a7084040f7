// A user logs in and out.
import { visit } from "../support/visit.js";

await visit();
