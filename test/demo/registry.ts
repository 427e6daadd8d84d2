/** The OCI registry of the demo: one pod in the coordinator cluster, reachable at its node's address over plain HTTP. */
export const REGISTRY_PORT = 30_500;

const labels = { "app.kubernetes.io/name": "registry" };

export const registryObjects = (namespace: string): object[] => [
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "registry", namespace },
    spec: {
      selector: { matchLabels: labels },
      strategy: { type: "Recreate" },
      template: {
        metadata: { labels },
        spec: {
          automountServiceAccountToken: false,
          securityContext: { runAsNonRoot: true, runAsUser: 10_001, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              name: "registry",
              image: "localhost/registry:2",
              imagePullPolicy: "Never",
              ports: [{ containerPort: 5000 }],
              readinessProbe: { httpGet: { path: "/v2/", port: 5000 }, periodSeconds: 1 },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [{ name: "storage", mountPath: "/var/lib/registry" }],
            },
          ],
          volumes: [{ name: "storage", persistentVolumeClaim: { claimName: "storage" } }],
        },
      },
    },
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "registry", namespace },
    spec: { type: "NodePort", selector: labels, ports: [{ port: 5000, nodePort: REGISTRY_PORT }] },
  },
];
