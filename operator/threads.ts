/**
 * Where the file of a worker thread lies: beside its folder when the sources run unbuilt, and under the same
 * relative name in dist/ when esbuild has bundled the program (scripts/bundle.ts makes every worker an entry).
 */
export const WORKERS = [
  "agent/masking-worker",
  "controllers/round/secure-sum-worker",
  "controllers/round/sum-worker",
  "controllers/round/unmask-worker",
  "journal/worker",
] as const;

export function threadFile(path: (typeof WORKERS)[number]): URL {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`./${path}.${extension}`, import.meta.url);
}
