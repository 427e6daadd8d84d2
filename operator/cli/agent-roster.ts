/**
 * `rondo agent roster`: whose keys this site masks against, for the person who compares them with the other sites; and `roster accept`.
 * Holds: a person sees the same fingerprint at every site that has the same key; a key is accepted only by its own fingerprint.
 */
import { readFile } from "node:fs/promises";
import { parseAgentConfig } from "../agent/config.ts";
import { adminSocket, askAgent } from "../agent/local.ts";
import type { RosterEntry, RosterView } from "../agent/roster.ts";

interface RosterOptions {
  config: string;
  output: string;
}

export async function roster({ config, output }: RosterOptions): Promise<void> {
  const view = await askAgent<RosterView>(await socketOf(config), "GET", "/v1/roster");
  process.stdout.write(output === "json" ? `${JSON.stringify(view, null, 2)}\n` : rosterText(view));
}

export async function accept(
  participant: string,
  { config, federation, fingerprint }: { config: string; federation?: string; fingerprint: string },
): Promise<void> {
  const wanted = { participant, fingerprint, ...(federation ? { federation } : {}) };
  const pinned = await askAgent<{ federation: string; participant: string; fingerprint: string }>(
    await socketOf(config),
    "POST",
    "/v1/roster/accept",
    wanted,
  );
  process.stdout.write(
    `${pinned.participant} is now pinned with ${pinned.fingerprint} in ${pinned.federation}; it counts from the next round on.\n`,
  );
}

async function socketOf(config: string): Promise<string> {
  return adminSocket(parseAgentConfig(await readFile(config, "utf8"), config).dataDir);
}

/** A table for people, and what they are to do with it. */
export function rosterText(view: RosterView): string {
  const rows = view.entries.map((entry) => [
    entry.federation,
    entry.participant,
    entry.fingerprint,
    entry.since ? `${entry.since.slice(0, 16).replace("T", " ")} UTC` : "-",
    wordsFor(entry),
  ]);
  const table = columns([["FEDERATION", "PARTICIPANT", "FINGERPRINT", "SINCE", "STATE"], ...rows]);
  const nobody = "No other participant's key is known yet: the first plan of a secure round shows them.";
  return [
    `This site is ${view.participant}; the others must see its key as ${view.fingerprint}`,
    "",
    ...(rows.length > 0 ? table : [nobody]),
    "",
    ...advice(view),
    "",
  ].join("\n");
}

function wordsFor(entry: RosterEntry): string {
  switch (entry.state) {
    case "pinned":
      return entry.by === "accepted" ? "pinned, accepted by this site" : "pinned at first use";
    case "listed":
      return "pinned by policy.trust.roster";
    case "unused":
      return "not used: policy.trust.roster decides";
    case "proposed":
      return `NOT ACCEPTED, ${entry.replaces ? "another key" : "a new participant"}, shown in round ${entry.round}`;
    case "unlisted":
      return `NOT LISTED in policy.trust.roster, shown in round ${entry.round}`;
  }
}

function advice({ mode, entries }: RosterView): string[] {
  const first = entries.find(({ state }) => state === "proposed");
  return [
    "Compare each fingerprint with the site that it belongs to, by a way that does not lead through the operator: by telephone, in a",
    "meeting. An operator that enrolled these participants itself would see this site's delta, whatever is encrypted.",
    ...(mode === "firstUse"
      ? [
          "Trust is firstUse: what was pinned at first use is as honest as the operator was at that moment, until you have compared it.",
        ]
      : ["Trust is pinned: rounds with any key that policy.trust.roster does not list are refused."]),
    ...(first
      ? [
          "",
          "Rounds with a key that is not accepted are refused (RosterChanged). Once its owner has confirmed it:",
          `  rondo agent roster accept ${first.participant} --federation ${first.federation} --fingerprint ${first.fingerprint}`,
        ]
      : []),
  ];
}

function columns(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
}
