import { expect, test } from "vitest";
import { deadlinesMs, effectiveSettings } from "./merge.ts";
import { federation } from "./testing/objects.ts";

const { spec } = federation();

test("without overrides the round runs by the federation's settings", () => {
  expect(effectiveSettings(spec, {})).toEqual({
    baseModel: spec.baseModel,
    adapter: spec.adapter,
    training: spec.training,
    participants: spec.participants,
    deadlines: spec.deadlines,
    retries: 1,
    aggregation: spec.aggregation,
    publish: spec.publish,
  });
});

test("each override replaces its field and leaves its neighbours", () => {
  const settings = effectiveSettings(spec, {
    training: { steps: 40, resources: { gpus: 2 } },
    participants: { minimum: 1 },
    deadlines: { training: "5m" },
    aggregation: { weighting: "uniform", ring: "u16", cohortSize: 12 },
  });
  expect(settings.training).toEqual({
    ...spec.training,
    steps: 40,
    resources: { ...spec.training.resources, gpus: 2 },
  });
  expect(settings.participants).toEqual({ ...spec.participants, minimum: 1 });
  expect(settings.deadlines).toEqual({ ...spec.deadlines, training: "5m" });
  expect(settings.aggregation).toEqual({
    ...spec.aggregation,
    weighting: "uniform",
    ring: "u16",
    cohortSize: 12,
  });
});

test("a selector replaces the whole selector", () => {
  const settings = effectiveSettings(spec, { participants: { selector: { matchLabels: { region: "north" } } } });
  expect(settings.participants.selector).toEqual({ matchLabels: { region: "north" } });
});

test("an override of undefined overrides nothing", () => {
  expect(effectiveSettings(spec, { training: { image: undefined, resources: { cpu: undefined } } }).training).toEqual(
    spec.training,
  );
});

test("privacy cannot be overridden, whatever the object holds", () => {
  const sneaky = { aggregation: { weighting: "uniform" as const, privacy: "trusted" } };
  const secure = { ...spec, aggregation: { ...spec.aggregation, privacy: "secure" as const } };
  expect(effectiveSettings(secure, sneaky).aggregation.privacy).toBe("secure");
});

test("deadlines become milliseconds", () => {
  expect(deadlinesMs(spec.deadlines)).toEqual({ accept: 900_000, training: 7_200_000, aggregation: 600_000 });
});
