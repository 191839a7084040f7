// What a user does with the applications of docs/clients.md.
import assert from "node:assert/strict";
import { Browser } from "./browser.js";

/** Logs in, looks, logs out; the cookie is worth nothing then. */
export async function visit() {
  const url = `http://127.0.0.1:${process.env.PORT}`;
  const browser = new Browser();
  const user = async () => (await browser.go(url + "/")).body.user;
  assert.equal((await browser.go(url + "/login/ada", { method: "POST" })).status, 200);
  assert.equal(await user(), "ada");
  const cookies = new Map(browser.cookies);
  assert.equal((await browser.go(url + "/logout", { method: "POST" })).status, 200);
  browser.cookies = cookies;
  assert.equal(await user(), undefined);
}
