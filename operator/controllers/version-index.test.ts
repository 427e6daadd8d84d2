import { expect, test } from "vitest";
import type { RawObject } from "../kube/objects.ts";
import { ToldCache } from "../kube/testing/told-cache.ts";
import { VersionIndex } from "./version-index.ts";

function indexed() {
  const cache = new ToldCache();
  const index = new VersionIndex(cache);
  const put = (federation: string, version: number, phase = "Superseded") =>
    cache.tell(`ns/${federation}-v${version}`, object(federation, version, phase));
  const remove = (federation: string, version: number) => cache.tell(`ns/${federation}-v${version}`, undefined);
  return { index, put, remove };
}

function object(federation: string, version: number, phase: string): RawObject {
  const digest = `sha256:${"a".repeat(64)}`;
  return {
    apiVersion: "rondo.dev/v1alpha1",
    kind: "AdapterVersion",
    metadata: {
      name: `${federation}-v${version}`,
      namespace: "ns",
      uid: `u${version}`,
      generation: 1,
      resourceVersion: "1",
      creationTimestamp: "2026-01-01T00:00:00Z",
    },
    spec: {
      federation,
      version,
      digest,
      adapterDigest: digest,
      reference: `r.example/a@${digest}`,
      baseModel: { name: "m", revision: "main", digest },
      rank: 4,
      alpha: 8,
      contributors: 2,
    },
    status: { observedGeneration: 1, phase },
  } as RawObject;
}

test("the newest is the one with the highest version, in whatever order they come", () => {
  const { index, put } = indexed();
  for (const version of [3, 12, 7]) put("fed", version);
  put("other", 40);
  expect(index.newest("fed")?.spec.version).toBe(12);
  expect([...index.all("fed")].map(({ spec }) => spec.version).sort((a, b) => a - b)).toEqual([3, 7, 12]);
});

test("when the newest is deleted the one before it is the newest again", () => {
  const { index, put, remove } = indexed();
  for (const version of [3, 12, 7]) put("fed", version);
  remove("fed", 12);
  expect(index.newest("fed")?.spec.version).toBe(7);
  for (const version of [3, 7]) remove("fed", version);
  expect(index.newest("fed")).toBeUndefined();
  expect([...index.all("fed")]).toEqual([]);
});

test("a version that changes is there once, as it is now", () => {
  const { index, put } = indexed();
  put("fed", 1, "Active");
  put("fed", 1, "Superseded");
  expect([...index.all("fed")].map(({ status }) => status.phase)).toEqual(["Superseded"]);
  expect(index.newest("fed")?.status.phase).toBe("Superseded");
});

test("what cannot be read is not among them", () => {
  const { index, put } = indexed();
  put("fed", -1);
  expect(index.newest("fed")).toBeUndefined();
});
