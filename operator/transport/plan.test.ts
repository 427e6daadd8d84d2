import { expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { canonicalBytes, parseCanonical } from "./canonical.ts";
import { seal } from "./envelope.ts";
import { generateIdentity, rawPublicKey } from "./identity.ts";
import { openPlan, parsePlan, planHashOf, signPlan } from "./plan.ts";

const digest = `sha256:${"0".repeat(64)}`;
const identity = Buffer.from(rawPublicKey(generateIdentity().publicKey)).toString("base64");
const plan: Plan = {
  schema: 3,
  federation: "demo.rondo.dev/rondo/notes",
  round: 7,
  roundName: "notes-r7",
  attempt: 1,
  purpose: "delta",
  roster: [{ participant: "clinic-a", identity }],
  minimum: 1,
  baseModel: { name: "smollm2", revision: "main", digest },
  parent: { version: 0, digest, byteLength: 1000 },
  adapter: { rank: 8, alpha: 16, targetModules: ["q_proj"] },
  tensors: [{ name: "base_model.model.q_proj.lora_A.weight", shape: [8, 64] }],
  training: {
    image: "trainer:1",
    task: "instruction",
    steps: 8,
    batchSize: 4,
    sequenceLength: 256,
    learningRate: "0.0002",
    resources: { gpus: 1, gpuResourceName: "nvidia.com/gpu", memory: "2Gi", cpu: "1" },
  },
  aggregation: {
    privacy: "trusted",
    rule: "mean",
    lora: "average",
    weighting: "examples",
    exampleCap: 1000,
    clipNorm: "1.0",
  },
  sealing: { publicKey: identity },
  deadlines: { accept: 1, training: 2, aggregation: 3 },
};
const planKey = generateIdentity();
const text = (value: Uint8Array) => Buffer.from(value).toString();
const bytes = (value: string) => Buffer.from(value);

test("RFC 8785 §3.2.2 and §3.2.3: numbers, escapes and the order of keys", () => {
  const value = JSON.parse(
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"literals":[null,true,false]}',
  );
  const numbers = "[333333333.3333333,1e+30,4.5,0.002,1e-27]";
  expect(text(canonicalBytes(value))).toBe(`{"literals":[null,true,false],"numbers":${numbers}}`);
  expect(text(canonicalBytes("€$\u000f\nA'B\"\\/"))).toBe('"€$\\u000f\\nA\'B\\"\\\\/"');
  const keys = { "\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\ud83d\ude00": 5, "\u0080": 6, "\u00f6": 7 };
  expect(text(canonicalBytes(keys)).match(/:(\d)/g)!.join("")).toBe(":2:4:6:7:1:5:3");
});

test("a signed plan opens to itself with the hash of its bytes", () => {
  const { signed, planHash } = signPlan(plan, planKey.privateKey);
  const received = openPlan(signed, planKey.publicKey);
  expect(received.plan).toEqual(plan);
  expect(Buffer.from(received.planHash).equals(planHash)).toBe(true);
  expect(Buffer.from(planHashOf(signed.body)).equals(planHash)).toBe(true);
});

test("a plan that was tampered with, or signed by another key, does not open", () => {
  const { signed } = signPlan(plan, planKey.privateKey);
  const changed = bytes(text(signed.body).replace('"round":7', '"round":8'));
  expect(() => openPlan({ ...signed, body: changed }, planKey.publicKey)).toThrow(
    expect.objectContaining({ code: "SignatureInvalid" }),
  );
  expect(() => openPlan(signed, generateIdentity().publicKey)).toThrow(
    expect.objectContaining({ code: "SignatureInvalid" }),
  );
});

test.each([
  { says: "a space", change: (json: string) => json.replace('"round":7', '"round": 7') },
  { says: "a doubled key", change: (json: string) => json.replace('"round":7', '"round":7,"round":7') },
  {
    says: "another order of keys",
    change: (json: string) => json.replace('"attempt":1,', "").replace(/}$/, ',"attempt":1}'),
  },
  { says: "a number spelled otherwise", change: (json: string) => json.replace('"round":7', '"round":7.0') },
  { says: "an escape that is not needed", change: (json: string) => json.replace("clinic-a", "clinic\\u002da") },
  { says: "a byte order mark", change: (json: string) => `\ufeff${json}` },
  { says: "a line end", change: (json: string) => `${json}\n` },
])("a plan with $says is refused, whoever signed it", ({ change }) => {
  const body = bytes(change(text(canonicalBytes(plan))));
  const signed = seal("plan", body, planKey.privateKey);
  expect(() => openPlan(signed, planKey.publicKey)).toThrow(expect.objectContaining({ code: "PlanInvalid" }));
});

test.each([
  { says: "no JSON", body: bytes("{") },
  { says: "no UTF-8", body: Buffer.from([0x22, 0xff, 0x22]) },
  { says: "nested without end", body: bytes("[".repeat(200_000) + "]".repeat(200_000)) },
])("bytes that are $says are a fault and not a crash", ({ body }) => {
  expect(() => parseCanonical(body)).toThrow(expect.objectContaining({ code: "PlanInvalid" }));
});

test("an unknown field is refused and named", () => {
  const body = canonicalBytes({ ...plan, sampling: "all" });
  expect(() => parsePlan(body)).toThrow(expect.objectContaining({ code: "PlanInvalid" }));
  expect(() => parsePlan(canonicalBytes({ ...plan, round: 0 }))).toThrow(/round/);
});

test.each([
  { says: "a round named like a path", change: { roundName: "../../etc/x" } },
  { says: "a participant named like a path", change: { roster: [{ participant: "../a", identity }] } },
  { says: "a federation that is no identity", change: { federation: "demo.rondo.dev/rondo/.." } },
  {
    says: "memory asked for as if it were GPUs",
    change: { training: { ...plan.training, resources: { ...plan.training.resources, gpuResourceName: "memory" } } },
  },
])("$says is refused: sites make names and resources of it", ({ change }) => {
  expect(() => parsePlan(canonicalBytes({ ...plan, ...change }))).toThrow(
    expect.objectContaining({ code: "PlanInvalid" }),
  );
});

test("a plan that fits no message is refused before it is sent", () => {
  const name = "x".repeat(500);
  const tensors = Array.from({ length: 3_000 }, () => ({ name, shape: [1, 1] }));
  expect(() => signPlan({ ...plan, tensors }, planKey.privateKey)).toThrow(
    expect.objectContaining({ code: "MessageTooLarge" }),
  );
});
