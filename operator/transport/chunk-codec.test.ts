/** What we serialise by hand is, byte by byte, what the generated code makes of it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { coordinationService } from "./chunk-codec.ts";
import { CoordinationService, type DownloadChunk, type UploadMessage } from "./generated/rondo.v1.ts";

const size = fc.oneof(fc.constant(0), fc.nat(300), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
const data = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(2 ** 20).fill(7)));

test("an upload's chunk", () => {
  fc.assert(
    fc.property(size, data, (offset, data) => {
      const message: UploadMessage = { message: { $case: "chunk", value: { offset, data } } };
      const { requestSerialize } = coordinationService.upload;
      expect(requestSerialize(message).equals(CoordinationService.upload.requestSerialize(message))).toBe(true);
    }),
  );
});

test("a download's chunk", () => {
  fc.assert(
    fc.property(size, size, data, (offset, total, data) => {
      const chunk: DownloadChunk = { offset, total, data };
      const { responseSerialize } = coordinationService.download;
      expect(responseSerialize(chunk).equals(CoordinationService.download.responseSerialize(chunk))).toBe(true);
    }),
  );
});

test("an upload's opening is left to the generated code", () => {
  const opening = { kind: "upload", body: Uint8Array.of(1), signature: Uint8Array.of(2) };
  const message: UploadMessage = { message: { $case: "opening", value: opening } };
  const bytes = coordinationService.upload.requestSerialize(message);
  expect(CoordinationService.upload.requestDeserialize(bytes)).toEqual({
    message: { $case: "opening", value: { ...opening, body: Buffer.from([1]), signature: Buffer.from([2]) } },
  });
});
