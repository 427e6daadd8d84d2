/**
 * Every reason that the code can give has a row in docs/troubleshooting.md, and no row is about a reason that nobody gives.
 * How reasons are found: whatever CamelCase word the sources write as a string, or as a key of a table, is a reason until SOMETHING_ELSE says
 * what else it is. Whoever adds a word is thus asked what a person shall do about it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { expect, test } from "vitest";
import { OUT } from "./round/participants.ts";

const root = import.meta.dirname;
const page = readFileSync(join(root, "../docs/troubleshooting.md"), "utf8");

/** Folders and files without reasons: shapes of resources, what pods are made of, what a person types. */
const WITHOUT =
  /^(api|cli|telemetry|main\.ts|kube\/(resources|client|lease|cache)\.ts|trainer\/job\.ts|controllers\/selector\.ts)/;
const NOT_SOURCES = /\.test\.ts$|(^|\/)(generated|testing|generate|assembly)\//;

/** What CamelCase words are that are no reasons, each kind with why nobody meets it as one. */
const SOMETHING_ELSE: Record<string, string> = {
  "states of a participant in a round: docs/api.md has them":
    "Accepted Contributed Excluded Invited Lost Refused Scheduling Trained",
  "states of an agent's own records: `rondo agent results` shows them":
    "Advertised JobCreated Masked Prepared Released Sealed Shared Signed",
  "phases of an AdapterVersion": "Active",
  "how a Job is doing while all is well": "Completed Ending JobMissing Missing Running",
  "Kubernetes' words that are read, not written":
    "AlreadyExists Complete ContainerCannotRun DisruptionTarget FailedAttachVolume FailedCreate FailedMount FailureTarget ErrImageNeverPull ErrImagePull ImageInspectError ImagePullBackOff InvalidImageName OOMKilled PodScheduled RegistryUnavailable SchedulerError SchedulingGated StartError SuccessCriteriaMet",
  "kinds and types of objects and events": "Federation Job Normal Opaque Participant Service Warning",
  "states of a condition": "False True Unknown",
  "types of numbers in a file": "BF16 F16 F32",
  "faults that are handled where they arise": "Closed Conflict Exists Gone Incomplete Stopped",
  "names of errors": "AbortError TimeoutError",
  "words of sentences, labels and headers": "None Other Participants Rondo Status Token",
};

const somethingElse = new Set(Object.values(SOMETHING_ELSE).flatMap((words) => words.split(" ")));
const AS_STRING = /"([A-Z][A-Za-z0-9]*[a-z0-9][A-Za-z0-9]*)"/g;
/** `  CreateContainerError: "…"`: two humps, because a header or a phase is one. */
const AS_KEY = /^\s+([A-Z][a-z0-9]+(?:[A-Z]+[a-z0-9]*)+): /gm;
const ERROR_NAME = /\bname = "\w+"/g;
/** An event's reason that is made of a state. */
const OF_STATES = /`([A-Z]\w+)\$\{\w+\.state\}`/g;

const sources = readdirSync(root, { recursive: true, encoding: "utf8" })
  .map((file) => file.split(sep).join("/"))
  .filter((file) => file.endsWith(".ts") && !WITHOUT.test(file) && !NOT_SOURCES.test(file));

/** word → the first file that has it */
const inCode = new Map<string, string>();
for (const file of sources)
  for (const word of wordsOf(readFileSync(join(root, file), "utf8"))) if (!inCode.has(word)) inCode.set(word, file);

function wordsOf(text: string): string[] {
  const code = text
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/(^|\s)\/\/.*$/gm, "")
    .replaceAll(ERROR_NAME, "");
  const written = [AS_STRING, AS_KEY].flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]!));
  const made = [...code.matchAll(OF_STATES)].flatMap((match) => OUT.map((state) => `${match[1]}${state}`));
  return [...written, ...made].filter((word) => !word.endsWith("Fault"));
}

/** The first cell of a row names one reason or several that mean the same. */
const rows = page
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) =>
    line
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
const inPage = new Set(rows.flatMap(([reasons]) => [...reasons!.matchAll(/`(\w+)`/g)].map((match) => match[1]!)));

test("every reason in the code has its row in docs/troubleshooting.md", () => {
  const missing = [...inCode].filter(([word]) => !inPage.has(word) && !somethingElse.has(word));
  expect(missing.map(([word, file]) => `${word} (operator/${file})`)).toEqual([]);
});

test("every row is about a reason that the code gives", () => {
  expect([...inPage].filter((reason) => !inCode.has(reason))).toEqual([]);
});

test("every row says where the reason is seen, what it means and what to do", () => {
  expect(
    rows.filter((cells) => cells.length !== 4 || cells.some((cell) => cell === "")).map(([reasons]) => reasons),
  ).toEqual([]);
});

test("no word is listed as something else that is nowhere, or that has a row", () => {
  expect([...somethingElse].filter((word) => !inCode.has(word) || inPage.has(word))).toEqual([]);
});

test("the sources are found, and what is known to be a reason among them", () => {
  expect(sources.length).toBeGreaterThan(150);
  expect([...inCode.keys()]).toEqual(
    expect.arrayContaining(["QuorumLost", "NoCapacity", "ParticipantLost", "CreateContainerConfigError"]),
  );
});
