import { beforeEach, expect, test } from "vitest";
import type { RawObject } from "../kube/objects.ts";
import { ToldCache } from "../kube/testing/told-cache.ts";
import type { Context } from "./context.ts";
import type { RoundDesk } from "./round/desk.ts";
import { type Controllers, Wake } from "./wiring.ts";

let woken: string[];
let caches: Record<"federations" | "rounds" | "participants" | "adapterVersions", ToldCache>;
const participantChanged = (object: RawObject | undefined) => caches.participants.tell("rondo/ann", object);

beforeEach(() => {
  woken = [];
  const controllers = Object.fromEntries(
    ["federation", "round", "participant", "adapterVersion"].map((kind) => [
      kind,
      { enqueue: (name: string) => woken.push(`${kind} ${name}`) },
    ]),
  ) as unknown as Controllers;
  caches = {
    federations: new ToldCache(),
    rounds: new ToldCache(),
    participants: new ToldCache(),
    adapterVersions: new ToldCache(),
  };
  caches.federations.tell("rondo/notes", {
    apiVersion: "rondo.dev/v1alpha1",
    kind: "Federation",
    metadata: { name: "notes" },
  });
  const context = {
    caches,
    objects: { openRoundsOf: () => [] },
    versions: { federations: () => [] },
    tally: { federations: () => [] },
  } as unknown as Context;
  const desk = { open: () => [{ name: "notes-r1" }], names: () => [] } as unknown as RoundDesk;
  new Wake(context, desk, () => controllers).connect();
  woken.length = 0;
});

const ann = (over: { spec?: object; status?: object; resourceVersion?: string } = {}): RawObject => ({
  apiVersion: "rondo.dev/v1alpha1",
  kind: "Participant",
  metadata: { name: "ann", resourceVersion: over.resourceVersion ?? "1" },
  spec: over.spec ?? {},
  status: { connected: true, lastSeen: "2026-01-01T00:00:00Z", ...over.status },
});

const everybody = ["participant ann", "federation notes", "round notes-r1"];

test("a participant that appears wakes itself, the federations that may count it and the rounds that may miss it", () => {
  participantChanged(ann());
  expect(woken).toEqual(everybody);
});

test("a later lastSeen wakes nobody but the participant", () => {
  participantChanged(ann());
  woken.length = 0;
  participantChanged(ann({ resourceVersion: "2", status: { lastSeen: "2026-01-01T00:05:00Z" } }));
  expect(woken).toEqual(["participant ann"]);
});

test.each([
  ["suspends it", ann({ spec: { suspended: true } })],
  ["cuts it off", ann({ status: { connected: false } })],
  ["deletes it", undefined],
])("a change that %s wakes all of them", (_, changed) => {
  participantChanged(ann());
  woken.length = 0;
  participantChanged(changed);
  expect(woken).toEqual(everybody);
});

test("one that was deleted and is made again as it was wakes all of them", () => {
  participantChanged(ann());
  participantChanged(undefined);
  woken.length = 0;
  participantChanged(ann());
  expect(woken).toEqual(everybody);
});

test("a round that is deleted wakes the federation that may be waiting for its end", () => {
  const round = { apiVersion: "rondo.dev/v1alpha1", kind: "FederationRound", metadata: { name: "notes-r1" } };
  caches.rounds.tell("rondo/notes-r1", { ...round, spec: { federation: "notes" } });
  woken.length = 0;
  caches.rounds.tell("rondo/notes-r1", undefined);
  expect(woken).toEqual(["round notes-r1", "federation notes"]);
});
