/**
 * An operator or an agent from the fault-injection build, in a process of its own with a volume of its own, started again whenever it has
 * ended, as kubelet would. Its folder holds `log`, `effects.txt` and the order that it was given (hook.ts).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Moment, Order } from "./names.ts";

export interface ProgramParts {
  name: string;
  /** Of the build, with its arguments; `CONFIG` and `KUBECONFIG` stand for the files. */
  argv: readonly string[];
  config: object;
  kubeconfig: string;
  folder: string;
  metricsPort: number;
}

export class Program {
  readonly #parts: ProgramParts;
  #child: ChildProcess | undefined;
  #stopped = false;
  #restarts = true;
  /** Ends that nobody ordered: "exit 1", … */
  readonly surprises: string[] = [];

  constructor(parts: ProgramParts) {
    this.#parts = parts;
    mkdirSync(this.dataDir, { recursive: true });
    writeFileSync(this.#path("config.yaml"), JSON.stringify({ ...parts.config, dataDir: this.dataDir })); // JSON is YAML
  }

  get dataDir(): string {
    return this.#path("data");
  }

  /** Resolves when it is ready for the first time. */
  async start(): Promise<void> {
    this.#spawn();
    await this.ready();
  }

  async ready(): Promise<void> {
    for (const endMs = Date.now() + 30_000; Date.now() < endMs; await sleep(30)) if (await this.#isReady()) return;
    throw new Error(`${this.#parts.name} is not ready: ${this.lastLines()}`);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  /** From now on a death is for good, until revive(). */
  leaveDead(): void {
    this.#restarts = false;
  }

  async revive(): Promise<void> {
    this.#restarts = true;
    if (this.#child?.exitCode !== null || this.#child.signalCode !== null) this.#spawn();
    await this.ready();
  }

  give(order: Order): void {
    // Whole or not at all: the program reads it at any time.
    rmSync(this.#path("order.json"), { force: true });
    writeFileSync(this.#path("order.json"), JSON.stringify(order));
  }

  wasKilledIn(id: string): boolean {
    return existsSync(this.#path(`killed-${id}.json`));
  }

  /** In the order in which they happened. */
  effectsOf(id: string): Moment[] {
    const file = this.#path("effects.txt");
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    return lines
      .map((line) => line.split("\t") as [string, string, string])
      .filter(([of]) => of === id)
      .map(([, nth, effect]) => ({ effect, nth: Number(nth) }));
  }

  lastLines(): string {
    return readFileSync(this.#path("log"), "utf8").split("\n").slice(-15).join("\n");
  }

  #spawn(): void {
    const { argv, kubeconfig, folder } = this.#parts;
    const out = openSync(this.#path("log"), "a");
    // It ends with the test process, however that ends.
    const files: Record<string, string> = { CONFIG: this.#path("config.yaml"), KUBECONFIG: kubeconfig };
    const program = [process.execPath, ...argv.map((word) => files[word] ?? word)];
    this.#child = spawn("setpriv", ["--pdeathsig", "KILL", ...program], {
      stdio: ["ignore", out, out],
      env: { ...process.env, RONDO_FAULTS_FOLDER: folder },
    });
    closeSync(out);
    this.#child.once("exit", (code, signal) => {
      if (this.#stopped) return;
      if (signal !== "SIGKILL") this.surprises.push(signal ?? `exit ${code}: ${this.lastLines()}`);
      if (this.#restarts) this.#spawn();
    });
  }

  async #isReady(): Promise<boolean> {
    const answer = await fetch(`http://127.0.0.1:${this.#parts.metricsPort}/readyz`).catch(() => undefined);
    await answer?.body?.cancel();
    return answer?.status === 200;
  }

  #path(name: string): string {
    return join(this.#parts.folder, name);
  }
}
