/** Adds up what the suites of `make test` left in .rondo/test and prints one line; fails when a suite left nothing or ran no test. */
import { readFileSync } from "node:fs";

type Counts = { passed: number; failed: number; skipped: number };

function ofVitest(project: string): Counts {
  const report = JSON.parse(readFileSync(`.rondo/test/${project}.json`, "utf8"));
  return { passed: report.numPassedTests, failed: report.numFailedTests, skipped: report.numPendingTests };
}

function ofPytest(): Counts {
  const suite = readFileSync(".rondo/test/trainer.xml", "utf8").match(/<testsuite [^>]*>/)?.[0] ?? "";
  const attribute = (name: string) => Number(suite.match(new RegExp(`\\b${name}="(\\d+)"`))?.[1] ?? Number.NaN);
  const failed = attribute("errors") + attribute("failures");
  return { passed: attribute("tests") - failed - attribute("skipped"), failed, skipped: attribute("skipped") };
}

const suites = {
  unit: ofVitest("unit"),
  trainer: ofPytest(),
  integration: ofVitest("integration"),
  e2e: ofVitest("e2e"),
};
for (const [suite, { passed, failed, skipped }] of Object.entries(suites)) {
  console.log(`${suite}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  if (!(passed > 0) || failed > 0) process.exitCode = 1;
}
const total = (key: keyof Counts) => Object.values(suites).reduce((sum, counts) => sum + counts[key], 0);
console.log(`${total("passed")} passed, ${total("failed")} failed`);
