// The suite of Keyv 5, unmodified.
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import Keyv from "keyv";
import pg from "pg";
import * as vitest from "vitest";
import { SessionStore } from "../../src/index.js";
import { SessionStoreKeyv } from "../../src/adapters/keyv.js";

const pool = new pg.Pool();
const store = new SessionStore({ pool, namespace: process.env.SS_NAMESPACE });
const adapter = () => new SessionStoreKeyv({ store });

keyvTestSuite(vitest, Keyv, adapter);
keyvIteratorTests(vitest, Keyv, adapter);
vitest.afterAll(() => pool.end());
