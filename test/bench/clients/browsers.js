// node browsers.js SOCKET BROWSERS SESSIONS SECONDS: browsers that come back; prints requests a second.
//
// Each browser has a connection that it keeps, and sessions of its own that it takes turns with. A request reads the
// session, every fourth changes it. An answer that is not that of the session ends the program.
import assert from "node:assert/strict";
import http from "node:http";

const [socketPath, count, sessions, seconds] = process.argv.slice(2).map((value, i) => (i ? Number(value) : value));

function request(agent, method, path, cookie) {
  return new Promise((resolve, reject) => {
    const headers = cookie ? { cookie } : {};
    http.request({ socketPath, agent, method, path, headers }, (res) => {
      let body = "";
      res.setEncoding("utf8").on("data", (data) => (body += data)).on("end", () => {
        if (res.statusCode !== 200) return reject(new Error(`${res.statusCode}: ${body}`));
        resolve({ ...JSON.parse(body), cookie: res.headers["set-cookie"]?.[0].split(";")[0] });
      }).on("error", reject);
    }).on("error", reject).end();
  });
}

class Browser {
  agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  sessions = [];

  async begin(count) {
    for (let i = 0; i < count; i++) {
      const { user, cookie } = await request(this.agent, "POST", "/cart");
      this.sessions.push({ user, cookie, visits: 1 });
    }
  }

  async go(until) {
    let done = 0;
    for (; performance.now() < until; done++) {
      const session = this.sessions[done % this.sessions.length];
      const changes = done % 4 === 3;
      const { user, visits } = await request(this.agent, changes ? "POST" : "GET", "/cart", session.cookie);
      if (changes) session.visits++;
      assert.deepEqual({ user, visits }, { user: session.user, visits: session.visits });
    }
    return done;
  }
}

const browsers = Array.from({ length: count }, () => new Browser());
await Promise.all(browsers.map((browser) => browser.begin(Math.ceil(sessions / count))));
const begun = performance.now();
const done = await Promise.all(browsers.map((browser) => browser.go(begun + seconds * 1000)));
console.log(((done.reduce((a, b) => a + b) * 1000) / (performance.now() - begun)).toFixed(1));
for (const browser of browsers) browser.agent.destroy();
