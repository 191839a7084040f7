// The sixth request of a minute is refused.
import assert from "node:assert/strict";

const statuses = [];
for (let i = 0; i < 6; i++) statuses.push((await fetch(`http://127.0.0.1:${process.env.PORT}/login`)).status);
assert.deepEqual(statuses, [200, 200, 200, 200, 200, 429]);
