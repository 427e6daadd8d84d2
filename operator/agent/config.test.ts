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
    policy: { minParticipants: 2, shareTrainerErrors: false, baseModels: ["*"] },
  });
});

test.each([
  { says: "a rule that does not exist", wrong: text.replace("gpus:", "gpu:"), message: /policy/ },
  {
    says: "privacy that this version does not have",
    wrong: text.replace("[trusted]", "[secure]"),
    message: /policy\.privacy/,
  },
  { says: "no images at all", wrong: text.replace('["registry.example/*"]', "[]"), message: /policy\.images/ },
  {
    says: "a pod template that is a list",
    wrong: text.replace(/podTemplate:.*/, "podTemplate: []"),
    message: /podTemplate: is not a PodTemplateSpec/,
  },
])("refused: $says", ({ wrong, message }) => expect(() => parseAgentConfig(wrong)).toThrow(message));
