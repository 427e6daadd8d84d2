import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LEAF_BYTES } from "../../../operator/journal/merkle.ts";
import { fromServiceError, TransportFault } from "../../../operator/transport/faults.ts";
import type { UploadReply } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity, rawPrivateKey } from "../../../operator/transport/identity.ts";
import { Inbox } from "../../../operator/transport/inbox.ts";
import { manifestOf } from "../../../operator/transport/upload-client.ts";
import { TestAgent, workOf } from "./agent.ts";
import { bareConnection, chunkOf, openingOf, rawUpload } from "./bare.ts";
import { TestOperator } from "./operator.ts";

let operator: TestOperator;
let folder: string;
const agents: TestAgent[] = [];
const planHash = Buffer.alloc(32, 1);

beforeEach(async () => {
  operator = await TestOperator.start();
  folder = await mkdtemp(join(tmpdir(), "rondo-agent-"));
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.client.stop()));
  await operator.stop();
  await rm(folder, { recursive: true });
});

async function connectedAgent(participant = "clinic-a"): Promise<TestAgent> {
  const created = new TestAgent(operator.invite(participant));
  agents.push(created);
  await created.connected();
  return created;
}

async function fileOf(byteLength: number, participant = "clinic-a") {
  const bytes = randomBytes(byteLength);
  const file = join(folder, `delta-${randomBytes(4).toString("hex")}`);
  await writeFile(file, bytes);
  return { bytes, file, manifest: await manifestOf(file, workOf(participant), planHash) };
}

test.each([1, LEAF_BYTES, 3 * LEAF_BYTES + 7])(
  "an upload of %i bytes ends in the spool and with a receipt",
  async (length) => {
    const clinic = await connectedAgent();
    const { bytes, file, manifest } = await fileOf(length);
    const progress: number[] = [];
    const receipt = await clinic.client.upload(manifest, file, { onProgress: (sent) => progress.push(sent) });
    expect(receipt.byteLength).toBe(length);
    expect(progress.at(-1)).toBe(length);
    expect(operator.coordinator.uploads).toHaveLength(1);
    expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(bytes)).toBe(true);
  },
);

test("a finished upload that is offered again gets its receipt at once, even when its file is gone", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(2 * LEAF_BYTES);
  const first = await clinic.client.upload(manifest, file);
  await operator.spool.remove(first.root);
  operator.coordinator.admit = async () => {
    throw new TransportFault("NotExpected", "The round is over");
  };
  const progress: number[] = [];
  const again = await clinic.client.upload(manifest, file, { onProgress: (sent) => progress.push(sent) });
  expect(again).toEqual(first);
  expect(progress).toEqual([]);
});

test("another file for the same work is an error and never an overwrite", async () => {
  const clinic = await connectedAgent();
  const first = await fileOf(10);
  await clinic.client.upload(first.manifest, first.file);
  const second = await fileOf(10);
  await expect(clinic.client.upload(second.manifest, second.file)).rejects.toMatchObject({ code: "ManifestDiffers" });
  const { root } = (await operator.spool.list())[0]!;
  expect(await operator.server.forgetUploads("demo.rondo.dev/rondo/notes", 7)).toEqual([root]);
  await clinic.client.upload(second.manifest, second.file);
});

test("of two files that are offered for one work at the same moment only one is taken", async () => {
  const clinic = await connectedAgent();
  const files = await Promise.all([10, 11, 12, 13].map((length) => fileOf(length)));
  const uploads = await Promise.allSettled(files.map(({ manifest, file }) => clinic.client.upload(manifest, file)));
  expect(uploads.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(operator.coordinator.uploads).toHaveLength(1);
  expect(await operator.spool.list()).toHaveLength(1);
});

test("an upload that the coordinator does not expect is refused with its sentence", async () => {
  const clinic = await connectedAgent();
  operator.coordinator.admit = async () => {
    throw new TransportFault("NotExpected", "This round does not wait for clinic-a");
  };
  const { file, manifest } = await fileOf(10);
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({
    code: "NotExpected",
    message: "This round does not wait for clinic-a",
  });
  expect(await operator.spool.list()).toEqual([]);
});

test("an upload under another participant's name is refused", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(10, "clinic-b");
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({ code: "MessageInvalid" });
});

test("a file that changed after its manifest is refused by the agent itself", async () => {
  const clinic = await connectedAgent();
  const { file, manifest, bytes } = await fileOf(LEAF_BYTES + 5);
  bytes[LEAF_BYTES + 1]! ^= 1;
  await writeFile(file, bytes);
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({ code: "ManifestDiffers" });
});

test("an upload goes on where it was when the operator restarts in the middle of it", async () => {
  const clinic = await connectedAgent();
  const { bytes, file, manifest } = await fileOf(12 * LEAF_BYTES);
  const progress: number[] = [];
  let restart: Promise<void> | undefined;
  const receipt = await clinic.client.upload(manifest, file, {
    onProgress: (sent) => {
      progress.push(sent);
      if (sent >= 5 * LEAF_BYTES) restart ??= operator.down(0).then(() => operator.up());
    },
  });
  await restart;
  expect(receipt.byteLength).toBe(bytes.length);
  // After the restart the first progress is the offset that the operator already held.
  const resumed = progress.findIndex((sent, n) => n > 0 && sent <= progress[n - 1]!);
  expect(resumed).toBeGreaterThan(0);
  expect(progress[resumed]).toBeGreaterThanOrEqual(LEAF_BYTES);
  expect((await readFile(operator.coordinator.uploads.at(-1)!.file)).equals(bytes)).toBe(true);
});

test("an upload goes on where it was when the agent is stopped in the middle and another process continues", async () => {
  const clinic = await connectedAgent();
  const { bytes, file, manifest } = await fileOf(12 * LEAF_BYTES);
  const first = clinic.client.upload(manifest, file, {
    onProgress: (sent) => {
      if (sent >= 6 * LEAF_BYTES) void clinic.client.stop();
    },
  });
  await expect(first).rejects.toMatchObject({ code: "Stopped" });

  const again = new TestAgent(operator.invite("clinic-a"), { identity: clinic.identity, store: clinic.store });
  agents.push(again);
  await again.connected();
  const progress: number[] = [];
  await again.client.upload(manifest, file, { onProgress: (sent) => progress.push(sent) });
  expect(progress[0]).toBeGreaterThanOrEqual(LEAF_BYTES);
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(bytes)).toBe(true);
});

/** An agent in a process of its own, in the middle of an upload of 24 leaves. */
async function uploadingProcess(file: string, identity = generateIdentity()) {
  const argument = JSON.stringify({
    invitation: operator.invite("clinic-a"),
    identity: Buffer.from(rawPrivateKey(identity.privateKey)).toString("hex"),
    file,
    participant: "clinic-a",
  });
  const program = fileURLToPath(new URL("./upload-process.ts", import.meta.url));
  const child = spawn(process.execPath, [program, argument], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  while (!said.includes(String(8 * LEAF_BYTES))) said += String((await once(child.stdout, "data"))[0]);
  return child;
}

test("an agent that falls silent in the middle of an upload does not hold up the operator's stop", async () => {
  const { file } = await fileOf(24 * LEAF_BYTES);
  const child = await uploadingProcess(file);
  child.kill("SIGSTOP");
  try {
    const startedMs = performance.now();
    await operator.down(500);
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  } finally {
    child.kill("SIGKILL");
  }
  await operator.up();
});

test("an upload of an agent that is killed in the middle is continued by the next process", async () => {
  const identity = generateIdentity();
  const { bytes, file, manifest } = await fileOf(24 * LEAF_BYTES);
  const child = await uploadingProcess(file, identity);
  child.kill("SIGKILL");
  await once(child, "close");
  expect(operator.coordinator.uploads).toEqual([]);

  const again = new TestAgent(operator.invite("clinic-a"), { identity });
  agents.push(again);
  await again.connected();
  const progress: number[] = [];
  await again.client.upload(manifest, file, { onProgress: (sent) => progress.push(sent) });
  expect(progress[0]).toBeGreaterThanOrEqual(4 * LEAF_BYTES);
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(bytes)).toBe(true);
});

test("an upload runs no further ahead of a slow spool than a few chunks", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(24 * LEAF_BYTES);
  const gate = Promise.withResolvers<void>();
  const begin = operator.spool.begin.bind(operator.spool);
  operator.spool.begin = async (offered) => {
    const upload = await begin(offered);
    const append = upload.append.bind(upload);
    upload.append = async (offset, chunk) => {
      await gate.promise;
      await append(offset, chunk);
    };
    return upload;
  };
  let furthest = 0;
  const uploaded = clinic.client.upload(manifest, file, {
    onProgress: (sent) => {
      furthest = sent;
    },
  });
  // The time is what is tested: that nothing more arrives while the spool writes nothing.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(furthest).toBeGreaterThan(0);
  expect(furthest).toBeLessThanOrEqual(8 * LEAF_BYTES);
  gate.resolve();
  await uploaded;
});

test("an upload over a line of 50 ms is not held up by a window for every 64 KiB", async () => {
  const invitation = operator.invite("clinic-a");
  const [host, port] = invitation.endpoint.split(":");
  // Each way takes 25 ms, whatever the amount.
  const line = createServer((near) => {
    const far = connect(Number(port), host);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (bytes) => setTimeout(() => to.writable && to.write(bytes), 25));
      from.on("close", () => setTimeout(() => to.destroy(), 25)).on("error", () => {});
    }
  });
  line.listen(0, "127.0.0.1");
  await once(line, "listening");
  const endpoint = `127.0.0.1:${(line.address() as AddressInfo).port}`;
  const clinic = new TestAgent({ ...invitation, endpoint });
  agents.push(clinic);
  await clinic.connected();
  const { file, manifest } = await fileOf(10 * LEAF_BYTES);
  const startedMs = performance.now();
  await clinic.client.upload(manifest, file);
  // 160 windows of 64 KiB would take 8 s at the least; 10 of 1 MiB take half a second, and more on a busy machine.
  expect(performance.now() - startedMs).toBeLessThan(6_000);
  await clinic.client.stop();
  line.close();
});

test("an upload that is given up by its signal ends with a fault and keeps what the operator holds", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(6 * LEAF_BYTES);
  const giveUp = new AbortController();
  const upload = clinic.client.upload(manifest, file, {
    signal: giveUp.signal,
    onProgress: (sent) => {
      if (sent >= 3 * LEAF_BYTES) giveUp.abort();
    },
  });
  await expect(upload).rejects.toMatchObject({ code: "Stopped" });
  await clinic.client.upload(manifest, file);
});

test("uploads of several participants at once all arrive", async () => {
  const names = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];
  await Promise.all(
    names.map(async (name) => {
      const clinic = await connectedAgent(name);
      const { file, manifest } = await fileOf(4 * LEAF_BYTES, name);
      await clinic.client.upload(manifest, file);
    }),
  );
  expect(operator.coordinator.uploads.map(({ participant }) => participant).sort()).toEqual(names);
});

test("when the volume is full the upload is refused before its first byte, and tried again for as long as it takes", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(LEAF_BYTES);
  let full = true;
  const begin = operator.spool.begin.bind(operator.spool);
  const { SpoolFault } = await import("../../../operator/journal/spool.ts");
  operator.spool.begin = (offered) =>
    full ? Promise.reject(new SpoolFault("DiskFull", "The operator's volume is full", 12_345)) : begin(offered);
  let tries = 0;
  let needed: number | undefined;
  operator.coordinator.foundNoRoom = (bytes) => {
    needed = bytes;
    // More often than any other fault is borne.
    if (++tries === 12) full = false;
  };
  await clinic.client.upload(manifest, file);
  expect(tries).toBe(12);
  expect(needed).toBe(12_345);
});

test("an upload of an attempt that has ended is refused for good, with a code of its own", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await fileOf(LEAF_BYTES);
  operator.coordinator.admit = async () => {
    throw new TransportFault("AttemptEnded", "this attempt of the round has ended");
  };
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({ code: "AttemptEnded", retry: "never" });
});

test("a corrupted chunk is refused on arrival", async () => {
  const { bytes, manifest } = await fileOf(2 * LEAF_BYTES);
  const damaged = Buffer.from(bytes.subarray(0, LEAF_BYTES)).fill(0, 5, 9);
  const upload = rawUpload(operator, (challenge, identity) => [
    openingOf(challenge, manifest, identity),
    chunkOf(0, damaged),
  ]);
  await expect(upload).rejects.toMatchObject({ code: "ChunkInvalid" });
  expect((await operator.spool.list())[0]!.byteLength).toBe(0);
});

test("a chunk before the opening, an opening signed by another key, and one for another stream are refused", async () => {
  const { bytes, manifest } = await fileOf(10);
  await expect(rawUpload(operator, () => [chunkOf(0, bytes)])).rejects.toMatchObject({ code: "MessageInvalid" });
  operator.coordinator.members.clear();
  const thief = generateIdentity();
  await expect(rawUpload(operator, (challenge) => [openingOf(challenge, manifest, thief)])).rejects.toMatchObject({
    code: "SignatureInvalid",
  });
  operator.coordinator.members.clear();
  await expect(
    rawUpload(operator, (_, identity) => [openingOf(Buffer.alloc(32), manifest, identity)]),
  ).rejects.toMatchObject({
    code: "ChallengeUnknown",
  });
});

test("a chunk larger than a message may be is refused", async () => {
  const { manifest } = await fileOf(LEAF_BYTES);
  const huge = chunkOf(0, Buffer.alloc(LEAF_BYTES + 128 * 1024));
  const upload = rawUpload(operator, (challenge, identity) => [openingOf(challenge, manifest, identity), huge]);
  await expect(upload).rejects.toMatchObject({ code: "MessageTooLarge" });
});

test("an upload ends with the stream under whose challenge it was opened", async () => {
  const { manifest } = await fileOf(2 * LEAF_BYTES);
  const { connection, identity, close } = await bareConnection(operator);
  const call = connection.channel.upload();
  const inbox = new Inbox<UploadReply>(call);
  call.write(openingOf(connection.challenge, manifest, identity));
  await inbox.next();
  operator.server.disconnect("clinic-a", { code: "Suspended", message: "The Participant is suspended" });
  const reason = await inbox.next().catch((error) => fromServiceError(error, "the test's operator"));
  expect(reason).toBeInstanceOf(TransportFault);
  await close();
});

async function adapter(byteLength: number) {
  const bytes = randomBytes(byteLength);
  const file = join(folder, "adapter.safetensors");
  await writeFile(file, bytes);
  const digest = createHash("sha256").update(bytes).digest();
  operator.coordinator.adapters.set(digest.toString("hex"), file);
  return {
    bytes,
    digest,
    expectedBytes: byteLength,
    federation: "demo.rondo.dev/rondo/notes",
    destination: join(folder, "parent"),
  };
}

test.each([1, LEAF_BYTES, 5 * LEAF_BYTES + 3])("a download of %i bytes arrives under its digest", async (length) => {
  const clinic = await connectedAgent();
  const { bytes, digest, destination, ...wanted } = await adapter(length);
  await clinic.client.download(digest, destination, wanted);
  expect((await readFile(destination)).equals(bytes)).toBe(true);
  await clinic.client.download(digest, destination, wanted); // there already
});

test("a download continues a partial file, and a damaged one is fetched anew", async () => {
  const clinic = await connectedAgent();
  const { bytes, digest, destination, ...wanted } = await adapter(3 * LEAF_BYTES);
  await writeFile(`${destination}.partial`, bytes.subarray(0, LEAF_BYTES + 100));
  await clinic.client.download(digest, destination, wanted);
  expect((await readFile(destination)).equals(bytes)).toBe(true);
  await rm(destination);
  await writeFile(`${destination}.partial`, Buffer.alloc(LEAF_BYTES));
  await clinic.client.download(digest, destination, wanted);
  expect((await readFile(destination)).equals(bytes)).toBe(true);
});

test("a download survives the operator's restart", async () => {
  const clinic = await connectedAgent();
  const { bytes, digest, destination, ...wanted } = await adapter(24 * LEAF_BYTES);
  const download = clinic.client.download(digest, destination, wanted);
  await operator.down(0);
  await operator.up();
  await download;
  expect((await readFile(destination)).equals(bytes)).toBe(true);
});

test("an unknown digest is refused, and an adapter of another length is not kept", async () => {
  const clinic = await connectedAgent();
  const { digest, destination, ...wanted } = await adapter(100);
  await expect(clinic.client.download(randomBytes(32), destination, wanted)).rejects.toMatchObject({
    code: "DigestUnknown",
  });
  const shorter = clinic.client.download(digest, destination, { ...wanted, expectedBytes: 99 });
  await expect(shorter).rejects.toMatchObject({ code: "MessageInvalid" });
  await expect(readFile(destination)).rejects.toMatchObject({ code: "ENOENT" });
});

test("an operator that sends other bytes than the digest says is found out", async () => {
  const clinic = await connectedAgent();
  const { bytes, digest, destination, ...wanted } = await adapter(100);
  bytes[0]! ^= 1;
  await writeFile(join(folder, "adapter.safetensors"), bytes);
  await expect(clinic.client.download(digest, destination, wanted)).rejects.toMatchObject({ code: "DigestDiffers" });
  await expect(readFile(destination)).rejects.toMatchObject({ code: "ENOENT" });
});
