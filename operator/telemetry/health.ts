/**
 * Named checks behind /healthz (restart me) and /readyz (send me work).
 * A check answers undefined when all is well, else a sentence that says what is not.
 */
export type Check = () => string | undefined;

export class Health {
  readonly #live = new Map<string, Check>();
  readonly #ready = new Map<string, Check>();

  /** Only what a restart would mend: an API server that is down is not. */
  addLive(name: string, check: Check): void {
    this.#live.set(name, check);
  }

  addReady(name: string, check: Check): void {
    this.#ready.set(name, check);
  }

  /** One "name: sentence" for each check that fails. */
  liveFailures(): string[] {
    return failures(this.#live);
  }

  /** What is not live is not ready either. */
  readyFailures(): string[] {
    return [...failures(this.#live), ...failures(this.#ready)];
  }
}

function failures(checks: Map<string, Check>): string[] {
  const found: string[] = [];
  for (const [name, check] of checks) {
    const failure = check();
    if (failure !== undefined) found.push(`${name}: ${failure}`);
  }
  return found;
}
