/**
 * What every benchmark leaves: a table for people and `.rondo/bench/NAME.json` for comparisons, with machine and commit.
 * Does not: judge. A missed bar is printed and recorded; the figure is what it is.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";

export interface Result {
  name: string;
  value: number;
  unit: string;
  /** What it is compared with, and its figure from the same run. */
  peer?: string;
  peerValue?: number;
  /** value / peerValue */
  ratio?: number;
  /** As a sentence: "< 3 s". */
  bar?: string;
  met?: boolean;
}

export interface Report {
  machine: { cpu: string; cores: number; memoryGiB: number; kernel: string; node: string; load1: number };
  commit: string;
  /** The command and whatever a reader must know to repeat or to doubt the figures. */
  command: string;
  notes: string[];
  results: Result[];
}

const ROOT = join(import.meta.dirname, "../..");

/** A figure against a peer's: better is smaller. */
export function against(result: Pick<Result, "name" | "value" | "unit">, peer: string, peerValue: number): Result {
  const ratio = round(result.value / peerValue, 4);
  return { ...result, peer, peerValue, ratio, bar: `less than ${peer}`, met: result.value < peerValue };
}

/** A figure against a peer's that it must beat by this factor: better is smaller. */
export function timesFaster(
  result: Pick<Result, "name" | "value" | "unit">,
  peer: string,
  peerValue: number,
  factor: number,
): Result {
  const ratio = round(result.value / peerValue, 4);
  return { ...result, peer, peerValue, ratio, bar: `${factor} times less than ${peer}`, met: ratio * factor <= 1 };
}

/** A figure against a peer's of which it must reach this share: better is larger. */
export function atLeast(
  result: Pick<Result, "name" | "value" | "unit">,
  peer: string,
  peerValue: number,
  share: number,
): Result {
  const ratio = round(result.value / peerValue, 4);
  return { ...result, peer, peerValue, ratio, bar: `at least ${share} of ${peer}`, met: ratio >= share };
}

/** A figure against a fixed bar: smaller is better. */
export function below(result: Pick<Result, "name" | "value" | "unit">, bar: number): Result {
  return { ...result, bar: `< ${bar} ${result.unit}`, met: result.value < bar };
}

/** A figure against a fixed bar: larger is better. */
export function above(result: Pick<Result, "name" | "value" | "unit">, bar: number): Result {
  return { ...result, bar: `> ${bar} ${result.unit}`, met: result.value > bar };
}

export function writeReport(name: string, results: Result[], notes: string[]): void {
  const report: Report = { machine: machine(), commit: commit(), command: `make bench NAME=${name}`, notes, results };
  const folder = join(ROOT, ".rondo/bench");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
  console.log(table(report));
}

export function table({ machine, commit, notes, results }: Report): string {
  const rows = results.map((result) => [
    result.name,
    `${result.value} ${result.unit}`,
    result.peer === undefined ? "" : `${result.peer}: ${result.peerValue}`,
    result.ratio === undefined ? "" : `${result.ratio}`,
    result.bar ?? "",
    result.met === undefined ? "" : result.met ? "met" : "MISSED",
  ]);
  const head = ["figure", "value", "peer", "ratio", "bar", ""];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join("  ")
      .trimEnd();
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node ${machine.node}, load ${machine.load1}, commit ${commit}`,
    "",
    line(head),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map(line),
    "",
    ...notes,
  ].join("\n");
}

function machine(): Report["machine"] {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.versions.node,
    load1: round(loadavg()[0]!, 2),
  };
}

/** The commit, with a plus when the tree differs from it. */
function commit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
  try {
    const isClean = git("status", "--porcelain", "--untracked-files=no") === "";
    return `${git("rev-parse", "--short", "HEAD")}${isClean ? "" : "+"}`;
  } catch {
    return "unknown";
  }
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
