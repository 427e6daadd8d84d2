/** A measured program: started once, asked several times. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { launcher, PATH } from "../launcher.ts";

export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #dead: Promise<never>;

  /** @param file  bundled */
  constructor(role: "agent" | "operator", file: string) {
    const env = { ...process.env, PATH };
    this.#child = fork(role, { execPath: launcher(file), execArgv: [], serialization: "advanced", env });
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
