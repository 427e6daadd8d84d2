/** Bundles the two measured programs as the image has them: one file each and one per worker thread. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { WORKERS } from "../../../operator/threads.ts";

const ROOT = join(import.meta.dirname, "../../..");
const OUT = join(ROOT, ".rondo/bench/secagg-dist");

/** @returns the programs' files */
export async function bundlePrograms(): Promise<Record<"agent" | "operator", string>> {
  await rm(OUT, { recursive: true, force: true });
  await build({
    absWorkingDir: ROOT,
    entryPoints: {
      "agent-process": "test/bench/secagg/agent-process.ts",
      "operator-process": "test/bench/secagg/operator-process.ts",
      ...Object.fromEntries(WORKERS.map((worker) => [worker, `operator/${worker}.ts`])),
    },
    outdir: OUT,
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node24",
    format: "esm",
    logLevel: "warning",
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
  });
  return { agent: join(OUT, "agent-process.js"), operator: join(OUT, "operator-process.js") };
}
