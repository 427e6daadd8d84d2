/**
 * Where the file of a worker thread lies: beside its folder when the sources run unbuilt, and under the same
 * relative name in dist/ when esbuild has bundled the program (scripts/bundle.ts lists every worker as an entry).
 */
export function threadFile(path: "journal/worker" | "controllers/round/sum-worker"): URL {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`./${path}.${extension}`, import.meta.url);
}
