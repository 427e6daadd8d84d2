/**
 * Every fault that a federation may meet, at each moment of a round where it makes sense, on real clusters (faults/*.ts). `make chaos` runs all
 * with outages of two minutes and writes the table to docs/reliability.md; `make test` a selection with short ones.
 *   RONDO_CHAOS=all       every fault; or the slugs of some, with commas between
 *   RONDO_CHAOS_OUTAGE    seconds
 *   RONDO_CHAOS_TABLE     the page that gets the table
 */
import { appendFileSync, mkdirSync, rmSync } from "node:fs";
import { cpus } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../failures/rounds.ts";
import { Arena } from "./arena.ts";
import { attempts } from "./faults/attempts.ts";
import { crashes } from "./faults/crashes.ts";
import { losses } from "./faults/losses.ts";
import { outages } from "./faults/outages.ts";
import { people } from "./faults/people.ts";
import { surroundings } from "./faults/surroundings.ts";
import { trainers } from "./faults/trainers.ts";
import { spooled } from "./left.ts";
import { run } from "./run.ts";
import { markdown, plain, type Row, writeInto } from "./table.ts";

const wanted = process.env.RONDO_CHAOS ?? "";
const outageMs = 1000 * Number(process.env.RONDO_CHAOS_OUTAGE ?? 5);
const table = process.env.RONDO_CHAOS_TABLE;
const LOG = ".rondo/logs/chaos.log";
/** For whoever wants to make a table of a run that was ended. */
const ROWS = ".rondo/logs/chaos-rows.jsonl";

const all = [...crashes, ...outages, ...surroundings, ...trainers, ...attempts, ...people, ...losses];
const chosen = all.filter(({ slug, quick }) =>
  wanted === "all" ? true : wanted ? wanted.split(",").includes(slug) : quick,
);

let arena: Arena;
const rows: Row[] = [];
const startedMs = Date.now();

beforeAll(async () => {
  arena = await Arena.open(outageMs);
  mkdirSync(".rondo/logs", { recursive: true });
  for (const file of [LOG, ROWS]) rmSync(file, { force: true });
});
afterAll(async () => {
  await arena?.close();
  const minutes = ((Date.now() - startedMs) / 60_000).toFixed(0);
  const about = `${new Set(rows.map(({ fault }) => fault)).size} faults, ${rows.length} rounds, ${minutes} minutes on ${cpus().length} cores; outages of ${outageMs / 1000} s.`;
  say(about);
  if (table) writeInto(table, markdown(rows, { about }));
});

test.each(chosen)("$name", { timeout: 1_800_000 }, async (fault) => {
  try {
    const made = await run(arena, fault, outageMs);
    rows.push(...made);
    for (const row of made) {
      say(plain(row));
      appendFileSync(ROWS, `${JSON.stringify(row)}\n`);
    }
    expect(made.map(({ problem }) => problem).filter(Boolean)).toEqual([]);
    expect(made.flatMap(({ left }) => left)).toEqual([]);
    await eventually(() => expect(spooled(arena.under)).toEqual([]));
  } catch (error) {
    say(`${fault.name}: ${(error as Error).message.slice(0, 400)}`);
    throw error;
  } finally {
    await fault.restore?.(arena);
    await arena.mend();
  }
});

function say(line: string): void {
  console.log(line);
  appendFileSync(LOG, `${line}\n`);
}
