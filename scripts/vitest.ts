/**
 * Runs one vitest project (`node scripts/vitest.ts unit [vitest arguments]`) and leaves its counts in
 * .rondo/test/<project>.json for test-summary.ts. Exits as vitest does.
 */
import { spawnSync } from "node:child_process";

const [project, ...rest] = process.argv.slice(2);
if (!project) {
  console.error("Usage: node scripts/vitest.ts unit|integration|e2e [vitest arguments]");
  process.exit(64);
}
const { status } = spawnSync(
  process.execPath,
  [
    "node_modules/vitest/vitest.mjs",
    "run",
    "--project",
    project,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=.rondo/test/${project}.json`,
    ...rest,
  ],
  { stdio: "inherit" },
);
process.exit(status ?? 1);
