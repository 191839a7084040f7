// Browsers for the tests of web adapters: they keep the cookies of one application.
import { once } from "node:events";
import { createServer } from "node:http";

/** Serves a request listener on a free port, and ends with it. @param {import("node:http").RequestListener} listener */
export async function serve(listener) {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const stop = async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  };
  return { url: `http://127.0.0.1:${port}`, stop };
}

export class Browser {
  /** @type {Map<string, string>} */
  cookies = new Map();

  /**
   * Sends a request; the answer's status, and its body if that is JSON, else text.
   *
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Promise<{ status: number, body: any }>}
   */
  async go(url, init) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { ...init, headers: cookie ? { cookie } : {} });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /** @type {RegExpMatchArray} */ (line.match(/^([^=]+)=([^;]*)/));
      if (/expires=Thu, 01 Jan 1970/i.test(line)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json");
    return { status: response.status, body: isJson ? JSON.parse(text) : text };
  }
}

/**
 * Counts what a pool sends, for the table of round trips in docs/clients.md.
 *
 * @param {import("pg").Pool} pool
 * @returns {() => string[]} the calls since it was asked last
 */
export function countCalls(pool) {
  const query = pool.query.bind(pool);
  /** @type {string[]} */
  let calls = [];
  pool.query = /** @type {any} */ (
    (/** @type {any} */ statement, /** @type {any[]} */ ...rest) => {
      calls.push(...((statement.text ?? statement).match(/session_\w+(?=\()/g) ?? []));
      return query(statement, ...rest);
    }
  );
  return () => calls.splice(0);
}
