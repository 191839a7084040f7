/**
 * A private PostgreSQL with session_store and a private Redis, which the test file owns, and their faults.
 *
 * SS_BINDIR names the programs of PostgreSQL (default: what pg_config says), SS_REDIS_SERVER the Redis (default:
 * redis-server or valkey-server). Servers listen on sockets in a temporary folder. A guard holds the other end of a
 * pipe: when that closes, because stop() closes it or because this process ends in whatever way, it stops the
 * servers by their process ids and removes the folder.
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { appendFile, chown, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";

const LIMIT = 120_000; // ms: for machines that are busy

/**
 * Waits until the predicate returns what is true, and returns that; an error counts as not yet.
 * @template T
 * @param {() => T | Promise<T>} predicate
 * @param {string} [what] what is waited for
 * @returns {Promise<NonNullable<T>>}
 */
export async function waitUntil(predicate, what = String(predicate), limit = LIMIT) {
  const deadline = Date.now() + limit;
  for (let ms = 5; ; ms = Math.min(ms * 2, 100)) {
    let why;
    try {
      const result = await predicate();
      if (result) return result;
    } catch (error) {
      why = error;
    }
    if (Date.now() > deadline) throw new Error(`timed out waiting until ${what}`, { cause: why });
    await pause(ms);
  }
}

function onPath(/** @type {string[]} */ ...names) {
  const folders = (process.env.PATH ?? "").split(delimiter);
  for (const name of names)
    for (const dir of folders) if (existsSync(join(dir, name))) return join(dir, name);
  throw new Error(`not on the path: ${names}`);
}

/** A server refuses to run as root, whose servers are started as "postgres". */
function unprivileged() {
  if (process.getuid?.() !== 0) return {};
  const id = (/** @type {string} */ of) => Number(execFileSync("id", [of, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

const guard = fileURLToPath(new URL("../../../../test/clients/guard", import.meta.url));

export class Servers {
  /**
   * @param {string} folder
   * @param {{redis?: boolean, extension?: boolean, settings?: Record<string, unknown>, redisSettings?: string[]}} how
   */
  constructor(folder, how) {
    this.folder = folder;
    this.how = how;
    /** for new pg.Pool() and new pg.Client() */
    this.pg = { host: folder, port: 5432, user: "postgres", database: "postgres" };
    /** for programs */
    this.env = {
      PGHOST: folder,
      PGPORT: "5432",
      PGUSER: "postgres",
      PGDATABASE: "postgres",
      SS_REDIS_SOCKET: join(folder, "redis/socket"),
    };
    /** @type {any} for createClient() of node-redis; ioredis takes { path: redisSocket } */
    this.redis = { socket: { path: this.env.SS_REDIS_SOCKET } };
    this.redisSocket = this.env.SS_REDIS_SOCKET;
    this.redisUrl = `unix://${this.redisSocket}`; // as redis-py and session_store.redis_url have it
    const as = unprivileged();
    this.options = { ...as, cwd: folder, env: { ...process.env, LC_ALL: "C.UTF-8", HOME: folder } };
    this.guard = spawn("/bin/sh", [guard], {
      ...this.options,
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    this.guard.unref();
    const { stdin } = this.guard;
    if (stdin && "unref" in stdin && typeof stdin.unref === "function") stdin.unref();
  }

  /** @param {string} program @param {string[]} args */
  async #run(program, ...args) {
    await promisify(execFile)(program, args, this.options);
  }

  get #bindir() {
    return process.env.SS_BINDIR ?? execFileSync("pg_config", ["--bindir"], { encoding: "utf8" }).trim();
  }

  async init() {
    const data = join(this.folder, "data");
    const how = [
      "-U",
      this.pg.user,
      "-A",
      "trust",
      "-E",
      "UTF8",
      "--locale=C.UTF-8",
      "-N",
      "--no-instructions",
    ];
    await this.#run(join(this.#bindir, "initdb"), "-D", data, ...how);
    /** @type {Record<string, unknown>} */
    const settings = {
      listen_addresses: "",
      unix_socket_directories: this.folder,
      port: this.pg.port,
      fsync: "off",
      shared_preload_libraries: "session_store",
      ...(this.how.redis === false ? {} : { "session_store.redis_url": this.redisUrl }),
      ...this.how.settings,
    };
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${String(value).replace(/'/g, "''")}'\n`,
    );
    await appendFile(join(data, "postgresql.conf"), lines.join(""));
    if (this.how.redis !== false) {
      const dir = join(this.folder, "redis");
      await this.#run("/bin/mkdir", dir);
      const conf = [
        "port 0",
        `unixsocket ${this.redisSocket}`,
        `dir ${dir}`,
        `pidfile ${dir}/redis.pid`,
        `logfile ${dir}/log`,
      ];
      conf.push("daemonize yes", 'save ""', ...(this.how.redisSettings ?? []));
      await writeFile(join(dir, "conf"), conf.join("\n") + "\n");
      await this.startRedis();
    }
    await this.startPostgres();
    if (this.how.extension !== false) await this.sql("CREATE EXTENSION session_store");
  }

  /**
   * Runs a statement on a connection of its own and returns its rows; without values, there may be several statements.
   * @param {string} text
   * @param {unknown[]} [values]
   * @returns {Promise<any[]>}
   */
  async sql(text, values) {
    const client = new pg.Client(this.pg);
    client.on("error", () => {}); // the statement tells
    await client.connect();
    try {
      const result = await client.query(text, values);
      return /** @type {any} */ (Array.isArray(result) ? result.at(-1) : result).rows;
    } finally {
      await client.end().catch(() => {});
    }
  }

  /** The first column of the first row. @param {string} text @param {unknown[]} [values] @returns {Promise<any>} */
  async value(text, values) {
    return Object.values((await this.sql(text, values))[0] ?? {})[0];
  }

  /** Waits until strong readers may trust Redis, and everything that was committed is there. */
  async cacheReady() {
    await waitUntil(
      async () =>
        (await this.redisCommand("EXISTS", "session_store:lease")) === ":1" &&
        (await this.value("SELECT session_cache_sync('1 s')")),
      "the cache is up",
    );
  }

  /** @param {"start" | "stop"} action @param {string[]} args */
  async #pgCtl(action, ...args) {
    const where = ["-D", join(this.folder, "data"), "-t", `${LIMIT / 1000}`];
    await this.#run(join(this.#bindir, "pg_ctl"), action, "-s", "-w", ...where, ...args);
  }

  async startPostgres() {
    const log = join(this.folder, "log");
    try {
      await this.#pgCtl("start", "-l", log);
    } catch (error) {
      const text = await readFile(log, "utf8").catch(() => "");
      throw new Error(`the server does not start: ${text.slice(-2000)}`, { cause: error });
    }
  }

  /** @param {"fast" | "immediate" | "smart"} mode */
  async stopPostgres(mode = "fast") {
    await this.#pgCtl("stop", "-m", mode);
  }

  /** @param {"fast" | "immediate" | "smart"} mode */
  async restartPostgres(mode = "fast") {
    await this.stopPostgres(mode);
    await this.startPostgres();
  }

  async startRedis() {
    const given = process.env.SS_REDIS_SERVER;
    const program = given?.includes("/")
      ? given
      : onPath(...(given ? [given] : ["redis-server", "valkey-server"]));
    await this.#run(program, join(this.folder, "redis/conf"));
    await waitUntil(async () => (await this.redisCommand("PING")) === "+PONG", "Redis runs");
  }

  async #redisPid() {
    return Number(await readFile(join(this.folder, "redis/redis.pid"), "utf8"));
  }

  /** Redis takes connections and answers nothing, until it is resumed. */
  async hangRedis() {
    process.kill(await this.#redisPid(), "SIGSTOP");
  }

  async resumeRedis() {
    process.kill(await this.#redisPid(), "SIGCONT");
  }

  /** Redis is gone, with all that it held. */
  async killRedis() {
    const pid = await this.#redisPid();
    process.kill(pid, "SIGKILL");
    await waitUntil(() => !existsSync(`/proc/${pid}/cwd`), "Redis is gone");
    await rm(this.redisSocket, { force: true });
    await rm(join(this.folder, "redis/redis.pid"), { force: true });
  }

  async restartRedis() {
    await this.killRedis();
    await this.startRedis();
  }

  /**
   * The first line of an answer of Redis, as it came (+PONG, :1, $3); needs no client library.
   * @param {string[]} args
   * @returns {Promise<string>}
   */
  async redisCommand(...args) {
    const socket = connect(this.redisSocket);
    socket.setTimeout(5000, () => socket.destroy(new Error("Redis does not answer")));
    try {
      socket.write(`*${args.length}\r\n${args.map((a) => `$${Buffer.byteLength(a)}\r\n${a}\r\n`).join("")}`);
      let answer = "";
      for await (const part of socket) {
        answer += part;
        if (answer.includes("\r\n")) break;
      }
      return answer.split("\r\n")[0];
    } finally {
      socket.destroy();
    }
  }

  /** Nothing is left: no process and no folder. */
  async stop() {
    if (this.guard.exitCode !== null || this.guard.signalCode !== null) return;
    this.guard.ref();
    this.guard.stdin?.end();
    await once(this.guard, "exit");
  }
}

/**
 * Starts servers; `after(() => servers.stop())` ends them.
 *
 * - redis: false for a server without a cache
 * - extension: false if the test creates it
 * - settings: of PostgreSQL, by their names
 * - redisSettings: lines of redis.conf
 * @param {{redis?: boolean, extension?: boolean, settings?: Record<string, unknown>, redisSettings?: string[]}} [how]
 */
export async function startServers(how = {}) {
  const folder = await mkdtemp(join(tmpdir(), "ss-"));
  const { uid, gid } = unprivileged();
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid);
  const servers = new Servers(folder, how);
  try {
    await servers.init();
    return servers;
  } catch (error) {
    await servers.stop();
    throw error;
  }
}
