/** A round that cannot begin, and what a site cannot or will not do: each round ends with who and why in a sentence, or goes on without the one. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { CORE_EVENTS } from "../../../operator/kube/resources.ts";
import { advertiseGpus } from "../../cluster/gpus.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { ABSENT_IMAGE, FederationUnderTest, GPUS } from "./federation.ts";
import { haveVersions, standardFederations } from "./federations.ts";
import { endOf, lost, outcome, secondsOf, sentence, startRound, unopened } from "./rounds.ts";
import { goodLines, type Site } from "./site.ts";

let under: FederationUnderTest;
let north: Site;
let south: Site;
let west: Site;
let east: Site;

beforeAll(async () => {
  under = await FederationUnderTest.open();
  [north, south, west, east] = under.sites as [Site, Site, Site, Site];
  await under.coordinator.apply(standardFederations());
  await haveVersions(under, ["small", "trusted"]);
});
afterAll(() => under?.close());

afterEach(() => {
  for (const site of under.sites) {
    site.letGo();
    site.behaveWell();
  }
});

async function round(name: string, spec: Partial<FederationRound["spec"]> = {}): Promise<FederationRound> {
  await startRound(under, name, { federation: "small", ...spec });
  return endOf(under, name);
}

const crashed = { state: "Failed", reason: "TrainerCrashed", message: sentence(/exit code 1/) };

describe("a round that cannot begin says so within seconds", () => {
  test("of a federation that nobody knows", async () => {
    const ended = await round("unknown", { federation: "nowhere" });
    expect(outcome(ended)).toEqual({
      phase: "Failed",
      reason: "FederationNotFound",
      message: 'there is no Federation "nowhere" in this namespace; create it, then create the round again',
    });
    expect(secondsOf(ended)).toBeLessThan(30);
  });

  test("with a quorum above the participants", async () => {
    const ended = await round("too-few", { participants: { minimum: 5 } });
    expect(outcome(ended)).toEqual({
      phase: "Failed",
      reason: "TooFewParticipants",
      message: sentence(/^minimum is 5, but 4 Participants can be invited/),
    });
    expect(secondsOf(ended)).toBeLessThan(30);
  });
});

describe("what a site cannot or will not do", () => {
  test("an image that one site's policy forbids, and that no node of the others has", async () => {
    const ended = await round("image", { federation: "trusted", training: { image: ABSENT_IMAGE } });
    expect(outcome(ended)).toMatchObject({
      phase: "Failed",
      reason: "QuorumLost",
      message: sentence(/north.*south.*west/),
    });
    const absent = {
      state: "Failed",
      reason: "ImageUnavailable",
      message: sentence(/^image localhost\/absent:1 is not on the node/),
    };
    expect(lost(ended)).toEqual({
      north: absent,
      south: absent,
      east: absent,
      west: {
        state: "Refused",
        reason: "ImageNotAllowed",
        message: "policy: image localhost/absent:1 is not in the allow-list",
      },
    });
  });

  test("data that is missing, empty, or malformed in line 7: the line stays at the site", async () => {
    const malformed = goodLines();
    malformed[6] = '{"prompt": "Mrs. Miller';
    north.hold(undefined);
    south.hold([]);
    west.hold(malformed);
    for (const site of [north, south, west]) site.behave("real");
    east.behave("crash");
    const ended = await round("data", { federation: "trusted" });
    for (const site of under.sites) site.hold(goodLines());
    expect(outcome(ended)).toMatchObject({
      phase: "Failed",
      reason: "QuorumLost",
      message: sentence(/north.*south.*west/),
    });
    const bad = {
      state: "Failed",
      reason: "DataMalformed",
      message: sentence(/the training data is empty or malformed/),
    };
    expect(lost(ended)).toEqual({
      north: {
        state: "Failed",
        reason: "DataMissing",
        message: sentence(/the training data or the base model is missing/),
      },
      south: bad,
      west: bad,
      east: crashed,
    });
    expect(JSON.stringify(ended)).not.toContain("Miller");
    const { items: events } = await west.kube.list(CORE_EVENTS, { namespace: NAMESPACE });
    expect(events.map(({ message }) => message).join("\n")).toContain("records.jsonl line 7");
  });

  test("a base model of another digest, and a trainer that crashes: the round goes on without them", async () => {
    north.changeWeights();
    north.behave("real");
    south.behave("crash");
    west.behave("real");
    const ended = await round("digest", { federation: "trusted" });
    north.restoreWeights();
    expect(outcome(ended)).toMatchObject({ phase: "Succeeded" });
    expect(ended.status.contributions).toBe("2/4");
    expect(lost(ended)).toEqual({
      north: { state: "Failed", reason: "BaseModelDigestMismatch", message: sentence(/another digest.*exit code 69/) },
      south: crashed,
    });
    expect(south.starts("trusted", ended.status.number!)).toBe(2);
    expect(JSON.stringify(ended)).not.toContain("Miller");
  });

  test("an adapter with NaN, of wrong shapes, or of another rank", async () => {
    north.behave("nan");
    south.behave("wrong shape");
    west.behave("another rank");
    east.behave("crash");
    const ended = await round("adapters", { federation: "trusted" });
    expect(outcome(ended)).toMatchObject({
      phase: "Failed",
      reason: "QuorumLost",
      message: sentence(/north.*south.*west/),
    });
    const shape = {
      state: "Failed",
      reason: "ShapeDiffers",
      message: sentence(/has shape \d+×\d+ and the plan says \d+×\d+/),
    };
    expect(lost(ended)).toEqual({
      north: { state: "Failed", reason: "NonFinite", message: sentence(/^delta has 1 non-finite value in tensor /) },
      south: shape,
      west: shape,
      east: crashed,
    });
  });

  test("one more than a secure round can do without: it ends at once, and the others' deltas stay with them", async () => {
    north.behave("nan");
    south.behave("crash");
    west.behave("wait");
    east.behave("wait");
    const ended = await round("untrained");
    expect(outcome(ended)).toMatchObject({
      phase: "Failed",
      reason: "CohortTooSmall",
      message: sentence(/2 of 4 are left before keys were shared, 3 are needed; north Failed .*south Failed/),
    });
    expect(lost(ended)).toEqual({
      north: { state: "Failed", reason: "NonFinite", message: sentence(/^delta has 1 non-finite value in tensor /) },
      south: crashed,
      west: unopened,
      east: unopened,
    });
    expect(secondsOf(ended)).toBeLessThan(30);
  });

  test("a trainer that never ends, and no GPU that is free: the round goes on without them when its deadline comes", async () => {
    north.behave("hang");
    await advertiseGpus("south", 0);
    const ended = await round("never", {
      federation: "trusted",
      deadlines: { accept: "20s", training: "30s" },
    });
    await advertiseGpus("south", GPUS);
    expect(outcome(ended)).toMatchObject({ phase: "Succeeded" });
    expect(lost(ended)).toEqual({
      north: {
        state: "Failed",
        reason: sentence(/^(TrainingDeadline|DeadlineExceeded)$/),
        message: sentence(/deadline/),
      },
      south: {
        state: "Failed",
        reason: sentence(/^(NoCapacity|Unschedulable)$/),
        message: sentence(/Insufficient nvidia.com\/gpu/),
      },
    });
    expect(secondsOf(ended)).toBeLessThan(60);
  });
});
