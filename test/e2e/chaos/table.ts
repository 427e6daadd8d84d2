/** The table of a run, for people: printed as it grows, and kept in docs/reliability.md. */
import { readFileSync, writeFileSync } from "node:fs";
import type { Moment } from "./moments.ts";

export interface Row {
  fault: string;
  moment: Moment;
  outcome: string;
  /** From the fault to the round's end; NaN: it never came. */
  seconds: number;
  /** What was still there a minute after the end. */
  left: readonly string[];
  /** What is not as expected; empty: nothing. */
  problem: string;
}

const BEGIN = "<!-- make chaos writes from here -->";
const END = "<!-- to here -->";

export function markdown(rows: readonly Row[], { about }: { about: string }): string {
  const lines = rows.map((row, i) => {
    const name = rows[i - 1]?.fault === row.fault ? "" : row.fault;
    return `| ${[name, row.moment, row.outcome, seconds(row), row.left.length, row.problem ? "**no**" : "yes"].join(" | ")} |`;
  });
  return [
    about,
    "",
    "| fault | moment | outcome | seconds to the end | orphans | as expected |",
    "|---|---|---|---:|---:|---|",
    ...lines,
  ].join("\n");
}

/** One line, as soon as it is known. */
export function plain(row: Row): string {
  const all = [row.fault.padEnd(62), row.moment.padEnd(12), row.outcome.padEnd(34), seconds(row).padStart(6)];
  const left = row.left.length > 0 ? `\n    left: ${row.left.join(", ")}` : "";
  const problem = row.problem ? `\n    ${row.problem.split("\n").join("\n    ")}` : "";
  return `${all.join(" ")} s  ${row.left.length} left${left}${problem}`;
}

/** Replaces what stands between the two marks. */
export function writeInto(file: string, text: string): void {
  const page = readFileSync(file, "utf8");
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`${file} has no place for the table: ${BEGIN} … ${END}`);
  writeFileSync(file, `${page.slice(0, from + BEGIN.length)}\n${text}\n${page.slice(to)}`);
}

const seconds = (row: Row): string => (Number.isNaN(row.seconds) ? "—" : row.seconds.toFixed(0));
