import { expect, test } from "vitest";
import { parseAgentConfig } from "./config.ts";

const text = `
namespace: site
policy:
  federations: ["*"]
  images: ["registry.example/*"]
  privacy: [trusted]
  gpus: {max: 2}
podTemplate: {spec: {nodeSelector: {pool: gpu}}}
`;

test("a site's file needs its rules and its pod template; the rest has defaults", () => {
  expect(parseAgentConfig(text)).toMatchObject({
    namespace: "site",
    dataDir: "/var/lib/rondo",
    identitySecret: "rondo-agent-identity",
    tasks: { address: "0.0.0.0:8445", service: "rondo-agent-tasks" },
    metrics: { address: "0.0.0.0:8080" },
    policy: {
      minParticipants: 2,
      shareTrainerErrors: false,
      baseModels: ["*"],
      minCohort: 5,
      releasesPerParent: 3,
      trust: { mode: "firstUse", roster: [] },
    },
  });
});

test("a site that says nothing of privacy takes part in secure rounds alone", () => {
  expect(parseAgentConfig(text.replace("  privacy: [trusted]\n", "")).policy.privacy).toEqual(["secure"]);
});

test.each([
  { says: "a rule that does not exist", wrong: text.replace("gpus:", "gpu:"), message: /policy/ },
  {
    says: "privacy that does not exist",
    wrong: text.replace("[trusted]", "[plain]"),
    message: /policy\.privacy/,
  },
  { says: "no images at all", wrong: text.replace('["registry.example/*"]', "[]"), message: /policy\.images/ },
  {
    says: "a cohort in which two others can subtract themselves",
    wrong: text.replace("gpus:", "minCohort: 2\n  gpus:"),
    message: /policy\.minCohort/,
  },
  {
    says: "pinned trust in nobody",
    wrong: text.replace("gpus:", "trust: {mode: pinned}\n  gpus:"),
    message: /policy\.trust\.roster: lists nobody/,
  },
  {
    says: "a pinned key that is none",
    wrong: text.replace("gpus:", "trust: {mode: pinned, roster: [{participant: b, identity: abc}]}\n  gpus:"),
    message: /policy\.trust\.roster\.0\.identity/,
  },
  {
    says: "a pod template that is a list",
    wrong: text.replace(/podTemplate:.*/, "podTemplate: []"),
    message: /podTemplate: is not a PodTemplateSpec/,
  },
])("refused: $says", ({ wrong, message }) => expect(() => parseAgentConfig(wrong)).toThrow(message));
