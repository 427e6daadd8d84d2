/** Values as people write them: what an invitation prints, what a site decides, what the demo sets. */

export const invitation = {
  schema: 1,
  endpoint: "10.77.0.11:30443",
  enrolmentEndpoint: "10.77.0.11:30444",
  ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
  planKey: `${"A".repeat(43)}=`,
  trustDomain: "rondo.local",
  namespace: "rondo",
  participant: "clinic-a",
  joinToken: `${"B".repeat(43)}=`,
};

export const site = {
  invitation,
  policy: { images: ["registry.example/trainer@*"], privacy: ["trusted"], gpus: { max: 2 } },
};

/** A site's trainer pod with everything a template may bring. */
export const podTemplate = {
  metadata: { labels: { "kueue.x-k8s.io/queue-name": "training" } },
  spec: {
    nodeSelector: { gpu: "yes" },
    containers: [
      {
        name: "trainer",
        volumeMounts: [
          { name: "model", mountPath: "/rondo/model", readOnly: true },
          { name: "data", mountPath: "/rondo/data", readOnly: true },
        ],
      },
    ],
    volumes: [
      { name: "model", persistentVolumeClaim: { claimName: "base-model" } },
      { name: "data", persistentVolumeClaim: { claimName: "notes" } },
    ],
  },
};

export const demoOperator = {
  image: { repository: "10.77.0.11:30500/rondo", tag: "dev" },
  service: { type: "NodePort", nodePorts: { agents: 30443, enrolment: 30444 } },
  agents: { endpoint: "10.77.0.11:30443" },
  enrolment: { endpoint: "10.77.0.11:30444" },
  persistence: { storageClass: "rondo-local", size: "1Gi" },
  registryCredentials: ["regcred"],
  initialise: { podTemplate },
};

export const demoSite = {
  ...site,
  image: { repository: "10.77.0.11:30500/rondo", digest: `sha256:${"0".repeat(64)}` },
  persistence: { storageClass: "rondo-local", volumeName: "agent-data", size: "1Gi" },
  podTemplate,
};
