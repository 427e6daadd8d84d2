import { beforeEach, expect, test } from "vitest";
import type { RawObject } from "../kube/objects.ts";
import { ToldCache } from "../kube/testing/told-cache.ts";
import { RoundIndex } from "./round-index.ts";

let cache: ToldCache;
let index: RoundIndex;
beforeEach(() => {
  cache = new ToldCache();
  index = new RoundIndex(cache);
});

function round(name: string, phase?: string, creator?: string): RawObject {
  return {
    apiVersion: "rondo.dev/v1alpha1",
    kind: "FederationRound",
    metadata: {
      name,
      ...(creator && {
        ownerReferences: [{ apiVersion: "v", kind: "Federation", name: "f", uid: creator, controller: true }],
      }),
    },
    spec: { federation: "notes" },
    status: phase && { phase },
  };
}

const set = (object: RawObject) => cache.tell(object.metadata.name, object);
const names = (rounds: Iterable<RawObject>) => [...rounds].map(({ metadata }) => metadata.name);

test("a round is open from its creation to its end, and part of the history until it is deleted", () => {
  set(round("r1", undefined, "fed"));
  set(round("r1", "Training", "fed"));
  expect(names(index.open("notes"))).toEqual(["r1"]);
  set(round("r1", "Succeeded", "fed"));
  expect(names(index.open("notes"))).toEqual([]);
  expect([...index.ended("fed").keys()]).toEqual(["r1"]);
  expect(names(index.all("notes"))).toEqual(["r1"]);
  cache.tell("r1", undefined);
  expect(names(index.all("notes"))).toEqual([]);
  expect(index.ended("fed").size).toBe(0);
});

test("a round made by hand is in no federation's list of what it created", () => {
  set(round("by-hand", "Failed"));
  set(round("r1", "Failed", "other"));
  expect(index.ended("fed").size).toBe(0);
  expect(names(index.all("notes"))).toEqual(["by-hand", "r1"]);
});

test("of another federation nothing is told", () => {
  set(round("r1"));
  expect(names(index.open("other"))).toEqual([]);
});

test("what was asked once does not change under the reader's hands", () => {
  set(round("r1", "Failed", "fed"));
  const before = [...index.ended("fed").values()];
  set(round("r2", "Failed", "fed"));
  expect(before).toHaveLength(1);
});
