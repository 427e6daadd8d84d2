/** Runs kubectl, helm and Python for the demo; a failure carries the program's own last words. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { binDir, cacheDir } from "../cluster/layout.ts";

const binary = (name: string) => join(binDir, name);
export const python = join(cacheDir, "venv", "bin", "python");

/** @throws Error naming the command and the end of its standard error */
export function run(
  program: string,
  args: string[],
  { input = "", env = {} as Record<string, string> } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      err += text;
    });
    child.stdin.on("error", () => {}); // a program that ends early closes its input; its exit code says why
    child.stdin.end(input);
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(out);
      else {
        const command = [program.split("/").at(-1), ...args].join(" ").slice(0, 200);
        reject(new Error(`\`${command}\` ended with ${code}: ${(err || out).trim().slice(-1500)}`));
      }
    });
  });
}

export class Kubectl {
  readonly kubeconfig: string;

  constructor(kubeconfig: string) {
    this.kubeconfig = kubeconfig;
  }

  run(args: string[], input = ""): Promise<string> {
    return run(binary("kubectl"), ["--kubeconfig", this.kubeconfig, ...args], { input });
  }

  async apply(objects: object[]): Promise<void> {
    await this.run(
      ["apply", "--server-side", "-f", "-"],
      objects.map((object) => JSON.stringify(object)).join("\n---\n"),
    );
  }

  async json<T>(args: string[]): Promise<T> {
    return JSON.parse(await this.run([...args, "-o", "json"])) as T;
  }

  /** Installs a chart, or upgrades it, and waits until its pods are ready. */
  async install(release: string, chart: string, namespace: string, values: object): Promise<void> {
    await run(
      binary("helm"),
      ["upgrade", "--install", release, chart, "-n", namespace, "-f", "-", "--wait", "--timeout", "3m"],
      { input: JSON.stringify(values), env: { KUBECONFIG: this.kubeconfig } },
    );
  }
}
