/** A measured program: started once, asked several times. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";

/** As images/operator/rondo starts operator and agent. */
const NODE_OPTIONS = ["--max-semi-space-size=2", "--heap-growing-percent=300"];
const ENVIRONMENT = { MALLOC_ARENA_MAX: "2" };

export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #dead: Promise<never>;

  constructor(file: string) {
    const env = { ...process.env, ...ENVIRONMENT };
    this.#child = fork(file, { serialization: "advanced", execArgv: NODE_OPTIONS, env });
    this.#dead = once(this.#child, "exit").then(() => {
      throw new Error("a measured process ended; what it said stands above");
    });
    this.#dead.catch(() => undefined); // ending is fine while nothing is asked
  }

  /** One question at a time. */
  async ask<T>(message: object): Promise<T> {
    this.#child.send(message);
    const [answer] = (await Promise.race([once(this.#child, "message"), this.#dead])) as [T];
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill();
    await ended;
  }
}
