/** Asks flower_secagg.py, which runs the functions of the installed package. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { peerEnvironment } from "../peers/environment.ts";

export interface FlowerQuestion {
  do: "masking" | "unmasking";
  clients: number;
  parameters: number;
  dropped?: number;
}

export interface FlowerAnswer {
  seconds: number;
  /** Of unmasking: less the strategy's own pass over as many copies of the result as there are clients. */
  withoutStrategySeconds?: number;
  /** Of masking: what the client sends. */
  bytesPerParameter?: number;
}

export class Flower implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #dead: Promise<never>;

  private constructor(python: string) {
    const env = { ...process.env, FLWR_TELEMETRY_ENABLED: "0" };
    const script = join(import.meta.dirname, "flower_secagg.py");
    this.#child = spawn(python, [script], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#dead = once(this.#child, "exit").then(() => {
      throw new Error("Flower's functions failed; what they said stands above");
    });
    this.#dead.catch(() => undefined); // ending is fine while nothing is asked
  }

  static async start(): Promise<Flower> {
    return new Flower(join(await peerEnvironment("flower"), "python"));
  }

  /** The first question of its kind and size also prepares what later ones use. */
  async ask(question: FlowerQuestion): Promise<FlowerAnswer> {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    const [line] = (await Promise.race([once(this.#lines, "line"), this.#dead])) as [string];
    return JSON.parse(line) as FlowerAnswer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.stdin.end();
    await ended;
  }
}
