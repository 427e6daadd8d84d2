import { describe, expect, test } from "vitest";
import { z } from "zod";
import { federationSchema } from "./federation.ts";
import { federationRoundSpecSchema } from "./federation-round.ts";
import { participantSchema } from "./participant.ts";
import { adapterVersion, federation, federationRound, federationSpecInput, participant } from "./testing/objects.ts";

describe("Federation", () => {
  test("what a person leaves out is filled in", () => {
    expect(federation().spec).toMatchObject({
      baseModel: { revision: "main" },
      adapter: { rank: 8, alpha: 16, targetModules: ["q_proj", "v_proj"] },
      training: {
        task: "instruction",
        batchSize: 4,
        sequenceLength: 512,
        learningRate: "5e-5",
        resources: { gpus: 1, gpuResourceName: "nvidia.com/gpu", memory: "16Gi", cpu: "4" },
      },
      deadlines: { accept: "15m", training: "2h", aggregation: "10m" },
      aggregation: { rule: "mean", lora: "average", weighting: "examples", exampleCap: 1000, clipNorm: "1.0" },
      publish: { oci: { plainHTTP: false } },
    });
  });

  test("who writes nothing about privacy gets secure aggregation", () => {
    const { aggregation: _left, ...spec } = federationSpecInput;
    for (const said of [spec, { ...spec, aggregation: {} }]) {
      const { aggregation } = federationSchema.shape.spec.parse(said);
      expect(aggregation).toMatchObject({ privacy: "secure", ring: "u32", cohortSize: 64 });
    }
  });
});

test("an object nobody has looked at says so in status", () => {
  for (const object of [federation(), federationRound(), participant("clinic-a"), adapterVersion(0)]) {
    expect(object.status.observedGeneration, object.kind).toBe(-1);
  }
});

test("overrides of a round have no defaults and require nothing", () => {
  const empty = { federation: "f", training: { resources: {} }, participants: {}, deadlines: {}, aggregation: {} };
  expect(federationRoundSpecSchema.parse(empty)).toEqual(empty);
  expect(JSON.stringify(z.toJSONSchema(federationRoundSpecSchema, { io: "input" }))).not.toContain('"default"');
});

test("a Participant without spec is enrolled for the first time and not suspended", () => {
  const { spec: _left, ...bare } = participant("clinic-a");
  expect(participantSchema.parse(bare).spec).toEqual({ enrolment: 1, suspended: false });
});

test("metadata that is not named in the schema is kept", () => {
  const managedFields = [{ manager: "kubectl" }];
  const object = federation({ metadata: { managedFields } });
  expect(object.metadata).toMatchObject({ managedFields });
});
