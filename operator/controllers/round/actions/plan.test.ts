import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { federationSpecSchema } from "../../../api/federation.ts";
import { effectiveSettings } from "../../../api/merge.ts";
import type { Participant } from "../../../api/participant.ts";
import { openJournal } from "../../../journal/open.ts";
import { writeSafetensors } from "../../../publish/safetensors.ts";
import type { Draw } from "../../../round/record.ts";
import { pending } from "../../../round/testing/worlds.ts";
import { commitmentBytes, commitmentToNonce } from "../../../secagg/draw.ts";
import type { Context } from "../../context.ts";
import { makePlan } from "./plan.ts";
import { drawnRoster } from "./roster.ts";

const config = { trustDomain: "example.org", namespace: "fl" } as Context["config"];
const WHICH = { federation: "example.org/fl/fed", round: 7, number: 2 };
const base64 = (data: Uint8Array) => Buffer.from(data).toString("base64");

function site(name: string) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const nonce = new Uint8Array(32).fill(1);
  const commitment = commitmentToNonce(nonce);
  const signature = base64(sign(null, commitmentBytes(WHICH, commitment), privateKey));
  const identity = base64(publicKey.export({ format: "der", type: "spki" }).subarray(-32));
  return { name, identity, drawn: { name, commitment: base64(commitment), signature, nonce: base64(nonce) } };
}

/** The Participants as they are now. */
const objects = (identities: Record<string, string>) => ({
  participant: (name: string) =>
    identities[name] === undefined
      ? undefined
      : ({ spec: { enrolment: 1, identity: { enrolment: 1, ed25519: identities[name] } } } as unknown as Participant),
});

const drawn = (members: Draw["members"]) => ({
  federation: "fed",
  number: 7,
  draw: { number: 2, cohortSize: 6, stage: "drawn", untilMs: 0, members, leftOut: [] } as Draw,
});

test("the roster of a draw is its members with the keys that they committed with", () => {
  const [ann, ben] = [site("ann"), site("ben")];
  const identities = { ann: ann.identity, ben: ben.identity };
  const roster = drawnRoster({ config, objects: objects(identities) }, drawn([ann.drawn, ben.drawn]));
  expect(roster).toEqual(["ann", "ben"].map((name) => ({ participant: name, identity: identities[name as "ann"] })));
});

test.each<{ says: string; identities: Record<string, string> }>([
  { says: "was deleted", identities: {} },
  { says: "has another key by now", identities: { ben: site("ben").identity } },
])("no plan is made of a draw of which a member $says: every agent would refuse it", ({ identities }) => {
  const [ann, ben] = [site("ann"), site("ben")];
  const now = objects({ ann: ann.identity, ...identities });
  expect(() => drawnRoster({ config, objects: now }, drawn([ann.drawn, ben.drawn]))).toThrow(
    "Participant ben was deleted, or enrolled anew, after cohorts were drawn",
  );
});

test("where all fit into one cohort nobody has committed to anything", () => {
  const ann = site("ann");
  expect(drawnRoster({ config, objects: objects({ ann: ann.identity }) }, drawn([{ name: "ann" }]))).toEqual([
    { participant: "ann", identity: ann.identity },
  ]);
});

const SETTINGS = effectiveSettings(
  federationSpecSchema.parse({
    baseModel: { name: "test/llama", revision: "main", digest: `sha256:${"0".repeat(64)}` },
    adapter: { rank: 4, alpha: 8, targetModules: ["q_proj"] },
    training: { image: "trainer:test", steps: 2, resources: { gpus: 0 } },
    participants: { selector: { matchLabels: { team: "test" } }, minimum: 2 },
    aggregation: { privacy: "trusted", clipNorm: "1" },
    publish: { oci: { repository: "registry.test/adapters/fed" } },
  }),
  {},
);

test.each([
  { says: "a plan and its secret key are journalled", ends: false, keys: ["u1"] },
  { says: "neither is when the round has ended while the parent was fetched", ends: true, keys: [] },
])("$says", async ({ ends, keys }) => {
  const folder = await mkdtemp(join(tmpdir(), "rondo-plan-"));
  const journal = await openJournal(join(folder, "journal.sqlite"));
  const file = join(folder, "parent.safetensors");
  const q = "base_model.model.model.layers.0.self_attn.q_proj";
  const tensors = [
    { name: `${q}.lora_A.weight`, shape: [4, 8] as [number, number] },
    { name: `${q}.lora_B.weight`, shape: [8, 4] as [number, number] },
  ];
  const { sha256, byteLength } = await writeSafetensors(file, tensors, new Map(), function* () {
    yield new Float32Array(32);
  });
  const digest = `sha256:${sha256}`;
  const parent = { version: 0, name: "fed-v0", digest, adapterDigest: digest, reference: "r@d", byteLength };
  const end = new AbortController();
  const participants = ["ann", "ben"].map((name) => ({
    metadata: { name, labels: { team: "test" } },
    spec: { enrolment: 1, suspended: false, identity: { enrolment: 1, ed25519: site(name).identity } },
  }));
  const context = {
    config,
    journal,
    objects: {
      participants: () => participants,
      participant: (name: string) => participants.find(({ metadata }) => metadata.name === name),
      roundsOf: () => [],
    },
    leftOut: { has: () => false },
    versions: { active: () => parent },
    storage: { requireRoom: () => {} },
    attendance: { connected: () => new Set() },
    adapters: {
      async ensure() {
        if (ends) end.abort();
        return { file, byteLength };
      },
    },
    planKey: generateKeyPairSync("ed25519").privateKey,
    now: () => 1_000_000,
  } as unknown as Context;

  const made = makePlan(context, pending(), () => SETTINGS, end.signal);
  if (ends) await expect(made).rejects.toThrow();
  else expect(await made).toMatchObject({ kind: "made", roster: ["ann", "ben"] });
  for (const space of ["plans", "round-keys"])
    expect((await journal.entries(space)).map(({ key }) => key)).toEqual(keys);
  await journal.close();
  await rm(folder, { recursive: true });
});
