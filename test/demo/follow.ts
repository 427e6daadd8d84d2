/**
 * Follows the rounds of a federation live. States come from the FederationRound; each participant's loss comes from its own
 * cluster (the trainer's last log line), because it never leaves there by any other way.
 */
import { setTimeout as wait } from "node:timers/promises";
import { AGGREGATED } from "../../operator/api/conditions.ts";
import { type FederationRound, isTerminal, type ParticipantStatusRow } from "../../operator/api/federation-round.ts";
import { bold, dim, green, LiveLines, red, say, yellow } from "./progress.ts";

export interface Follower {
  /** Every round of the federation, in the order of their numbers. */
  rounds(): Promise<FederationRound[]>;
  /** The newest loss that the participant's trainer has printed for this Job; undefined: none yet. */
  trainingLoss(participant: string, job: string): Promise<string | undefined>;
}

/**
 * Returns when `count` rounds have ended, each shown line by line.
 * @param limitMs gives up with an Error after this long without an end
 */
export async function followRounds(follower: Follower, count: number, limitMs: number): Promise<FederationRound[]> {
  const lines = new LiveLines();
  const untilMs = Date.now() + limitMs;
  const losses = new Losses(follower);
  let shown = 0;
  while (Date.now() < untilMs) {
    const rounds = await follower.rounds();
    for (const round of rounds.slice(shown)) {
      const rows = await Promise.all(participantsOf(round).map(async (row) => line(row, await losses.of(row))));
      lines.show([headline(round), ...rows, stepLine(round)]);
      if (!isTerminal(round.status.phase)) break;
      lines.release();
      outcome(round);
      shown += 1;
    }
    if (shown >= count) return rounds.slice(0, count);
    await wait(1000);
  }
  throw new Error(
    `${shown} of ${count} rounds ended within ${Math.round(limitMs / 60_000)} minutes; look with kubectl get fr,part -o wide.`,
  );
}

const participantsOf = (round: FederationRound) =>
  [...(round.status.participants ?? [])].sort((a, b) => a.name.localeCompare(b.name));

function headline({ metadata, status }: FederationRound): string {
  const seconds = Math.round((Date.now() - Date.parse(status.phaseTimes?.[0]?.at ?? new Date().toISOString())) / 1000);
  const rest = [status.contributions, process.stdout.isTTY ? `${seconds} s` : undefined];
  return `  ${bold(metadata.name ?? "")} ${status.phase ?? "Pending"} ${dim(rest.filter(Boolean).join(" "))}`;
}

/** What secure aggregation waits for, in the operator's own words; undefined before it has begun and once the candidate is made. */
export function aggregationStep({ conditions }: FederationRound["status"]): string | undefined {
  const aggregated = conditions?.find(({ type }) => type === AGGREGATED);
  return aggregated?.status === "Unknown" ? aggregated.message : undefined;
}

/** Always the last line of a block, also when it is empty: the lines above keep their places. */
function stepLine({ status }: FederationRound): string {
  const step = aggregationStep(status);
  return step ? `    ${dim(`secure aggregation: ${step}`)}` : "";
}

/** The newest loss of each Job, kept because a Job goes as soon as its delta is safe: at a fast site before the round is over. */
class Losses {
  readonly #follower: Follower;
  readonly #newest = new Map<string, string>();

  constructor(follower: Follower) {
    this.#follower = follower;
  }

  async of({ name, job }: ParticipantStatusRow): Promise<string | undefined> {
    if (!job) return undefined;
    const key = `${name}/${job}`;
    const printed = await this.#follower.trainingLoss(name, job).catch(() => undefined);
    if (printed) this.#newest.set(key, printed);
    return this.#newest.get(key);
  }
}

function line(row: ParticipantStatusRow, loss: string | undefined): string {
  const cells = [
    row.name.padEnd(14),
    paintState(row.state),
    (row.progress ?? "").padStart(8),
    loss ? `loss ${loss}` : "",
  ];
  return `    ${cells.join(" ")} ${dim(row.message ?? "")}`.trimEnd();
}

function paintState(state: ParticipantStatusRow["state"]): string {
  const padded = state.padEnd(12);
  if (state === "Contributed") return green(padded);
  if (["Refused", "Excluded", "Lost", "Failed"].includes(state)) return red(padded);
  return yellow(padded);
}

function outcome({ metadata, status }: FederationRound): void {
  const succeeded = status.conditions?.find(({ type }) => type === "Succeeded");
  const text = `${metadata.name} ${status.phase}: ${succeeded?.message ?? "no message"}`;
  say(`  ${status.phase === "Succeeded" ? green("✓") : red("✗")} ${text}`);
}
