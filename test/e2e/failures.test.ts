/**
 * What goes wrong in a federation, on real clusters with real pods: each round ends by its deadlines or goes on without the one, says who and why
 * in a sentence, and leaves no Job, no Secret and nothing half-written. The trainers are misbehaving.py where the trainer itself is not the subject.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import type { Federation } from "../../operator/api/federation.ts";
import type { FederationRound } from "../../operator/api/federation-round.ts";
import type { Participant } from "../../operator/api/participant.ts";
import { CORE_EVENTS, FEDERATIONS, PARTICIPANTS, PODS } from "../../operator/kube/resources.ts";
import { createAuthority } from "../../operator/transport/certificates.ts";
import type { Invitation } from "../../operator/transport/invitation.ts";
import { cutLink, restoreLink } from "../cluster/faults.ts";
import { advertiseGpus } from "../cluster/gpus.ts";
import { nodeAddress } from "../cluster/layout.ts";
import { NAMESPACE } from "../demo/install.ts";
import { REGISTRY_PORT } from "../demo/registry.ts";
import { restrictedNamespace } from "../demo/volumes.ts";
import { bytesUnderWay, deletePod, isReady, killProcess, slowDown, speedUp } from "./failures/crashes.ts";
import {
  ABSENT_IMAGE,
  agentValues,
  FederationUnderTest,
  removeAll,
  SECTOR,
  TRAINER_IMAGE,
} from "./failures/federation.ts";
import {
  atStep,
  endOf,
  eventually,
  lost,
  outcome,
  roundThat,
  secondsOf,
  sessionsOf,
  startRound,
  terminal,
} from "./failures/rounds.ts";
import { goodLines, type Site } from "./failures/site.ts";
import { isMeanOf } from "./failures/sums.ts";

// A family of clusters of its own.
process.env.RONDO_CLUSTERS_SET = "e2e-failures";

const SITES = {
  north: [TRAINER_IMAGE, ABSENT_IMAGE],
  south: [TRAINER_IMAGE, ABSENT_IMAGE],
  west: [TRAINER_IMAGE],
  east: [TRAINER_IMAGE, ABSENT_IMAGE],
};
let under: FederationUnderTest;
let north: Site;
let south: Site;
let west: Site;
let east: Site;

beforeAll(async () => {
  if (!process.env.RONDO_E2E_KEEP) await removeAll();
  under = await FederationUnderTest.open(SITES);
  [north, south, west, east] = under.sites as [Site, Site, Site, Site];
  await under.coordinator.apply([
    // 300 kB and 9 MiB an adapter: most cases are about anything but bytes, and one needs an upload that lasts.
    federation("small", {}),
    federation("large", { rank: 256, alpha: 256, targetModules: ALL_MODULES }),
    // Three of four are needed to open a sum; where one contribution is to be enough, the operator may see it.
    trusted("trusted"),
  ]);
});
afterAll(() => under?.close());

const ALL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

afterEach(() => {
  for (const site of under.sites) {
    site.letGo();
    site.behave("train");
  }
});

/** The tiny federation of the examples, with short deadlines and without rounds of its own. */
function federation(name: string, adapter: Partial<Federation["spec"]["adapter"]>): object {
  const documents = parseAllDocuments(readFileSync("examples/demo/federation-tiny.yaml", "utf8"));
  const example = documents.map((document) => document.toJS() as Federation).find(({ kind }) => kind === "Federation")!;
  const { rounds: _, ...spec } = example.spec;
  return {
    ...example,
    metadata: { name, namespace: NAMESPACE },
    spec: {
      ...spec,
      adapter: { ...spec.adapter, ...adapter },
      training: { ...spec.training, steps: 2, resources: { ...spec.training.resources, memory: "1Gi", cpu: "100m" } },
      participants: { selector: { matchLabels: SECTOR }, minimum: 3 },
      deadlines: { accept: "90s", training: "2m", aggregation: "1m" },
      publish: {
        oci: { repository: `${nodeAddress("coordinator")}:${REGISTRY_PORT}/adapters/${name}`, plainHTTP: true },
      },
    },
  };
}

function trusted(name: string): object {
  const secure = federation(name, {}) as Federation;
  return {
    ...secure,
    spec: {
      ...secure.spec,
      participants: { ...secure.spec.participants, minimum: 1 },
      aggregation: { ...secure.spec.aggregation, privacy: "trusted" },
    },
  };
}

async function round(name: string, spec: Partial<FederationRound["spec"]> = {}): Promise<FederationRound> {
  await startRound(under, name, { federation: "small", ...spec });
  return endOf(under, name);
}

/** Of a site that did all it was asked for, in a cohort of which too few are left: nothing of it has left its cluster but its keys. */
const unopened = { state: "Excluded", reason: "CohortTooSmall", message: expect.stringMatching(/./) };
const crashed = { state: "Failed", reason: "TrainerCrashed", message: expect.stringMatching(/exit code 1/) };
const sentence = (pattern: RegExp) => expect.stringMatching(pattern);

test("a manifest with a wrong field is refused with the field's name", async () => {
  const wrong = { ...federation("wrong", {}), spec: { ...(federation("wrong", {}) as Federation).spec, secagg: true } };
  await expect(under.coordinator.apply([wrong])).rejects.toThrow(/secagg/);
});

describe("an agent is not let in", () => {
  /** Each in a namespace of its own at one site, told by its own log why. */
  const intruders = {
    guessed: { sentence: /this join token was not issued for this participant/, code: "TokenUnknown" },
    used: { sentence: /this join token was used before/, code: "TokenUsed" },
    late: { sentence: /this join token has expired/, code: "TokenExpired" },
    deceived: { sentence: /did not prove to be the operator of the invitation/, code: "OperatorUntrusted" },
  };

  beforeAll(async () => {
    const names = Object.keys(intruders);
    await Promise.all(names.map((name) => under.applyParticipant(name, { sector: "intruders" })));
    const invitations: Record<string, Invitation> = {
      guessed: { ...(await under.invite("guessed")), joinToken: randomBytes(32).toString("base64") },
      used: await under.invite("used"),
      late: await under.invite("late", "1s"),
      deceived: {
        ...(await under.invite("deceived")),
        ca: (await createAuthority({ trustDomain: "demo.rondo.dev", nowMs: Date.now() })).certificatePem,
      },
    };
    // Whoever had the same invitation was faster.
    await installAgent("first", invitations.used!);
    await eventually(async () => expect((await participant("used")).spec.identity).toBeDefined());
    await Promise.all(names.map((name) => installAgent(name, invitations[name]!)));
  });
  afterAll(async () => {
    await west.kubectl.run(["delete", "namespace", "first", ...Object.keys(intruders), "--wait=false"]);
  });

  test.each([
    ["with a token that was guessed", "guessed"],
    ["with a token that another agent has used", "used"],
    ["with a token that has expired", "late"],
    ["by an operator whose certificate is of another authority", "deceived"],
  ] as const)("%s", async (_, name) => {
    const { code, sentence } = intruders[name];
    await eventually(async () => {
      const said = await logOf(name);
      expect(said).toContain(code);
      expect(said).toMatch(sentence);
    });
    // The same invitation has let another agent in, so that the Participant's status would say nothing of this one.
    expect(await logOf(name)).not.toContain('"connected to the operator"');
  });

  async function installAgent(namespace: string, invitation: Invitation): Promise<void> {
    await west.kubectl.apply([restrictedNamespace(namespace)]);
    await west.kubectl.install("rondo-agent", "charts/rondo-agent", namespace, {
      ...agentValues([TRAINER_IMAGE]),
      invitation,
      persistence: { type: "emptyDir" },
    });
  }

  async function logOf(namespace: string): Promise<string> {
    const { items } = await west.kube.list(PODS, { namespace });
    return west.kube.podLogs(namespace, items[0]!.metadata.name);
  }

  async function participant(name: string): Promise<Participant> {
    return (await under.kube.get(PARTICIPANTS, { namespace: NAMESPACE, name })) as unknown as Participant;
  }
});

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
  beforeAll(async () => {
    await eventually(async () => {
      for (const name of ["small", "large", "trusted"]) {
        const made = (await under.kube.get(FEDERATIONS, { namespace: NAMESPACE, name })) as unknown as Federation;
        expect(made.status.activeAdapter).toBeDefined();
      }
    }, 240_000);
  });

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
    await advertiseGpus("south", 1);
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

/**
 * Four members, of which three are needed to open the sum: before they share keys, after their vectors have arrived, and before they reveal
 * shares, operator and agents are killed and one site's cable is pulled. Whoever has contributed counts, come back or not.
 */
describe("at each step of secure aggregation", () => {
  afterEach(() => Promise.all(under.sites.map(({ name }) => restoreLink(name))));

  test("before keys are shared: who is cut off is lost by name, and the sum is that of the other three", async () => {
    east.behave("wait");
    await startRound(under, "sharing", { federation: "small", deadlines: { aggregation: "100s" } });
    await atStep(under, "sharing", { step: "advertise", answered: 3 });
    await cutLink("west");
    killProcess("north", "agent");
    killProcess("coordinator", "operator");
    east.letGo();
    const cut = await terminal(under, "sharing");
    await restoreLink("west");
    expect(outcome(cut)).toMatchObject({ phase: "Succeeded" });
    expect(lost(cut)).toEqual({
      west: {
        state: "Lost",
        reason: "ShareDeadline",
        message: sentence(/its shares did not come by the sharing deadline/),
      },
    });
    const ended = await endOf(under, "sharing");
    await isMeanOf(under, ended, [north, south, east]);
    expect(await sessionsOf(under, ended)).toEqual({
      north: "RELEASED",
      south: "RELEASED",
      west: "ABORTED",
      east: "RELEASED",
    });
  });

  test("before keys are shared: with two cut off the cohort is too small, and nothing of the other two is opened", async () => {
    east.behave("wait");
    await startRound(under, "too-small", { federation: "small", deadlines: { aggregation: "60s" } });
    await atStep(under, "too-small", { step: "advertise", answered: 3 });
    await Promise.all([cutLink("west"), cutLink("north")]);
    east.letGo();
    const cut = await terminal(under, "too-small");
    await Promise.all([restoreLink("west"), restoreLink("north")]);
    expect(outcome(cut)).toMatchObject({
      phase: "Failed",
      reason: "CohortTooSmall",
      message: sentence(/2 of 4 are left while keys were shared, 3 are needed; north Lost .*west Lost/),
    });
    const late = { state: "Lost", reason: "ShareDeadline", message: sentence(/shares did not come/) };
    expect(lost(cut)).toEqual({ west: late, north: late, south: unopened, east: unopened });
    const ended = await endOf(under, "too-small");
    expect(await sessionsOf(under, ended)).toEqual({
      north: "ABORTED",
      south: "ABORTED",
      west: "ABORTED",
      east: "ABORTED",
    });
  });

  test("after masking and before shares are revealed: who has contributed counts, whether it answers or not", async () => {
    await slowDown("east", SLOW_KIB_PER_SECOND);
    try {
      // Consistency ends at 85 %: whoever was cut off has to find the operator again before that, on a slow machine too.
      await startRound(under, "masked", { federation: "large", deadlines: { training: "4m", aggregation: "170s" } });
      // By the rate of its link alone east may still be at any earlier step when the others are done.
      await atStep(under, "masked", { step: "mask", answered: 3 });
      killProcess("south", "agent");
      await cutLink("west");
      await dieDuringUpload();
    } finally {
      await speedUp("east", SLOW_KIB_PER_SECOND);
    }
    // Three have confirmed the survivors and wait for the fourth, so that none can have been asked for shares.
    await atStep(under, "masked", { step: "consistency", answered: 3 });
    killProcess("coordinator", "operator");
    killProcess("south", "agent");
    await cutLink("north");
    await restoreLink("west");
    const cut = await terminal(under, "masked");
    await restoreLink("north");
    expect(outcome(cut)).toMatchObject({ phase: "Succeeded" });
    expect(lost(cut)).toEqual({});
    const ended = await endOf(under, "masked");
    expect(under.sites.map((site) => site.starts("large", ended.status.number!))).toEqual([1, 1, 1, 1]);
    await isMeanOf(under, ended, under.sites);
    // North had confirmed the survivors and was not there when shares were asked for.
    expect(await sessionsOf(under, ended)).toEqual({
      north: "ABORTED",
      south: "RELEASED",
      west: "RELEASED",
      east: "RELEASED",
    });
  });

  /** Operator and agent, twice each; the upload goes on where it was. */
  async function dieDuringUpload(): Promise<void> {
    const spool = join(under.state, "operator");
    let held = 0;
    let least = 0;
    for (const die of [
      async () => killProcess("coordinator", "operator"),
      () => deletePod(east.kube, "agent"),
      () => deletePod(under.kube, "operator"),
      async () => killProcess("east", "agent"),
    ]) {
      const before = held;
      held = await eventually(() => {
        const bytes = bytesUnderWay(spool);
        // Else it would have begun anew.
        least = Math.min(least, bytes - before);
        expect(bytes).toBeGreaterThan(before);
        return bytes;
      });
      await die();
    }
    expect(least).toBe(0);
  }
});

describe("a registry that is down when the adapter is to be published", () => {
  afterAll(() => scaleRegistry(1));

  test("and stays so: the round fails by its deadline, and nothing is half-published", async () => {
    await scaleRegistry(0);
    await startRound(under, "unpublished", { federation: "trusted", deadlines: { aggregation: "8s" } });
    const ended = await roundThat(under, "unpublished", "Failed", ({ status }) => status.phase === "Failed");
    expect(outcome(ended)).toMatchObject({
      reason: "RegistryUnreachable",
      message: sentence(/^nothing was published before the aggregation deadline: /),
    });
    expect(ended.status.contributions).toBe("4/4");
  });

  test("and comes back: the round succeeds", async () => {
    await startRound(under, "late-published", { federation: "small" });
    await roundThat(under, "late-published", "Publishing", ({ status }) => status.phase === "Publishing");
    await scaleRegistry(1);
    expect(outcome(await endOf(under, "late-published"))).toMatchObject({ phase: "Succeeded" });
    await endOf(under, "unpublished"); // what it left can be looked at now
  });

  async function scaleRegistry(replicas: number): Promise<void> {
    await under.coordinator.run(["-n", "registry", "scale", "deployment/registry", `--replicas=${replicas}`]);
    await under.coordinator.run(["-n", "registry", "rollout", "status", "deployment/registry", "--timeout=2m"]);
    if (replicas === 0)
      await eventually(async () => expect((await under.kube.list(PODS, { namespace: "registry" })).items).toEqual([]));
  }
});

describe("pods that die", () => {
  test("operator and agents in the middle of training: everybody contributes, and nothing is trained twice", async () => {
    for (const site of under.sites) site.behave("wait");
    await startRound(under, "training", { federation: "small", deadlines: { accept: "3m", training: "4m" } });
    await roundThat(under, "training", "training everywhere", ({ status }) => status.counts?.Training === 4);
    await Promise.all([deletePod(under.kube, "operator"), deletePod(north.kube, "agent")]);
    killProcess("south", "agent");
    await Promise.all([isReady(under.kube, "operator"), isReady(north.kube, "agent"), isReady(south.kube, "agent")]);
    killProcess("coordinator", "operator");
    for (const site of under.sites) site.letGo();
    const ended = await endOf(under, "training");
    expect(outcome(ended)).toMatchObject({ phase: "Succeeded" });
    expect(ended.status.contributions).toBe("4/4");
    expect(under.sites.map((site) => site.starts("small", ended.status.number!))).toEqual([1, 1, 1, 1]);
  });
});

const SLOW_KIB_PER_SECOND = 256;
