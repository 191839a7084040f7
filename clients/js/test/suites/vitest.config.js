// Suites of frameworks that are written for vitest. test/support/vitest.js runs them.
export default {
  cacheDir: process.env.SS_VITEST_CACHE,
  test: {
    include: ["*.suite.js"],
    fileParallelism: false,
    testTimeout: 120_000, // for machines that are busy
    hookTimeout: 120_000,
  },
};
