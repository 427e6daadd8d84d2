/**
 * What `kubectl apply` says to good and bad manifests of the four resources (docs/api.md), by a real API server and the real kubectl.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { sharedApiServer } from "../shared-api-server.ts";
import { kubectl, type Printed } from "./kubectl.ts";
import { changed, good, type Manifest } from "./manifests.ts";

let run: (args: string[], stdin?: unknown) => Promise<Printed>;
const apply = (manifest: Manifest, ...flags: string[]) => run(["apply", "-f", "-", ...flags], manifest);

beforeAll(async () => {
  const server = await sharedApiServer();
  const namespace = await server.createNamespace("admission");
  run = (args, stdin) => kubectl(server.kubeconfig, ["-n", namespace, ...args], stdin);
});

const { federation, secure, round, participant, adapterVersion } = good;
const RECORD_PRIVACY = { noiseMultiplier: "1.1", maxGradNorm: "1.0", sampleRate: "0.01" };

describe("a good manifest is accepted", () => {
  test.each<{ says: string; manifest: Manifest }>([
    { says: "the shortest Federation", manifest: federation },
    { says: "a Federation that says nothing about aggregation", manifest: secure },
    {
      says: "a Federation of the smallest secure cohort",
      manifest: changed(secure, {
        "spec.participants.minimum": 3,
        "spec.aggregation": { privacy: "secure", ring: "u16", cohortSize: 6 },
      }),
    },
    { says: "a trusted Federation of two", manifest: changed(federation, { "spec.participants.minimum": 2 }) },
    { says: "a Federation that runs rounds", manifest: changed(federation, { "spec.rounds": { count: 10 } }) },
    {
      says: "a Federation whose rounds follow one another at once",
      manifest: changed(federation, { "spec.rounds": { count: 10, interval: "0s" } }),
    },
    {
      says: "a secure sample of four with one to spare",
      manifest: changed(secure, { "spec.participants.sample": { count: 4, overselect: 1 } }),
    },
    {
      says: "a trusted sample with as many to spare as there are",
      manifest: changed(federation, { "spec.participants.sample": { count: 2, overselect: 2 } }),
    },
    { says: "a FederationRound that is cancelled from the start", manifest: changed(round, { "spec.cancel": true }) },
    { says: "a Federation of everybody", manifest: changed(federation, { "spec.participants.selector": {} }) },
    {
      says: "a Federation with every field",
      manifest: changed(federation, {
        "spec.baseModel.revision": "v1.2",
        "spec.adapter": {
          rank: 16,
          alpha: 32,
          targetModules: ["q_proj"],
          initialFrom: { reference: "r.example/a/b:v3" },
        },
        "spec.training": {
          image: "r.example/trainer@sha256:00",
          task: "instruction",
          steps: 3,
          batchSize: 8,
          sequenceLength: 128,
          learningRate: "0.001",
          resources: { gpus: 2, gpuResourceName: "amd.com/gpu", memory: "512Mi", cpu: "500m" },
        },
        "spec.participants": {
          selector: { matchExpressions: [{ key: "sector", operator: "In", values: ["health"] }] },
          sample: { fraction: "0.5", overselect: 2 },
          minimum: 3,
        },
        "spec.retries": 0,
        "spec.rounds": {
          count: 20,
          interval: "1h",
          historyLimit: 1000,
          maxFailures: 1,
          stopWhen: { metric: "trainLoss", atMost: "1.25" },
        },
        "spec.suspend": true,
        "spec.deadlines": { accept: "90s", training: "1h30m", aggregation: "5m" },
        "spec.aggregation": {
          privacy: "trusted",
          rule: "mean",
          lora: "average",
          weighting: "uniform",
          exampleCap: 50,
          clipNorm: "0.5",
          ring: "u32",
          cohortSize: 128,
        },
        "spec.publish.oci": {
          repository: "10.77.0.11:30500/adapters/demo",
          credentialsSecretRef: { name: "regcred" },
          plainHTTP: true,
        },
      }),
    },
    {
      says: "a Federation that trains for epochs, in four bits, at a falling rate",
      manifest: changed(federation, {
        "spec.training.steps": undefined,
        "spec.training.epochs": "0.5",
        "spec.training.task": "completion",
        "spec.training.gradientAccumulation": 4,
        "spec.training.gradientCheckpointing": true,
        "spec.training.packing": true,
        "spec.training.onBadRecord": "skip",
        "spec.training.learningRateSchedule": "cosine",
        "spec.training.proximalTerm": "0.01",
        "spec.training.quantization": "nf4",
        "spec.rounds": { count: 10 },
      }),
    },
    {
      says: "a Federation with privacy of records",
      manifest: changed(federation, { "spec.training.recordPrivacy": RECORD_PRIVACY }),
    },
    { says: "a round of epochs", manifest: changed(round, { "spec.training": { epochs: "1" } }) },
    { says: "the shortest FederationRound", manifest: round },
    {
      says: "a FederationRound that overrides",
      manifest: changed(round, {
        "spec.training": { steps: 40, resources: { gpus: 0 } },
        "spec.participants": { minimum: 1, sample: { count: 1, overselect: 1 } },
        "spec.deadlines": { training: "10m" },
        "spec.retries": 5,
        "spec.aggregation": { weighting: "uniform", clipNorm: "2", ring: "u16", cohortSize: 10 },
      }),
    },
    { says: "a Participant without spec", manifest: participant },
    {
      says: "a Participant whose key is known beforehand",
      manifest: changed(participant, { spec: { identity: { ed25519: `${"A".repeat(43)}=`, enrolment: 1 } } }),
    },
    { says: "an AdapterVersion", manifest: adapterVersion },
    {
      says: "the first AdapterVersion, without parent and round",
      manifest: changed(adapterVersion, {
        "metadata.name": "clinic-notes-v0",
        "spec.version": 0,
        "spec.parent": undefined,
        "spec.round": undefined,
      }),
    },
    { says: "the longest Federation name", manifest: changed(federation, { "metadata.name": "f".repeat(24) }) },
    { says: "the longest FederationRound name", manifest: changed(round, { "metadata.name": "r".repeat(31) }) },
    { says: "the longest Participant name", manifest: changed(participant, { "metadata.name": "p".repeat(22) }) },
  ])("$says", async ({ manifest }) => {
    expect(await apply(manifest, "--dry-run=server")).toMatchObject({ ok: true, stderr: "" });
  });
});

const NOT_A_DURATION = "must be a duration from 1s to 720h, such as 15m, 2h or 1h30m";
const SUM_OF_TOO_FEW =
  "with aggregation.privacy secure spec.participants.minimum must be at least 3, because a sum of fewer tells on its members; raise it, or write `privacy: trusted` if the operator may see each participant's delta";
const NOT_A_DECIMAL = 'must be a decimal number above zero in quotes, such as "1.0" or "5e-5"';

const MINIMUM_ABOVE_SAMPLE =
  "participants.minimum must not be above participants.sample.count: no round could reach it; lower the minimum or raise the count";
const COUNT_OR_FRACTION = 'a sample needs either count: 6 or fraction: "0.5", and not both';

describe("a wrong manifest is refused with a sentence", () => {
  test.each<{ says: string; manifest: Manifest; sentence: string }>([
    {
      says: "a privacy that does not exist",
      manifest: changed(federation, { "spec.aggregation.privacy": "none" }),
      sentence: 'spec.aggregation.privacy: Unsupported value: "none": supported values: "secure", "trusted"',
    },
    {
      says: "a secure sum of two",
      manifest: changed(federation, { "spec.aggregation.privacy": "secure", "spec.participants.minimum": 2 }),
      sentence: SUM_OF_TOO_FEW,
    },
    {
      says: "a sum of two where nothing is said about privacy",
      manifest: changed(federation, { "spec.aggregation": undefined, "spec.participants.minimum": 2 }),
      sentence: SUM_OF_TOO_FEW,
    },
    {
      says: "a ring that there is not",
      manifest: changed(federation, { "spec.aggregation.ring": "u64" }),
      sentence: 'spec.aggregation.ring: Unsupported value: "u64": supported values: "u32", "u16"',
    },
    {
      says: "cohorts that would be split into pairs",
      manifest: changed(federation, { "spec.aggregation.cohortSize": 5 }),
      sentence: "spec.aggregation.cohortSize in body should be greater than or equal to 6",
    },
    {
      says: "cohorts beyond what the protocol is made for",
      manifest: changed(federation, { "spec.aggregation.cohortSize": 129 }),
      sentence: "spec.aggregation.cohortSize in body should be less than or equal to 128",
    },
    {
      says: "an override of cohorts that would be split into pairs",
      manifest: changed(round, { "spec.aggregation.cohortSize": 5 }),
      sentence: "spec.aggregation.cohortSize in body should be greater than or equal to 6",
    },
    {
      says: "no quorum",
      manifest: changed(federation, { "spec.participants.minimum": undefined }),
      sentence: "spec.participants.minimum: Required value",
    },
    {
      says: "a quorum of nobody",
      manifest: changed(federation, { "spec.participants.minimum": 0 }),
      sentence: "spec.participants.minimum in body should be greater than or equal to 1",
    },
    {
      says: "a number as text",
      manifest: changed(federation, { "spec.training.steps": "twenty" }),
      sentence: 'spec.training.steps in body must be of type integer: "string"',
    },
    {
      says: "a deadline without unit",
      manifest: changed(federation, { "spec.deadlines.training": "120" }),
      sentence: `spec.deadlines.training: Invalid value: "120": ${NOT_A_DURATION}`,
    },
    {
      says: "a deadline of two months",
      manifest: changed(federation, { "spec.deadlines.training": "1440h" }),
      sentence: `spec.deadlines.training: Invalid value: "1440h": ${NOT_A_DURATION}`,
    },
    {
      says: "a deadline that is over at once",
      manifest: changed(federation, { "spec.deadlines.accept": "0s" }),
      sentence: `spec.deadlines.accept: Invalid value: "0s": ${NOT_A_DURATION}`,
    },
    {
      says: "neither steps nor epochs",
      manifest: changed(federation, { "spec.training.steps": undefined }),
      sentence: 'spec.training: Invalid value: needs either steps: 20 or epochs: "1", and not both',
    },
    {
      says: "steps and epochs",
      manifest: changed(federation, { "spec.training.epochs": "1" }),
      sentence: 'spec.training: Invalid value: needs either steps: 20 or epochs: "1", and not both',
    },
    {
      says: "a round of steps and epochs",
      manifest: changed(round, { "spec.training": { epochs: "1", steps: 4 } }),
      sentence: "spec.training: Invalid value: either steps or epochs, and not both",
    },
    {
      says: "a rate that falls over nobody knows how many rounds",
      manifest: changed(federation, { "spec.training.learningRateSchedule": "cosine" }),
      sentence: "spec.training.learningRateSchedule cosine needs rounds.count",
    },
    {
      says: "several records in one row whose gradients are to be clipped one by one",
      manifest: changed(federation, { "spec.training.recordPrivacy": RECORD_PRIVACY, "spec.training.packing": true }),
      sentence: "spec.training.recordPrivacy goes with neither packing",
    },
    {
      says: "a sample of more records than there are",
      manifest: changed(federation, { "spec.training.recordPrivacy": { ...RECORD_PRIVACY, sampleRate: "1.5" } }),
      sentence: 'must be a decimal number above zero and at most one in quotes, such as "0.5"',
    },
    {
      says: "a proximal term below zero",
      manifest: changed(federation, { "spec.training.proximalTerm": "-1" }),
      sentence: 'must be a decimal number of zero or more in quotes, such as "0" or "0.01"',
    },
    {
      says: "a float",
      manifest: changed(federation, { "spec.aggregation.clipNorm": 1.5 }),
      sentence: 'spec.aggregation.clipNorm in body must be of type string: "number"',
    },
    {
      says: "a learning rate that is no number",
      manifest: changed(federation, { "spec.training.learningRate": "fast" }),
      sentence: `spec.training.learningRate: Invalid value: "fast": ${NOT_A_DECIMAL}`,
    },
    {
      says: "a clip of zero",
      manifest: changed(federation, { "spec.aggregation.clipNorm": "0.0" }),
      sentence: `spec.aggregation.clipNorm: Invalid value: "0.0": ${NOT_A_DECIMAL}`,
    },
    {
      says: "memory in another notation",
      manifest: changed(federation, { "spec.training.resources.memory": "16GB" }),
      sentence:
        'spec.training.resources.memory: Invalid value: "16GB": must be an amount above zero in the notation of Kubernetes, such as "16Gi", "500m" or "4"',
    },
    {
      says: "a GPU resource without domain",
      manifest: changed(federation, { "spec.training.resources.gpuResourceName": "gpu" }),
      sentence: 'Invalid value: "gpu": must be the name of an extended resource, such as nvidia.com/gpu',
    },
    {
      says: "a short digest",
      manifest: changed(federation, { "spec.baseModel.digest": "sha256:abc" }),
      sentence:
        'spec.baseModel.digest: Invalid value: "sha256:abc": must be sha256: and 64 lower-case hexadecimal digits',
    },
    {
      says: "a repository with a tag",
      manifest: changed(federation, { "spec.publish.oci.repository": "registry.example/a/b:v1" }),
      sentence:
        "must be registry/repository in lower case without scheme, tag or digest, such as registry.example/adapters/clinic-notes",
    },
    {
      says: "an aggregation rule of a later version",
      manifest: changed(federation, { "spec.aggregation.rule": "krum" }),
      sentence: 'spec.aggregation.rule: Unsupported value: "krum": supported values: "mean"',
    },
    {
      says: "the same module twice",
      manifest: changed(federation, { "spec.adapter.targetModules": ["q_proj", "q_proj"] }),
      sentence: 'spec.adapter.targetModules[1]: Duplicate value: "q_proj"',
    },
    {
      says: "In without values",
      manifest: changed(federation, {
        "spec.participants.selector": { matchExpressions: [{ key: "sector", operator: "In" }] },
      }),
      sentence: "In and NotIn need values; Exists and DoesNotExist take none",
    },
    {
      says: "a Federation name whose Jobs would be too long",
      manifest: changed(federation, { "metadata.name": "f".repeat(25) }),
      sentence:
        "metadata.name must have at most 24 lower-case letters, digits and dashes, because its rounds are named <name>-r<number>",
    },
    {
      says: "a FederationRound name whose Jobs would be too long",
      manifest: changed(round, { "metadata.name": "r".repeat(32) }),
      sentence:
        "metadata.name must have at most 31 lower-case letters, digits and dashes, because its Jobs are named <name>-<participant>-<attempt>",
    },
    {
      says: "a Participant name whose Jobs would be too long",
      manifest: changed(participant, { "metadata.name": "p".repeat(23) }),
      sentence:
        "metadata.name must have at most 22 lower-case letters, digits and dashes, because its Jobs are named <round>-<name>-<attempt>",
    },
    {
      says: "a name with a dot, which no hostname takes",
      manifest: changed(participant, { "metadata.name": "clinic.a" }),
      sentence: "metadata.name must have at most 22 lower-case letters, digits and dashes",
    },
    {
      says: "a quorum above the sample",
      manifest: changed(federation, { "spec.participants": { selector: {}, sample: { count: 3 }, minimum: 4 } }),
      sentence: `spec.${MINIMUM_ABOVE_SAMPLE}`,
    },
    {
      says: "a round's quorum above its sample",
      manifest: changed(round, { "spec.participants": { sample: { count: 3 }, minimum: 4 } }),
      sentence: `spec.${MINIMUM_ABOVE_SAMPLE}`,
    },
    {
      says: "a sample of neither count nor fraction",
      manifest: changed(federation, { "spec.participants.sample": { overselect: 1 } }),
      sentence: `spec.participants.sample: Invalid value: ${COUNT_OR_FRACTION}`,
    },
    {
      says: "a round's sample of both count and fraction",
      manifest: changed(round, { "spec.participants.sample": { count: 3, fraction: "0.5" } }),
      sentence: `spec.participants.sample: Invalid value: ${COUNT_OR_FRACTION}`,
    },
    {
      says: "more than all",
      manifest: changed(federation, { "spec.participants.sample": { fraction: "1.5" } }),
      sentence: 'must be a decimal number above zero and at most one in quotes, such as "0.5"',
    },
    {
      says: "more stragglers than a secure sum can do without",
      manifest: changed(secure, { "spec.participants.sample": { count: 4, overselect: 2 } }),
      sentence:
        "with aggregation.privacy secure, spec.participants.sample.overselect may be at most n - t, where n = count + overselect and t = floor(2n / 3) + 1: the sum of a cohort with more members missing cannot be opened; lower overselect or raise count",
    },
    {
      says: "more attempts than help",
      manifest: changed(federation, { "spec.retries": 6 }),
      sentence: "spec.retries in body should be less than or equal to 5",
    },
    {
      says: "a pause of two months",
      manifest: changed(federation, { "spec.rounds": { count: 1, interval: "1440h" } }),
      sentence:
        'spec.rounds.interval: Invalid value: "1440h": must be a duration from 0s to 720h, such as 0s, 15m or 24h',
    },
    {
      says: "a history of nothing",
      manifest: changed(federation, { "spec.rounds": { count: 1, historyLimit: 0 } }),
      sentence: "spec.rounds.historyLimit in body should be greater than or equal to 1",
    },
    {
      says: "to stop by a metric that there is not",
      manifest: changed(federation, { "spec.rounds": { count: 1, stopWhen: { metric: "evalLoss", atMost: "1" } } }),
      sentence: 'spec.rounds.stopWhen.metric: Unsupported value: "evalLoss": supported values: "trainLoss"',
    },
    {
      says: "a round of no federation",
      manifest: changed(round, { spec: {} }),
      sentence: "spec.federation: Required value",
    },
    {
      says: "a wrong override",
      manifest: changed(round, { "spec.deadlines.accept": "soon" }),
      sentence: `spec.deadlines.accept: Invalid value: "soon": ${NOT_A_DURATION}`,
    },
    {
      says: "a key that is no Ed25519 key",
      manifest: changed(participant, { spec: { identity: { ed25519: "c2hvcnQ=", enrolment: 1 } } }),
      sentence:
        'spec.identity.ed25519: Invalid value: "c2hvcnQ=": must be the 32 bytes of an Ed25519 public key in base64',
    },
    {
      says: "an identity of a later enrolment",
      manifest: changed(participant, { spec: { identity: { ed25519: `${"A".repeat(43)}=`, enrolment: 2 } } }),
      sentence: "spec.identity.enrolment cannot be above spec.enrolment; raise spec.enrolment first",
    },
    {
      says: "an AdapterVersion under another name",
      manifest: changed(adapterVersion, { "metadata.name": "clinic-notes-v4" }),
      sentence: "metadata.name must be <spec.federation>-v<spec.version>",
    },
    {
      says: "an AdapterVersion by tag",
      manifest: changed(adapterVersion, { "spec.reference": "registry.example/adapters/clinic-notes:v3" }),
      sentence: "spec.reference must end with @ and spec.digest",
    },
    {
      says: "an AdapterVersion that is its own parent",
      manifest: changed(adapterVersion, { "spec.parent": 3 }),
      sentence: "spec.parent must be an earlier version",
    },
  ])("$says", async ({ manifest, sentence }) => {
    const printed = await apply(manifest, "--dry-run=server");
    expect(printed.ok).toBe(false);
    expect(printed.stderr).toContain(`The ${manifest.kind} "${manifest.metadata.name}" is invalid:`);
    expect(printed.stderr).toContain(sentence);
  });
});

describe("a field whose feature does not exist yet is refused, not ignored", () => {
  test.each<{ manifest: Manifest; field: string }>([
    ...[
      "activeVersion",
      "evaluation",
      "differentialPrivacy",
      "deadlines.evaluation",
      "aggregation.serverOptimizer",
      "publish.sign",
      "publish.apply",
    ].map((field) => ({ field: `spec.${field}`, manifest: changed(federation, { [`spec.${field}`]: "x" }) })),
    ...["evaluation", "baseModel", "training.recordPrivacy", "aggregation.privacy", "aggregation.rule"].map(
      (field) => ({
        field: `spec.${field}`,
        manifest: changed(round, { [`spec.${field}`]: "x" }),
      }),
    ),
    { field: "spec.epsilonSpent", manifest: changed(adapterVersion, { "spec.epsilonSpent": "1" }) },
    { field: "spec.nodeSelector", manifest: changed(participant, { "spec.nodeSelector": "x" }) },
  ])("$manifest.kind $field", async ({ manifest, field }) => {
    const printed = await apply(manifest, "--dry-run=server");
    expect(printed.ok).toBe(false);
    expect(printed.stderr).toContain(`strict decoding error: unknown field "${field}"`);
  });
});

describe("what the API server makes of an object", () => {
  const get = async (what: string[]) => JSON.parse((await run(["get", ...what, "-o", "json"])).stdout);

  test("defaults are filled in where the object is kept", async () => {
    await apply(federation);
    const { spec, status } = await get(["fed", "clinic-notes"]);
    expect(spec.training).toMatchObject({
      task: "instruction",
      batchSize: 4,
      learningRate: "5e-5",
      resources: { gpus: 1 },
    });
    expect(spec.adapter).toEqual({ rank: 8, alpha: 16, targetModules: ["q_proj", "v_proj"] });
    expect(spec.deadlines).toEqual({ accept: "15m", training: "2h", aggregation: "10m" });
    expect(spec.aggregation).toMatchObject({ privacy: "trusted", rule: "mean", exampleCap: 1000, clipNorm: "1.0" });
    expect(status).toEqual({ observedGeneration: -1 });
  });

  test("who says nothing about aggregation gets secure sums of at most 64", async () => {
    await apply(changed(secure, { "metadata.name": "unsaid" }));
    const { spec } = await get(["fed", "unsaid"]);
    expect(spec.aggregation).toMatchObject({ privacy: "secure", ring: "u32", cohortSize: 64 });
  });

  test("an override stays what it was: nothing is filled in", async () => {
    await apply(changed(round, { "spec.training": { steps: 40, resources: {} } }));
    const { spec } = await get(["fr", "by-hand"]);
    expect(spec).toEqual({ federation: "clinic-notes", training: { steps: 40, resources: {} } });
  });

  test("a Participant without spec gets one", async () => {
    await apply(participant);
    expect((await get(["part", "clinic-a"])).spec).toEqual({ enrolment: 1, suspended: false });
  });

  test("`kubectl get rondo` lists all four kinds under their columns", async () => {
    await apply(adapterVersion);
    const { stdout } = await run(["get", "rondo"]);
    const heads = stdout.split("\n").filter((line) => line.startsWith("NAME"));
    expect(heads.map((line) => line.trim().split(/\s+/).slice(1))).toEqual([
      ["FEDERATION", "VERSION", "PHASE", "PARENT", "AGE"],
      ["FEDERATION", "PHASE", "CONTRIBUTIONS", "ADAPTER", "AGE"],
      ["READY", "VERSION", "SUCCEEDED", "FAILED", "CURRENT", "AGE"],
      ["ENROLLED", "CONNECTED", "GPUS", "SUSPENDED", "AGE"],
    ]);
    expect(stdout).toMatch(/adapterversion.rondo.dev\/clinic-notes-v3\s+clinic-notes\s+3\s+2\s/);
  });

  test("short names work", async () => {
    expect(await run(["get", "fed,fr,part,av"])).toMatchObject({ ok: true });
  });
});

describe("what may change later", () => {
  const patch = (what: string[], body: unknown, ...flags: string[]) =>
    run(["patch", ...what, "--type=merge", "-p", JSON.stringify(body), ...flags]);
  const activeAdapter = {
    version: 0,
    name: "changing-v0",
    digest: `sha256:${"0".repeat(64)}`,
    reference: `r.example/a/b@sha256:${"0".repeat(64)}`,
  };

  test("a Federation's model and rank, but not after its first adapter is active", async () => {
    await apply(changed(federation, { "metadata.name": "changing" }));
    const rank = { spec: { adapter: { rank: 16 } } };
    const model = { spec: { baseModel: { name: "other" } } };
    expect(await patch(["fed", "changing"], rank)).toMatchObject({ ok: true });
    expect(await patch(["fed", "changing"], { status: { activeAdapter } }, "--subresource=status")).toMatchObject({
      ok: true,
    });

    const because =
      "while status.activeAdapter exists, because earlier versions would not fit; create a new Federation instead";
    expect((await patch(["fed", "changing"], { spec: { adapter: { rank: 4 } } })).stderr).toContain(
      `spec.adapter.rank cannot change ${because}`,
    );
    expect((await patch(["fed", "changing"], model)).stderr).toContain(`spec.baseModel cannot change ${because}`);
    expect(await patch(["fed", "changing"], { spec: { training: { steps: 5 }, adapter: { alpha: 8 } } })).toMatchObject(
      { ok: true },
    );
  });

  test("a trusted Federation of two becomes secure only with a third", async () => {
    await apply(changed(federation, { "metadata.name": "growing", "spec.participants.minimum": 2 }));
    const aggregation = { privacy: "secure" };
    expect((await patch(["fed", "growing"], { spec: { aggregation } })).stderr).toContain(SUM_OF_TOO_FEW);
    expect(await patch(["fed", "growing"], { spec: { aggregation, participants: { minimum: 3 } } })).toMatchObject({
      ok: true,
    });
  });

  test("nothing of a round, but that it is cancelled", async () => {
    const fixed =
      "a round's spec cannot change, but for cancel from false to true; create a new FederationRound with the wanted settings";
    await apply(changed(round, { "metadata.name": "fixed", "spec.training": { steps: 2 } }));
    for (const spec of [{ training: { steps: 1 } }, { training: null }, { retries: 2 }, { federation: "other" }]) {
      const printed = await patch(["fr", "fixed"], { spec: { cancel: true, ...spec } });
      expect(printed.stderr, JSON.stringify(spec)).toContain(fixed);
    }
    expect(await patch(["fr", "fixed"], { spec: { cancel: false } })).toMatchObject({ ok: true });
    expect(await patch(["fr", "fixed"], { spec: { cancel: true } })).toMatchObject({ ok: true });
    for (const cancel of [false, null])
      expect((await patch(["fr", "fixed"], { spec: { cancel } })).stderr, `to ${cancel}`).toContain(
        "spec.cancel cannot be taken back: the round's trainers have been told; create a new FederationRound to run it again",
      );
  });

  test("nothing of an AdapterVersion", async () => {
    await apply(changed(adapterVersion, { "metadata.name": "clinic-notes-v9", "spec.version": 9 }));
    expect((await patch(["av", "clinic-notes-v9"], { spec: { contributors: 5 } })).stderr).toContain(
      "an AdapterVersion cannot change",
    );
  });

  test("a Participant's identity, only together with a higher enrolment", async () => {
    const key = (letter: string) => `${letter.repeat(43)}=`;
    const identity = (letter: string, enrolment: number) => ({
      spec: { identity: { ed25519: key(letter), enrolment } },
    });
    const only =
      "spec.identity changes only to a higher enrolment that equals spec.enrolment; raise spec.enrolment first";
    const clinic = ["part", "clinic-b"];
    await apply(changed(participant, { "metadata.name": "clinic-b" }));

    expect(await patch(clinic, identity("A", 1))).toMatchObject({ ok: true });
    expect((await patch(clinic, identity("B", 1))).stderr).toContain(only);
    expect((await patch(clinic, { spec: { identity: null } })).stderr).toContain("spec.identity cannot be removed");
    expect(await patch(clinic, { spec: { enrolment: 2 } })).toMatchObject({ ok: true });
    expect((await patch(clinic, identity("B", 1))).stderr).toContain(only);
    expect(await patch(clinic, identity("B", 2))).toMatchObject({ ok: true });
    expect((await patch(clinic, { spec: { enrolment: 1 } })).stderr).toContain(
      "spec.enrolment can only rise, or an old key could come back",
    );
  });
});
