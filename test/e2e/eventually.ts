/** Waits for something to become true in a cluster, where nobody calls back. Holds: every wait ends, and says for what it waited. */
import { setTimeout as delay } from "node:timers/promises";

/** @param check  true or undefined when it is there; a sentence says what is still amiss; what it throws counts as one */
export async function eventually(
  what: string,
  check: () => Promise<boolean | string | undefined> | boolean | string | undefined,
  limitMs = 60_000,
): Promise<void> {
  let amiss: unknown;
  for (const untilMs = Date.now() + limitMs; Date.now() < untilMs; await delay(300)) {
    try {
      const answer = await check();
      if (answer === undefined || answer === true) return;
      amiss = answer;
    } catch (error) {
      amiss = (error as Error).message;
    }
  }
  throw new Error(`${what}: not within ${limitMs / 1000} s${amiss ? ` (${amiss})` : ""}`);
}
