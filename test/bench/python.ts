/** Runs a Python program of a benchmark in the environment that the trainer's tests have. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { cacheDir } from "../cluster/layout.ts";

/**
 * @param label  before each line of what it says on stderr, which is shown as it comes
 * @returns what it printed on stdout, which is one JSON document
 * @throws Error with the end of what it said
 */
export function pythonJson<T>(args: readonly string[], label: string): Promise<T> {
  const child = spawn(join(cacheDir, "venv/bin/python"), args, { stdio: ["ignore", "pipe", "pipe"] });
  let [printed, said] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    printed += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    said = (said + chunk).slice(-4000);
    process.stderr.write(chunk.replace(/^(?=.)/gm, `  ${label}: `));
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject).once("close", (code) => {
      if (code === 0) resolve(JSON.parse(printed) as T);
      else reject(new Error(`${label}: python ${args.join(" ")} ended with ${code}: ${said}`));
    });
  });
}
