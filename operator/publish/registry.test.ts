/** What is known of a registry before it is asked: references, credentials, challenges, manifests. */
import { describe, expect, test } from "vitest";
import { configLayer, formatManifest, parseManifest, weightsLayer } from "./adapter-manifest.ts";
import { credentialsFor } from "./credentials.ts";
import { parseReference, parseRepository } from "./reference.ts";
import { parseChallenge } from "./registry-token.ts";

const hex = "0".repeat(64);

describe("references", () => {
  test.each([
    { text: "registry.example/other:v3", is: { registry: "registry.example", repository: "other", tag: "v3" } },
    { text: "10.77.0.10:30500/a/b-c:latest", is: { registry: "10.77.0.10:30500", repository: "a/b-c", tag: "latest" } },
    { text: `localhost/x@sha256:${hex}`, is: { registry: "localhost", repository: "x", digest: `sha256:${hex}` } },
    {
      text: `[::1]:5000/x:v1@sha256:${hex}`,
      is: { registry: "[::1]:5000", repository: "x", tag: "v1", digest: `sha256:${hex}` },
    },
  ])("$text", ({ text, is }) => expect(parseReference(text)).toEqual(is));

  test.each([
    { says: "no registry", text: "library/model:v1" },
    { says: "no version", text: "registry.example/other" },
    { says: "a port and no version", text: "registry.example:5000/other" },
    { says: "capitals in the path", text: "registry.example/Other:v1" },
    { says: "a way up", text: "registry.example/../other:v1" },
    { says: "a short digest", text: "registry.example/other@sha256:12" },
    { says: "two digests", text: `registry.example/other@sha256:${hex}@sha256:${hex}` },
    { says: "a scheme", text: "https://registry.example/other:v1" },
  ])("with $says are refused", ({ text }) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "ReferenceInvalid" }));
  });

  test("a repository has neither tag nor digest", () => {
    expect(parseRepository("registry.example/adapters/notes")).toEqual({
      registry: "registry.example",
      repository: "adapters/notes",
    });
    expect(() => parseRepository("registry.example/adapters/notes:v1")).toThrow("is not a repository");
  });
});

describe("credentials", () => {
  const auth = Buffer.from("me:pass:word").toString("base64");
  test.each([
    { says: "auth", auths: { "r.example": { auth } } },
    { says: "user and password", auths: { "r.example": { username: "me", password: "pass:word" } } },
    { says: "docker's old address", auths: { "https://r.example/v1/": { auth } } },
  ])("are found by $says", ({ auths }) => {
    expect(credentialsFor(JSON.stringify({ auths }), "r.example")).toEqual({ username: "me", password: "pass:word" });
  });
  test("of another registry stay with it", () => {
    expect(credentialsFor(JSON.stringify({ auths: { "r.example": { auth } } }), "r.example:444")).toBeUndefined();
  });
  test.each(["secret-text", '{"auths":[]}', '{"auths":{"r.example":{"auth":"c2VjcmV0"}}}'])(
    "that cannot be read are not quoted: %s",
    (json) => {
      let message = "";
      try {
        credentialsFor(json, "r.example");
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).toMatch(/^the credentials Secret/);
      expect(message).not.toMatch(/secret-text|c2VjcmV0|"secret"/);
    },
  );
});

test("a challenge names realm, service and scope", () => {
  const { scheme, parameters } = parseChallenge(
    'Bearer realm="https://a.example/token",service="r.example",scope="repository:x:pull,push"',
  );
  expect(scheme).toBe("bearer");
  expect(Object.fromEntries(parameters)).toEqual({
    realm: "https://a.example/token",
    service: "r.example",
    scope: "repository:x:pull,push",
  });
});

describe("manifests", () => {
  const descriptor = { mediaType: "application/octet-stream", digest: `sha256:${hex}`, size: 1 };
  const lineage = { federation: "f", version: 1, baseModel: { name: "m", revision: "main", digest: `sha256:${hex}` } };
  test("give back the two files", () => {
    const bytes = formatManifest(lineage, descriptor, [
      weightsLayer(descriptor),
      configLayer({ ...descriptor, size: 2 }),
    ]);
    const { weights, config, annotations } = parseManifest(bytes, "x");
    expect([weights.size, config.size]).toEqual([1, 2]);
    expect(annotations["dev.rondo.version"]).toBe("1");
  });
  test.each([
    { says: "one of the files", layers: [weightsLayer(descriptor)] },
    { says: "two weights", layers: [weightsLayer(descriptor), weightsLayer(descriptor), configLayer(descriptor)] },
    {
      says: "packed weights",
      layers: [
        { ...weightsLayer(descriptor), mediaType: "application/vnd.cncf.model.weight.v1.tar+gzip" },
        configLayer(descriptor),
      ],
    },
    {
      says: "a digest that is none",
      layers: [weightsLayer({ ...descriptor, digest: "sha256:../x" }), configLayer(descriptor)],
    },
    { says: "no layers", layers: [] },
  ])("with $says are no adapter", ({ layers }) => {
    expect(() => parseManifest(formatManifest(lineage, descriptor, layers), "x")).toThrow(
      expect.objectContaining({ code: "NotAnAdapter" }),
    );
  });
});
