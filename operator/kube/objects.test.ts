import { describe, expect, test } from "vitest";
import { CACHE_TIMING, WatchBackoff } from "./cache-timing.ts";
import { controllerReference, keyOf, parseKey, refKey } from "./objects.ts";
import { collectionPath, objectPath, withQuery } from "./paths.ts";
import { isOlder } from "./resource-version.ts";
import { FEDERATION_ROUNDS, NODES, PODS } from "./resources.ts";

describe("keys", () => {
  test("there and back", () => {
    for (const ref of [{ namespace: "a", name: "b" }, { name: "b" }]) expect(parseKey(refKey(ref))).toEqual(ref);
    expect(keyOf({ metadata: { namespace: "a", name: "b" } })).toBe("a/b");
  });
  test("an object without uid owns nothing", () => {
    const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "j" } };
    expect(() => controllerReference(job)).toThrow("no uid");
  });
});

describe("paths", () => {
  test.each([
    [collectionPath(PODS, "ns"), "/api/v1/namespaces/ns/pods"],
    [collectionPath(NODES), "/api/v1/nodes"],
    [
      objectPath(FEDERATION_ROUNDS, { namespace: "ns", name: "r" }, "status"),
      "/apis/rondo.dev/v1alpha1/namespaces/ns/federationrounds/r/status",
    ],
    [objectPath(PODS, { namespace: "ns", name: "../x" }), "/api/v1/namespaces/ns/pods/..%2Fx"],
    [withQuery("/x", { a: 1, b: undefined, c: "d=e" }), "/x?a=1&c=d%3De"],
  ])("%s", (path, expected) => expect(path).toBe(expected));
  test("no name is no path: it would be the whole collection's", () => {
    expect(() => objectPath(PODS, { namespace: "ns", name: "" })).toThrow("needs a name");
  });
});

test.each([
  ["9", "10", true],
  ["10", "9", false],
  ["10", "10", false],
  ["99999999999999999998", "99999999999999999999", true],
  ["opaque", "10", true],
])("resourceVersion %s is older than %s: %s", (a, b, expected) => expect(isOlder(a, b)).toBe(expected));

test("a watch that keeps breaking waits 0.8 s, then longer up to 30 s, and anew after two healthy minutes", () => {
  const backoff = new WatchBackoff(CACHE_TIMING, () => 0);
  expect(Array.from({ length: 8 }, () => backoff.next(0))).toEqual([800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
  expect(backoff.next(120_000)).toBe(800);
});
