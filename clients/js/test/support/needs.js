import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** @param {string} range of package.json @param {number[]} version */
export function allows(range, version) {
  const comparators = /(>=|<=|>|<|\^|~|=)?\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?/g;
  return range.split("||").some((part) =>
    [...part.matchAll(comparators)].every(([, operator = "^", ...numbers]) => {
      const wanted = numbers.map((n) => Number(n ?? 0));
      const at = wanted.findIndex((n, i) => n !== version[i]);
      const order = at < 0 ? 0 : version[at] - wanted[at];
      if (operator === "^") return order >= 0 && version[0] === wanted[0];
      if (operator === "~") return order >= 0 && version[0] === wanted[0] && version[1] === wanted[1];
      if (operator === "=") return order === 0;
      return operator[0] === ">" ? order > 0 || (order === 0 && operator === ">=") : order < 0;
    }),
  );
}

/**
 * Why packages of ours, or their peers, do not run on this Node, by their own word; false if they do:
 *
 *   test("the suite", { skip: needs("vitest") }, () => ..);
 * @param {string[]} packages
 * @returns {string | false}
 */
export function needs(...packages) {
  const version = process.versions.node.split(".").map(Number);
  for (const name of packages) {
    const manifest = read(name);
    if (!manifest) return `${name} is not installed`;
    const { peerDependencies = {}, peerDependenciesMeta: meta = {} } = manifest;
    const peers = Object.keys(peerDependencies)
      .filter((peer) => !meta[peer]?.optional)
      .map((peer) => [peer, read(peer)]);
    for (const [wants, { engines } = {}] of [[name, manifest], ...peers])
      if (wants !== "redis" && engines?.node && !allows(engines.node, version))
        // redis does run on Node 18
        return `${wants} wants Node ${engines.node}`;
  }
  return false;
}

/** @param {string} name @returns {any} its package.json */
function read(name) {
  const file = fileURLToPath(new URL(`../../node_modules/${name}/package.json`, import.meta.url));
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
}
