/** The messages of secure aggregation between a real agent's client, or a participant that lies at the wire, and a real operator's server. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LEAF_BYTES } from "../../../operator/journal/merkle.ts";
import type { AgentReport } from "../../../operator/transport/coordinator.ts";
import { seal } from "../../../operator/transport/envelope.ts";
import { TransportFault } from "../../../operator/transport/faults.ts";
import type { ProtocolStep, UploadReply } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity } from "../../../operator/transport/identity.ts";
import { Inbox } from "../../../operator/transport/inbox.ts";
import { MOST_PROTOCOL_BYTES } from "../../../operator/transport/limits.ts";
import { encodeReport } from "../../../operator/transport/reports.ts";
import { manifestOf } from "../../../operator/transport/upload-client.ts";
import { TestAgent, workOf } from "./agent.ts";
import { bareConnection, chunkOf, openingOf, rawUpload } from "./bare.ts";
import { TestOperator } from "./operator.ts";

let operator: TestOperator;
let folder: string;
const agents: TestAgent[] = [];

beforeEach(async () => {
  operator = await TestOperator.start();
  folder = await mkdtemp(join(tmpdir(), "rondo-agent-"));
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.client.stop()));
  await operator.stop();
  await rm(folder, { recursive: true });
});

async function connectedAgent(...args: Partial<ConstructorParameters<typeof TestAgent>>): Promise<TestAgent> {
  const created = new TestAgent(args[0] ?? operator.invite("clinic-a"), args[1]);
  agents.push(created);
  await created.connected();
  return created;
}

const planHash = Buffer.alloc(32, 1);
const bytes = (length: number, of = 1) => Buffer.alloc(length, of);
const advertisement = { index: 1, cPk: bytes(32), sPk: bytes(32, 2), cmB: bytes(32, 3), signature: bytes(64) };
const drawWork = (step: string) => ({ ...workOf("clinic-a", step), purpose: "draw" });

/** One of each kind, of a cohort of 128. */
const reports: AgentReport[] = [
  { kind: "advertise", body: { work: workOf("clinic-a", "advertise"), planHash, advertisement } },
  {
    kind: "share",
    body: {
      work: workOf("clinic-a", "share"),
      ack: bytes(64),
      shares: Array.from({ length: 127 }, (_, n) => ({ index: n + 2, ciphertext: bytes(80, n) })),
    },
  },
  { kind: "consistency", body: { work: workOf("clinic-a", "consistency"), signature: bytes(64) } },
  {
    kind: "unmask",
    body: {
      work: workOf("clinic-a", "unmask"),
      shares: Array.from({ length: 128 }, (_, n) => ({
        index: n + 1,
        share: { $case: n % 3 ? ("selfShare" as const) : ("pairShare" as const), value: bytes(32, n) },
      })),
    },
  },
  { kind: "commit", body: { work: drawWork("commit"), commitment: bytes(32), signature: bytes(64) } },
  { kind: "reveal", body: { work: drawWork("reveal"), nonce: bytes(32) } },
];

const keysOf128: ProtocolStep = {
  work: workOf("clinic-a"),
  step: {
    $case: "keys",
    value: { advertised: Array.from({ length: 128 }, (_, n) => ({ ...advertisement, index: n + 1 })) },
  },
};

test("what an agent says of a session and of a draw reaches the coordinator as it was said", async () => {
  const clinic = await connectedAgent();
  for (const { kind, body } of reports) await clinic.client.send(kind, body as never);
  expect(operator.coordinator.reports.map(({ report }) => report)).toEqual(reports);
});

test("steps and draws of the largest cohorts reach the agent, under their own step", async () => {
  const clinic = await connectedAgent();
  const session = operator.server.session("clinic-a")!;
  session.sendStep(keysOf128);
  const members = Array.from({ length: 256 }, (_, n) => `participant-${n}`.padEnd(63, "x"));
  const commitments = members.map((participant) => ({ participant, commitment: bytes(32), signature: bytes(64) }));
  session.sendDraw({ work: drawWork(""), step: { $case: "commitments", value: { commitments } } });
  await clinic.until(() => clinic.steps.length === 1 && clinic.draws.length === 1);
  expect(clinic.steps).toEqual([{ ...keysOf128, work: workOf("clinic-a", "step") }]);
  expect(clinic.draws).toEqual([{ work: drawWork("draw"), step: { $case: "commitments", value: { commitments } } }]);
  expect(clinic.connections).toBe(1);
});

test.each([
  { says: "of another participant", work: workOf("clinic-b") },
  { says: "of a draw's purpose", work: { ...workOf("clinic-a"), purpose: "draw" } },
  { says: "of no work", work: undefined },
])("a step $says ends the connection before the agent hears of it", async ({ work }) => {
  const clinic = await connectedAgent();
  operator.server.session("clinic-a")!.sendStep({ ...keysOf128, work });
  await clinic.refused("MessageInvalid");
  expect(clinic.steps).toEqual([]);
});

test("an answer that was not journalled before the operator stopped is said again when it is back, once", async () => {
  const clinic = await connectedAgent();
  const heard = Promise.withResolvers<void>();
  operator.coordinator.receive = async () => {
    heard.resolve();
    throw new Error("killed before the commit");
  };
  const sends = reports.map(({ kind, body }) => clinic.client.send(kind, body as never));
  await heard.promise;
  await operator.down(0);
  operator.coordinator.receive = async () => {};
  await operator.up();
  await Promise.all(sends);
  expect(operator.coordinator.reports.map(({ report }) => report)).toEqual(reports);
});

test("an answer that was withdrawn while the operator was away is not said when it is back", async () => {
  const clinic = await connectedAgent();
  await operator.down();
  await clinic.until(() => clinic.disconnections.length > 0);
  const aborted = new AbortController();
  const [share, other] = [reports[1]!, reports[2]!];
  const given = clinic.client.send("share", share.body as never, { signal: aborted.signal });
  const kept = clinic.client.send("consistency", other.body as never);
  aborted.abort();
  await expect(given).rejects.toMatchObject({ code: "Stopped" });
  await operator.up();
  await kept;
  expect(operator.coordinator.reports.map(({ report }) => report.kind)).toEqual(["consistency"]);
});

test("a malformed answer is refused with what is wrong, and the right one is still taken", async () => {
  const clinic = await connectedAgent();
  const share = reports[1] as Extract<AgentReport, { kind: "share" }>;
  const [first, second, ...rest] = share.body.shares;
  const malformed = [
    { shares: [{ ...first!, ciphertext: bytes(81) }], says: /encrypted shares that are not 80 bytes/ },
    { shares: [second!, first!, ...rest], says: /not ascending/ },
    { shares: [first!, first!], says: /not ascending/ },
    { shares: [...share.body.shares, { index: 129, ciphertext: bytes(80) }], says: /not ascending/ },
    { shares: [], says: /1 to 128/ },
  ];
  for (const { shares, says } of malformed) {
    await expect(clinic.client.send("share", { ...share.body, shares })).rejects.toMatchObject({
      code: "MessageInvalid",
      message: expect.stringMatching(says),
    });
  }
  expect(operator.coordinator.reports).toEqual([]);
  await clinic.client.send("share", share.body);
  expect(clinic.connections).toBe(1);
});

test("a fault that the coordinator finds in an answer comes back with its sentence and is not asked for again", async () => {
  const clinic = await connectedAgent();
  let asked = 0;
  operator.coordinator.receive = async () => {
    asked += 1;
    throw new TransportFault("AnswerDiffers", "This step was answered otherwise before");
  };
  const { kind, body } = reports[2]!;
  await expect(clinic.client.send(kind, body as never)).rejects.toMatchObject({
    code: "AnswerDiffers",
    message: "This step was answered otherwise before",
  });
  expect(asked).toBe(1);
  expect(clinic.connections).toBe(1);
});

const lies = [
  {
    says: "whose body is larger than 64 KiB",
    code: "MessageTooLarge",
    signed: (key: Key) => seal("unmask", Buffer.alloc(MOST_PROTOCOL_BYTES + 1), key),
  },
  {
    says: "that another key has signed",
    code: "SignatureInvalid",
    signed: () => seal("consistency", encodeReport(reports[2]!), generateIdentity().privateKey),
  },
  {
    says: "that was signed as another kind",
    code: "SignatureInvalid",
    signed: (key: Key) => ({ ...seal("accept", encodeReport(reports[2]!), key), kind: "consistency" }),
  },
  {
    says: "of a kind that only operators send",
    code: "MessageInvalid",
    signed: (key: Key) => seal("plan", Buffer.from("{}"), key),
  },
];
type Key = ReturnType<typeof generateIdentity>["privateKey"];

test.each(lies)("a message $says ends the stream, and nobody else's", async ({ signed, code }) => {
  const honest = await connectedAgent(operator.invite("clinic-b"));
  const liar = await bareConnection(operator);
  liar.connection.send(signed(liar.identity.privateKey));
  expect(await liar.ended).toMatchObject({ code });
  expect(operator.coordinator.reports).toEqual([]);
  expect(honest.disconnections).toEqual([]);
});

test("an answer that another participant has signed is refused, though its signer is a member too", async () => {
  const victim = await connectedAgent();
  const liar = await bareConnection(operator, { participant: "clinic-b" });
  liar.connection.send(seal("consistency", encodeReport(reports[2]!), victim.identity.privateKey));
  expect(await liar.ended).toMatchObject({ code: "SignatureInvalid" });
  await liar.close();

  const again = await bareConnection(operator, { participant: "clinic-c" });
  const { body } = seal("consistency", encodeReport(reports[2]!), again.identity.privateKey);
  again.connection.send(seal("consistency", body, again.identity.privateKey));
  await expect.poll(() => again.acknowledgements).toMatchObject([{ reason: "MessageInvalid" }]);
  expect(Buffer.from(again.acknowledgements[0]!.bodySha256).equals(createHash("sha256").update(body).digest())).toBe(
    true,
  );
  expect(operator.coordinator.reports).toEqual([]);
  await again.close();
});

test("a hundred answers at once are journalled one after another, each acknowledged", async () => {
  const liar = await bareConnection(operator);
  let under = 0;
  let most = 0;
  operator.coordinator.receive = async () => {
    under += 1;
    most = Math.max(most, under);
    await new Promise((resolve) => setImmediate(resolve));
    under -= 1;
  };
  const signed = seal("share", encodeReport(reports[1]!), liar.identity.privateKey);
  for (let n = 0; n < 100; n += 1) liar.connection.send(signed);
  await expect.poll(() => liar.acknowledgements.length).toBe(100);
  expect(most).toBe(1);
  await liar.close();
});

async function vector(byteLength: number, inputSignature: Uint8Array = bytes(64)) {
  const content = randomBytes(byteLength);
  const file = join(folder, `masked-${randomBytes(4).toString("hex")}`);
  await writeFile(file, content);
  return {
    content,
    file,
    manifest: await manifestOf(file, workOf("clinic-a"), planHash, { signature: inputSignature }),
  };
}

test("the signature over a masked vector reaches the coordinator with the manifest", async () => {
  const clinic = await connectedAgent();
  const { file, manifest } = await vector(LEAF_BYTES + 1, bytes(64, 9));
  await clinic.client.upload(manifest, file);
  expect(operator.coordinator.uploads[0]!.manifest.inputSignature).toEqual(bytes(64, 9));
});

test.each([1, 63, 65, 4096])("an input signature of %i bytes is refused before the first chunk", async (length) => {
  const clinic = await connectedAgent();
  const { file, manifest } = await vector(10, bytes(length));
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({ code: "ManifestInvalid" });
  expect(await operator.spool.list()).toEqual([]);
});

test("an upload that the coordinator finds larger than planned is refused before its first byte", async () => {
  const clinic = await connectedAgent();
  operator.coordinator.admit = async (_, { byteLength }) => {
    if (byteLength !== 10) throw new TransportFault("ManifestInvalid", "A masked vector of this round has 10 bytes");
  };
  const { file, manifest } = await vector(11);
  await expect(clinic.client.upload(manifest, file)).rejects.toMatchObject({ code: "ManifestInvalid" });
  expect(await operator.spool.list()).toEqual([]);
});

test("more bytes than the manifest says are not taken, in one chunk nor in one more", async () => {
  const { content, manifest } = await vector(LEAF_BYTES + 10);
  const longer = Buffer.concat([content.subarray(LEAF_BYTES), bytes(1)]);
  const grown = rawUpload(operator, (challenge, identity) => [
    openingOf(challenge, manifest, identity),
    chunkOf(0, content.subarray(0, LEAF_BYTES)),
    chunkOf(LEAF_BYTES, longer),
  ]);
  await expect(grown).rejects.toMatchObject({ code: "ChunkInvalid" });
  expect(operator.coordinator.uploads).toEqual([]);

  operator.coordinator.members.clear();
  await rawUpload(operator, (challenge, identity) => [
    openingOf(challenge, manifest, identity),
    chunkOf(LEAF_BYTES, content.subarray(LEAF_BYTES)),
    chunkOf(LEAF_BYTES + 10, bytes(LEAF_BYTES)),
  ]);
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(content)).toBe(true);
});

test.each([
  { says: "with a gap", chunks: [chunkOf(LEAF_BYTES, bytes(LEAF_BYTES))] },
  { says: "shorter than its leaf", chunks: [chunkOf(0, bytes(100))] },
  { says: "at an offset inside a leaf", chunks: [chunkOf(1, bytes(LEAF_BYTES))] },
])("a chunk $says is refused, and nothing of it is held", async ({ chunks }) => {
  const { manifest } = await vector(3 * LEAF_BYTES);
  const upload = rawUpload(operator, (challenge, identity) => [openingOf(challenge, manifest, identity), ...chunks]);
  await expect(upload).rejects.toMatchObject({ code: "ChunkInvalid" });
  expect((await operator.spool.list()).map(({ byteLength }) => byteLength)).toEqual([0]);
});

test("an upload that stops half-way with its stream goes on where it was, over the next one", async () => {
  const clinic = await connectedAgent();
  const { content, file, manifest } = await vector(8 * LEAF_BYTES + 3);
  const progress: number[] = [];
  let cut = false;
  const upload = clinic.client.upload(manifest, file, {
    onProgress: (sent) => {
      progress.push(sent);
      if (cut || sent < 4 * LEAF_BYTES) return;
      cut = true;
      operator.server.disconnect("clinic-a", { code: "Disconnected", message: "The line was cut" });
    },
  });
  await upload;
  const resumed = progress.findIndex((sent, n) => n > 0 && sent <= progress[n - 1]!);
  expect(progress[resumed]).toBeGreaterThanOrEqual(LEAF_BYTES);
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(content)).toBe(true);
  expect(operator.coordinator.uploads).toHaveLength(1);
});

test("a half-done upload that comes back as another vector is refused, and the first can still be finished", async () => {
  const clinic = await connectedAgent();
  const first = await vector(3 * LEAF_BYTES);
  const giveUp = new AbortController();
  const half = clinic.client.upload(first.manifest, first.file, {
    signal: giveUp.signal,
    onProgress: (sent) => {
      if (sent >= LEAF_BYTES) giveUp.abort();
    },
  });
  await expect(half).rejects.toMatchObject({ code: "Stopped" });
  const second = await vector(3 * LEAF_BYTES);
  await expect(clinic.client.upload(second.manifest, second.file)).rejects.toMatchObject({ code: "ManifestDiffers" });
  await clinic.client.upload(first.manifest, first.file);
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(first.content)).toBe(true);
});

test("an upload that says nothing more holds a file and does not hold up the one that takes its place", async () => {
  const { content, file, manifest } = await vector(2 * LEAF_BYTES);
  const silent = await bareConnection(operator);
  const call = silent.connection.channel.upload();
  const inbox = new Inbox<UploadReply>(call);
  call.write(openingOf(silent.connection.challenge, manifest, silent.identity));
  call.write(chunkOf(0, content.subarray(0, LEAF_BYTES)));
  await inbox.next(5_000);
  const clinic = await connectedAgent(operator.invite("clinic-a"), { identity: silent.identity });
  const progress: number[] = [];
  await clinic.client.upload(manifest, file, { onProgress: (sent) => progress.push(sent) });
  expect((await readFile(operator.coordinator.uploads[0]!.file)).equals(content)).toBe(true);
  await silent.ended;
});
