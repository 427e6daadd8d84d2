/**
 * Bundles the program into dist/: main.js, what its commands load on demand, and one file per worker thread (operator/threads.ts).
 * Holds: ES modules, tree-shaken, licence comments kept in a file of their own; nothing outside dist/ is needed but Node.
 * Usage: node scripts/bundle.ts [folder] [--fault-injection]   prints file sizes
 *   --fault-injection: a build for test/integration/faults, whose processes list their effects and die after a chosen one; with an
 *   agent-process.js, an agent that does not wait long before it connects again
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { WORKERS } from "../operator/threads.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { "fault-injection": { type: "boolean", default: false } },
});
const out = positionals[0] ?? join(root, "dist");

await rm(out, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: [
    ...["main", ...WORKERS].map((name) => ({ in: `operator/${name}.ts`, out: name })),
    ...(options["fault-injection"] ? [{ in: "test/integration/agent/agent-process.ts", out: "agent-process" }] : []),
  ],
  outdir: out,
  bundle: true,
  // A command is a chunk of its own, loaded when it is asked for: an agent does not carry the operator.
  splitting: true,
  platform: "node",
  target: "node24",
  format: "esm",
  sourcemap: "linked",
  legalComments: "linked",
  ...(options["fault-injection"] && { inject: ["test/integration/faults/hook.ts"] }),
  metafile: true,
  logLevel: "warning",
  // Packages in CommonJS call require(), which an ES module does not have.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});

for (const [file, { bytes }] of Object.entries(metafile.outputs).sort(([a], [b]) => a.localeCompare(b))) {
  if (file.endsWith(".js")) process.stdout.write(`${(bytes / 1024).toFixed(0).padStart(6)} KiB  ${file}\n`);
}
