/**
 * What every contender goes through: five sites of which four are enough, three rounds, and one fault in the second round. Only the
 * sites' training is played: it takes the seconds given here and returns what came in plus noise.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const SITES = 5;
export const MINIMUM = 4;
export const ROUNDS = 3;
export const FAULT_ROUND = 2;

export const FAULTS = {
  killedBefore: "a client is killed while it trains, and stays away",
  killedBeforeBack: "a client is killed while it trains, and is started again 5 s later",
  killedAfter: "a client is killed 5 s after it has trained, and stays away",
  killedAfterBack: "a client is killed 5 s after it has trained, and is started again 5 s later",
  nan: "a client sends NaN",
  serverKilled: "the server is killed, and started again 5 s later",
  serverCut: "the server is cut off from all clients for 60 s",
} as const;
export type Fault = keyof typeof FAULTS;

/** Seconds of training in the round with the fault: site 1 meets it, site 5 keeps the round open. Elsewhere one second. */
export const TRAINING_S = [2, 5, 5, 5, 25] as const;
export const BACK_AFTER_S = 5;
export const CUT_S = 60;

/** What was seen, as the system itself says it; sentences about it are written by whoever reads them (docs/reliability.md). */
export interface FaultRun {
  system: string;
  fault: string;
  /** The system's own word for how the run or job ended, or what it still said when nobody watched any longer. */
  outcome: string;
  roundsDone: number;
  /** Seconds that the round with the fault took; absent: it did not end. */
  roundSeconds?: number;
  /** Contributions that counted in it. */
  counted?: number;
  /** Numbers in the last model that are not finite. */
  nonFinite?: number;
  /** Seconds from the fault until the run was over or was watched no longer. */
  watchedSeconds: number;
  /** What a person sees: the last telling lines of the server's log, the console or status. */
  seen: string[];
}

/** What a system has to offer so that the five faults can be done to it. */
export interface Contender {
  /** Sites leave a file when they begin and when they have trained in the round with the fault. */
  marks: string;
  killSite(): void;
  startSite(): Promise<void>;
  killServer(): void;
  startServer(): Promise<void>;
  /** @returns undoes it */
  cutServer(): () => void;
}

/** Waits for the moment and does it. @returns when, in milliseconds since 1970 */
export async function inflict(fault: Fault, on: Contender): Promise<number> {
  const marked = (name: string) => waitFor(join(on.marks, name));
  let atMs = Date.now();
  if (fault === "nan") {
    await marked("trained-1");
    return Date.now();
  }
  if (fault === "serverKilled" || fault === "serverCut") {
    await marked("training-5");
    await sleep(3000);
    atMs = Date.now();
    if (fault === "serverKilled") {
      on.killServer();
      await sleep(BACK_AFTER_S * 1000);
      await on.startServer();
    } else {
      const heal = on.cutServer();
      await sleep(CUT_S * 1000);
      heal();
    }
    return atMs;
  }
  const isAfter = fault === "killedAfter" || fault === "killedAfterBack";
  await marked(isAfter ? "trained-1" : "training-1");
  await sleep(isAfter ? 5000 : 1000);
  atMs = Date.now();
  on.killSite();
  if (fault === "killedAfterBack" || fault === "killedBeforeBack") {
    await sleep(BACK_AFTER_S * 1000);
    await on.startSite();
  }
  return atMs;
}

/** A busy machine takes minutes to start a dozen Python processes. */
const MARK_LIMIT_MS = 600_000;

async function waitFor(file: string): Promise<void> {
  const deadline = Date.now() + MARK_LIMIT_MS;
  while (!existsSync(file)) {
    if (Date.now() > deadline) throw new Error(`the run did not come to ${file}`);
    await sleep(50);
  }
}
