/** What the demo measured: the final table for people and .rondo/demo/summary.json for programs. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { bold, dim, green, red, say } from "./progress.ts";

export interface RoundSummary {
  name: string;
  phase: string;
  contributions: string;
  seconds: {
    planning: number;
    training: number;
    aggregating: number;
    evaluating: number;
    publishing: number;
    total: number;
  };
  adapter: { version: number; reference: string; digest: string } | null;
  bytesUp: number;
  bytesDown: number;
}

export interface DemoSummary {
  ok: boolean;
  rounds: RoundSummary[];
  /** Nats per token on each participant's private held-out text. */
  loss: { base: Record<string, number>; final: Record<string, number> };
  /** The same on text that no participant has. */
  lossElsewhere: { base: number; final: number } | null;
  seconds: { setUp: number; clusters: number; install: number; rounds: number; total: number };
  peakRssMiB: { operator: number; agent: number };
}

export function writeSummary(file: string, summary: DemoSummary): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(summary, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

export function printSummary(summary: DemoSummary): void {
  say();
  say(bold("Held-out loss (nats per token; each site measured its own)"));
  const row = (name: string, base: number, final: number) => {
    const change = final - base;
    const text = `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(3)}`;
    say(
      `  ${name.padEnd(28)}${base.toFixed(3).padStart(8)} → ${final.toFixed(3).padStart(7)}   ${(change < 0 ? green : red)(text)}`,
    );
  };
  for (const [name, base] of Object.entries(summary.loss.base)) row(name, base, summary.loss.final[name] ?? Number.NaN);
  if (summary.lossElsewhere) row("text that no site has", summary.lossElsewhere.base, summary.lossElsewhere.final);

  say();
  say(bold("Rounds (seconds)"));
  say(
    dim("  name                    contributions  planning  training  aggregating  publishing   total      up    down"),
  );
  for (const { name, contributions, seconds, bytesUp, bytesDown } of summary.rounds) {
    const cells = [seconds.planning, seconds.training, seconds.aggregating, seconds.publishing, seconds.total];
    const widths = [10, 10, 13, 12, 8];
    say(
      `  ${name.padEnd(24)}${contributions.padStart(13)}${cells.map((cell, index) => cell.toFixed(1).padStart(widths[index]!)).join("")}` +
        `${mebibytes(bytesUp)}${mebibytes(bytesDown)}`,
    );
  }
  say();
  say(bold("What the operator learnt (aggregation.privacy: secure)"));
  for (const line of learnt(summary.rounds)) say(`  ${line}`);

  const { setUp, clusters, install, rounds, total } = summary.seconds;
  say();
  say(
    `  set-up ${setUp.toFixed(0)} s, clusters ${clusters.toFixed(0)} s, install ${install.toFixed(0)} s, rounds ${rounds.toFixed(0)} s, ` +
      `in all ${total.toFixed(0)} s; peak memory: operator ${summary.peakRssMiB.operator} MiB, agent ${summary.peakRssMiB.agent} MiB`,
  );
}

/** What the rounds told the operator (docs/security-model.md): a line for each round, then one of the sites. */
export function learnt(rounds: readonly Pick<RoundSummary, "name" | "phase" | "contributions">[]): string[] {
  const ofRounds = rounds.map(({ name, phase, contributions }) => {
    const [members = "no"] = contributions.split("/");
    const sum = `one sum of ${members} masked deltas, with the sums of their weights and counters`;
    return `${name.padEnd(24)}${phase === "Succeeded" ? sum : "at most one sum: the round published nothing"}`;
  });
  return [
    ...ofRounds,
    `${"of each site".padEnd(24)}that it took part, when, and how many bytes; not its delta, its loss or how much text it has`,
  ];
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)}M`.padStart(8);
