import { expect, test } from "vitest";
import { locationOf } from "./chunked-upload.ts";
import type { Answer } from "./registry-http.ts";

function started(at: string, location: string | undefined): Answer {
  return { status: 202, url: new URL(at), header: () => location } as unknown as Answer;
}

test.each([
  [
    "https://registry.example/v2/a/blobs/uploads/",
    "/v2/a/blobs/uploads/7?state=x",
    "https://registry.example/v2/a/blobs/uploads/7?state=x",
  ],
  ["https://registry.example/v2/", "https://store.example/7", "https://store.example/7"],
  ["http://10.77.0.11:5000/v2/", "http://10.77.0.11:5000/7", "http://10.77.0.11:5000/7"],
])("asked at %s, a location %s is %s", (at, location, url) =>
  expect(locationOf(started(at, location), "a").href).toBe(url),
);

test.each([
  { says: "no location", location: undefined, sentence: /no location/ },
  { says: "a location that is no address", location: "http://[", sentence: /no address/ },
  { says: "a location in the clear behind TLS", location: "http://registry.example/7", sentence: /not followed/ },
])("an upload with $says is refused", ({ location, sentence }) => {
  expect(() => locationOf(started("https://registry.example/v2/", location), "a")).toThrow(sentence);
});
