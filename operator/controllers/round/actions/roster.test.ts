import { expect, test } from "vitest";
import { type FederationSpecInput, federationSpecSchema } from "../../../api/federation.ts";
import { effectiveSettings } from "../../../api/merge.ts";
import { sampleOf } from "../../../round/sampling.ts";
import { pending } from "../../../round/testing/worlds.ts";
import type { Context } from "../../context.ts";
import { chosenRoster } from "./roster.ts";

const TEN = ["ann", "ben", "cy", "dee", "eve", "fay", "gus", "hal", "ida", "jo"];

function contextOf(connected: readonly string[], names = TEN): Context {
  const participants = names.map((name) => ({
    metadata: { name, labels: { team: "test" } },
    spec: { enrolment: 1, suspended: false, identity: { enrolment: 1, ed25519: `${name}'s key` } },
  }));
  return {
    objects: {
      participants: () => participants,
      participant: (name: string) => participants.find(({ metadata }) => metadata.name === name),
    },
    leftOut: { has: () => false },
    attendance: { connected: () => new Set(connected) },
  } as unknown as Context;
}

type Sample = FederationSpecInput["participants"]["sample"];

function chosen(sample: Sample, over: { context?: Context; minimum?: number; privacy?: "secure" | "trusted" } = {}) {
  const { context = contextOf(TEN), minimum = 2, privacy = "trusted" } = over;
  const spec = federationSpecSchema.parse({
    baseModel: { name: "test/llama", revision: "main", digest: `sha256:${"0".repeat(64)}` },
    adapter: { rank: 4, alpha: 8, targetModules: ["q_proj"] },
    training: { image: "trainer:test", steps: 2, resources: { gpus: 0 } },
    participants: { selector: { matchLabels: { team: "test" } }, minimum, ...(sample && { sample }) },
    aggregation: { privacy, clipNorm: "1" },
    publish: { oci: { repository: "registry.test/adapters/fed" } },
  });
  const { roster, sample: drawn } = chosenRoster(context, pending(), effectiveSettings(spec, {}), minimum);
  return { names: roster.map(({ participant }) => participant), drawn };
}

test("without a sample everybody is invited, and the plan says nothing of one", () =>
  expect(chosen(undefined)).toEqual({ names: TEN, drawn: undefined }));

test("a sample invites as many as it wants and those beyond, and anybody can draw it again", () => {
  const { names, drawn } = chosen({ count: 4, overselect: 2 });
  expect(drawn).toMatchObject({ count: 4, overselect: 2, candidates: TEN });
  expect(names).toEqual(sampleOf(drawn!.seed, TEN, 6));
  expect(names).toHaveLength(6);
});

test("another round draws others: over many rounds everybody comes in", () => {
  const seen = new Set(Array.from({ length: 60 }, () => chosen({ count: 2 }).names).flat());
  expect([...seen].sort()).toEqual(TEN);
});

test("a fraction is of all that can be invited, rounded up", () =>
  expect(chosen({ fraction: "0.25" }).drawn).toMatchObject({ count: 3 }));

test("those who are away are not drawn where enough are there", () => {
  const there = TEN.slice(0, 5);
  expect(chosen({ count: 4, overselect: 1 }, { context: contextOf(there) }).drawn!.candidates).toEqual(there);
  expect(chosen({ count: 4, overselect: 2 }, { context: contextOf(there) }).drawn!.candidates).toEqual(TEN);
});

test.each<{ says: string; sample: Sample; minimum?: number; privacy?: "secure"; sentence: RegExp }>([
  {
    says: "a fraction that comes to fewer than the minimum",
    sample: { fraction: "0.2" },
    minimum: 3,
    sentence: /minimum must not be above participants.sample.count/,
  },
  {
    says: "more to spare than a secure sum can do without",
    sample: { fraction: "0.5", overselect: 3 },
    privacy: "secure",
    minimum: 3,
    sentence: /overselect may be at most n - t/,
  },
])("$says is refused for good", ({ sample, minimum, privacy, sentence }) =>
  expect(() => chosen(sample, { ...(minimum && { minimum }), ...(privacy && { privacy }) })).toThrow(
    expect.objectContaining({ name: "SettingsFault", message: expect.stringMatching(sentence) }),
  ),
);

test("more than a plan can hold are refused with what to do", () => {
  const many = Array.from({ length: 300 }, (_, i) => `site-${String(i).padStart(3, "0")}`);
  expect(() => chosen(undefined, { context: contextOf(many, many) })).toThrow(
    /300 Participants would be invited.*participants.sample/,
  );
});
