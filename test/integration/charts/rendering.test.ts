/** What the charts make of values, without a cluster: the programs understand their configuration, wrong values are refused with a sentence. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseAgentConfig } from "../../../operator/agent/config.ts";
import { operatorConfigSchema } from "../../../operator/controllers/config.ts";
import { find, Helm, type Rendered } from "./helm.ts";
import { demoOperator, demoSite, invitation, podTemplate, site } from "./values.ts";

let helm: Helm;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-charts-"));
  helm = new Helm(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.each([
  { chart: "rondo", says: "default values", values: {} },
  { chart: "rondo", says: "the demo's values", values: demoOperator },
  { chart: "rondo-agent", says: "default values", values: {} },
  { chart: "rondo-agent", says: "the demo's values", values: demoSite },
] as const)("helm lint --strict finds nothing in $chart with $says", async ({ chart, values }) => {
  const printed = await helm.lint(chart, values);
  expect(printed.stdout).toContain("0 chart(s) failed");
});

describe("the operator", () => {
  const operator = (objects: Rendered[]) =>
    operatorConfigSchema.parse(parse(find(objects, "ConfigMap", "rondo-operator").data["operator.yaml"]));

  test("understands the configuration of default values", async () => {
    const config = operator(await helm.rendered("rondo", {}, "rondo"));
    expect(config.agents.endpoint).toBe("rondo-agents.rondo.svc:8443");
    expect(config.enrolment.endpoint).toBe("rondo-agents.rondo.svc:8444");
    expect(config.namespace).toBe("rondo");
    expect(config.initialise.podTemplate).toEqual({ spec: { serviceAccountName: "rondo-trainer" } });
  });

  test("keeps as much of its volume free as it is told", async () => {
    const config = operator(await helm.rendered("rondo", { persistence: { reserve: "2Gi" } }));
    expect(config.storage.reserve).toBe(2 * 2 ** 30);
    expect(operator(await helm.rendered("rondo", {})).storage.reserve).toBe(64 * 2 ** 20);
  });

  test("is told where agents dial, and the Service listens there", async () => {
    const objects = await helm.rendered("rondo", demoOperator);
    expect(operator(objects)).toMatchObject({
      agents: { endpoint: "10.77.0.11:30443" },
      initialise: {
        podTemplate: { ...podTemplate, spec: { ...podTemplate.spec, serviceAccountName: "rondo-trainer" } },
      },
    });
    const service = find(objects, "Service", "rondo-agents");
    expect(service.spec.type).toBe("NodePort");
    expect(service.spec.ports).toEqual([
      { name: "agents", port: 8443, targetPort: "agents", nodePort: 30443 },
      { name: "enrolment", port: 8444, targetPort: "enrolment", nodePort: 30444 },
    ]);
  });

  test("reads the registry credentials that are named, and no other Secret but its keys", async () => {
    const rules = find(await helm.rendered("rondo", demoOperator), "Role", "rondo-operator").rules as {
      resources: string[];
      resourceNames?: string[];
      verbs: string[];
    }[];
    const readable = rules.filter((rule) => rule.resources.includes("secrets") && rule.verbs.includes("get"));
    expect(readable.map((rule) => rule.resourceNames)).toEqual([["rondo-operator-keys"], ["regcred"]]);
  });

  test("restarts with its configuration", async () => {
    const checksum = async (values: object) =>
      find(await helm.rendered("rondo", values), "StatefulSet", "rondo-operator").spec.template.metadata.annotations[
        "checksum/config"
      ];
    expect(await checksum({ log: { level: "debug" } })).not.toBe(await checksum({}));
  });

  test("comes without CRDs and roles for people where another release has them", async () => {
    const objects = await helm.rendered("rondo", { crds: { enabled: false } });
    expect(objects.filter(({ kind }) => kind === "CustomResourceDefinition" || kind === "ClusterRole")).toEqual([]);
  });
});

describe("the agent", () => {
  const agent = (objects: Rendered[]) => parseAgentConfig(find(objects, "ConfigMap", "rondo-agent").data["agent.yaml"]);

  test("understands its configuration", async () => {
    const config = agent(await helm.rendered("rondo-agent", demoSite, "site"));
    expect(config).toMatchObject({
      namespace: "site",
      policy: { federations: ["*"], images: ["registry.example/trainer@*"], privacy: ["trusted"], gpus: { max: 2 } },
    });
    expect(config.podTemplate).toEqual({
      ...podTemplate,
      spec: { ...podTemplate.spec, serviceAccountName: "rondo-trainer" },
    });
  });

  test("takes part in secure sums alone, of five at least, unless its site writes something else", async () => {
    const silent = { invitation, policy: { images: ["registry.example/*"] } };
    expect(agent(await helm.rendered("rondo-agent", silent)).policy).toMatchObject({
      privacy: ["secure"],
      minCohort: 5,
      releasesPerParent: 3,
      trust: { mode: "firstUse", roster: [] },
    });
  });

  test("gets the keys that its site has pinned", async () => {
    const roster = [{ federation: "*", participant: "clinic-b", identity: `${"C".repeat(43)}=` }];
    const policy = { ...site.policy, privacy: ["secure"], minCohort: 3, trust: { mode: "pinned", roster } };
    expect(agent(await helm.rendered("rondo-agent", { ...site, policy })).policy).toMatchObject({
      minCohort: 3,
      trust: { mode: "pinned", roster },
    });
  });

  test("a template that names a service account keeps it", async () => {
    const values = { ...site, podTemplate: { spec: { serviceAccountName: "own" } } };
    expect(agent(await helm.rendered("rondo-agent", values)).podTemplate.spec?.serviceAccountName).toBe("own");
  });

  test("gets the invitation as `rondo invite` printed it", async () => {
    const secret = find(await helm.rendered("rondo-agent", site), "Secret", "rondo-agent-invitation");
    expect(JSON.parse(secret.stringData["invitation.json"])).toEqual(invitation);
  });

  test("or a Secret that exists already", async () => {
    const values = { policy: site.policy, existingInvitationSecret: "from-vault" };
    const objects = await helm.rendered("rondo-agent", values);
    expect(objects.filter(({ kind }) => kind === "Secret")).toEqual([]);
    const { volumes } = find(objects, "Deployment", "rondo-agent").spec.template.spec;
    expect(volumes).toContainEqual({ name: "invitation", secret: { secretName: "from-vault", defaultMode: 0o440 } });
  });

  test.each([
    {
      says: "its own claim",
      persistence: { existingClaim: "mine" },
      data: { persistentVolumeClaim: { claimName: "mine" } },
    },
    { says: "a claim of the chart", persistence: {}, data: { persistentVolumeClaim: { claimName: "rondo-agent" } } },
    { says: "an emptyDir", persistence: { type: "emptyDir" }, data: { emptyDir: {} } },
  ])("keeps its ledger on $says", async ({ persistence, data }) => {
    const objects = await helm.rendered("rondo-agent", { ...site, persistence });
    expect(find(objects, "Deployment", "rondo-agent").spec.template.spec.volumes).toContainEqual({
      name: "data",
      ...data,
    });
    const claims = objects.filter(({ kind }) => kind === "PersistentVolumeClaim");
    expect(claims.length).toBe(
      "claimName" in (data.persistentVolumeClaim ?? {}) && !("existingClaim" in persistence) ? 1 : 0,
    );
  });
});

describe("wrong values are refused with a sentence", () => {
  test.each([
    {
      chart: "rondo",
      says: "an unknown field",
      values: { replicas: 3 },
      sentence: "additional properties 'replicas' not allowed",
    },
    {
      chart: "rondo",
      says: "a kind of Service there is not",
      values: { service: { type: "Ingress" } },
      sentence: "at '/service/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'",
    },
    {
      chart: "rondo",
      says: "an endpoint with a scheme",
      values: { agents: { endpoint: "https://rondo.example:8443" } },
      sentence: "at '/agents/endpoint': 'https://rondo.example:8443' does not match pattern",
    },
    {
      chart: "rondo-agent",
      says: "no invitation",
      values: { policy: site.policy },
      sentence: "invitation: install with -f and the file that the operator's `rondo invite NAME -o values` printed",
    },
    {
      chart: "rondo-agent",
      says: "half an invitation",
      values: { ...site, invitation: { endpoint: invitation.endpoint } },
      sentence: "at '/invitation': missing properties 'schema', 'enrolmentEndpoint', 'ca', 'planKey'",
    },
    {
      chart: "rondo-agent",
      says: "two invitations",
      values: { ...site, existingInvitationSecret: "x" },
      sentence: "invitation and existingInvitationSecret exclude each other: keep one",
    },
    {
      chart: "rondo-agent",
      says: "no images",
      values: { ...site, policy: { privacy: ["trusted"] } },
      sentence: "policy.images: list the trainer images that this site runs",
    },
    {
      chart: "rondo-agent",
      says: "no kind of privacy",
      values: { ...site, policy: { ...site.policy, privacy: [] } },
      sentence: "policy.privacy: write [secure], or [secure, trusted] if the operator may see this site's deltas",
    },
    {
      chart: "rondo-agent",
      says: "a cohort in which two can subtract themselves",
      values: { ...site, policy: { ...site.policy, minCohort: 2 } },
      sentence: "at '/policy/minCohort': minimum: got 2, want 3",
    },
    {
      chart: "rondo-agent",
      says: "pinned trust in nobody",
      values: { ...site, policy: { ...site.policy, trust: { mode: "pinned" } } },
      sentence: "policy.trust.roster: list each participant with the key that its site has told you",
    },
    {
      chart: "rondo-agent",
      says: "a pinned key that is none",
      values: {
        ...site,
        policy: { ...site.policy, trust: { mode: "pinned", roster: [{ participant: "clinic-b", identity: "abc" }] } },
      },
      sentence: "at '/policy/trust/roster/0/identity': 'abc' does not match pattern",
    },
    {
      chart: "rondo-agent",
      says: "a mistyped rule of the policy",
      values: { ...site, policy: { ...site.policy, minParticipant: 5 } },
      sentence: "at '/policy': additional properties 'minParticipant' not allowed",
    },
  ] as const)("$chart: $says", async ({ chart, values, sentence }) => {
    const printed = await helm.template(chart, values);
    expect(printed.ok).toBe(false);
    expect(printed.stderr).toContain(sentence);
  });
});

describe("values that documents and examples show", () => {
  const text = readFileSync(join(import.meta.dirname, "../../../docs/getting-started.md"), "utf8");
  const printed = (file: string) => {
    const block = [...text.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].find((match) => match[1]!.startsWith(`# ${file}`));
    return parse(block![1]!);
  };

  test("the operator's are accepted", async () => {
    expect(await helm.template("rondo", printed("operator-values.yaml"))).toMatchObject({ ok: true });
  });

  test("a site's are accepted, with an invitation", async () => {
    expect(await helm.template("rondo-agent", { ...printed("chemistry-values.yaml"), invitation })).toMatchObject({
      ok: true,
    });
  });

  test("those of examples/clinic-notes are accepted", async () => {
    const values = parse(
      readFileSync(join(import.meta.dirname, "../../../examples/clinic-notes/agent-values.yaml"), "utf8"),
    );
    expect(await helm.template("rondo-agent", { ...values, invitation })).toMatchObject({ ok: true });
  });
});
