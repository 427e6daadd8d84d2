/**
 * A coordinator and sites on real clusters, installed by the charts, in which a test makes things go wrong: what a site's trainer does,
 * what its volumes hold, which pod dies. Everything that is kept lies in .rondo/<set>, so that a test sees what an operator's volume holds.
 * Holds: opening it twice completes it; close() leaves nothing behind.
 */
import { chmodSync, cpSync, mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseAllDocuments } from "yaml";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { down } from "../../cluster/down.ts";
import { advertiseGpus } from "../../cluster/gpus.ts";
import { loadImage } from "../../cluster/images.ts";
import { cacheDir, clusterSet, kubeconfigPath } from "../../cluster/layout.ts";
import { up } from "../../cluster/up.ts";
import { installCoordinator, NAMESPACE } from "../../demo/install.ts";
import { Kubectl, run } from "../../demo/programs.ts";
import { claimed, restrictedNamespace, writableFolder } from "../../demo/volumes.ts";
import { Site } from "./site.ts";

export const TRAINER_IMAGE = "localhost/rondo-trainer:dev";
/** A site may allow it, and no node has it. */
export const ABSENT_IMAGE = "localhost/absent:1";
/** Label of the Participants that are invited. */
export const SECTOR = { sector: "failures" };
const MODEL = "test/models/tiny-llama";

export class FederationUnderTest {
  /** Folder of all volumes. */
  readonly state: string;
  readonly coordinator: Kubectl;
  readonly kube: KubeClient;
  readonly sites: readonly Site[];

  private constructor(state: string, sites: Readonly<Record<string, readonly string[]>>) {
    this.state = state;
    this.coordinator = new Kubectl(kubeconfigPath("coordinator"));
    this.kube = clientOf("coordinator");
    this.sites = Object.entries(sites).map(
      ([name, images], index) =>
        new Site(
          { name, images, step: 0.01 * 2 ** index, folder: join(state, name) },
          { kubectl: new Kubectl(kubeconfigPath(name)), kube: clientOf(name) },
        ),
    );
  }

  /** @param sites clusters and Participants by name, with the images that each one's policy allows */
  static async open(sites: Readonly<Record<string, readonly string[]>>): Promise<FederationUnderTest> {
    const names = Object.keys(sites);
    const clusters = ["coordinator", ...names];
    await up(clusters);
    await Promise.all(clusters.map(loadImages));
    await Promise.all(names.map((name) => advertiseGpus(name, 1)));
    const made = new FederationUnderTest(resolve(".rondo", clusterSet().name), sites);
    await made.#installCoordinator();
    await Promise.all(made.sites.map((site) => made.#installSite(site)));
    await made.coordinator.run([
      "-n",
      NAMESPACE,
      "wait",
      "part",
      ...names,
      "--for=condition=Connected",
      "--timeout=3m",
    ]);
    return made;
  }

  /** RONDO_E2E_KEEP leaves the clusters for a look, and for another run that finds them installed. */
  async close(): Promise<void> {
    this.kube.close();
    for (const { kube } of this.sites) kube.close();
    if (!process.env.RONDO_E2E_KEEP) await removeAll();
  }

  /** A new invitation; the one before it is worth nothing any more. */
  async invite(participant: string, ttl = "1h"): Promise<Invitation> {
    const args = ["operator/main.ts", "invite", participant, "-n", NAMESPACE, "--ttl", ttl, "-o", "values"];
    const printed = await run(process.execPath, args, { env: { KUBECONFIG: this.coordinator.kubeconfig } });
    return (parseAllDocuments(printed)[0]!.toJS() as { invitation: Invitation }).invitation;
  }

  applyParticipant(name: string, labels: Record<string, string>): Promise<void> {
    return this.coordinator.apply([
      {
        apiVersion: "rondo.dev/v1alpha1",
        kind: "Participant",
        metadata: { name, namespace: NAMESPACE, labels },
        spec: { displayName: name },
      },
    ]);
  }

  async #installCoordinator(): Promise<void> {
    await installCoordinator(this.coordinator, {
      state: this.state,
      venv: join(cacheDir, "venv"),
      model: modelFolder(join(this.state, "coordinator-model")),
      data: "",
    });
  }

  async #installSite(site: Site): Promise<void> {
    await this.applyParticipant(site.name, SECTOR);
    modelFolder(site.folders.model);
    site.prepare();
    await site.kubectl.apply([
      restrictedNamespace(NAMESPACE),
      ...[
        { name: "agent-data", path: writableFolder(site.folders.agent), access: "ReadWriteOnce" as const },
        { name: "behaviour", path: writableFolder(site.folders.behaviour), access: "ReadWriteOnce" as const },
        { name: "model", path: site.folders.model, access: "ReadOnlyMany" as const },
        { name: "data", path: site.folders.data, access: "ReadOnlyMany" as const },
        { name: "venv", path: join(cacheDir, "venv"), access: "ReadOnlyMany" as const },
      ].flatMap((folder) => claimed(NAMESPACE, folder)),
    ]);
    await site.kubectl.install("rondo-agent", "charts/rondo-agent", NAMESPACE, {
      ...agentValues(site.images),
      invitation: await this.invite(site.name),
      persistence: { existingClaim: "agent-data" },
      podTemplate: podTemplate(),
    });
  }
}

/** What every agent here is installed with. */
export const agentValues = (images: readonly string[]) => ({
  image: { repository: "localhost/rondo", tag: "dev", pullPolicy: "Never" },
  policy: { images, privacy: ["secure", "trusted"], minCohort: 3 },
});

/** Also what a run that was killed has left. */
export async function removeAll(): Promise<void> {
  await down();
  rmSync(resolve(".rondo", clusterSet().name), { recursive: true, force: true });
}

async function loadImages(cluster: string): Promise<void> {
  const registry = cluster === "coordinator" ? ["localhost/registry:2"] : [];
  for (const image of ["localhost/rondo:dev", TRAINER_IMAGE, ...registry]) await loadImage(cluster, image);
}

const clientOf = (cluster: string) =>
  new KubeClient({
    credentials: fromKubeconfig(kubeconfigPath(cluster)),
    fieldManager: "rondo-e2e",
    timeoutMs: 60_000,
  });

/** Of its own per site: one of them will hold other weights. */
function modelFolder(path: string): string {
  mkdirSync(path, { recursive: true });
  cpSync(MODEL, path, { recursive: true });
  chmodSync(path, 0o755);
  return path;
}

/** A site's trainers: misbehaving.py, from a folder that the test writes to while they run. */
function podTemplate(): object {
  const mounts = [
    { name: "venv", mountPath: "/opt/rondo/venv", readOnly: true },
    { name: "model", mountPath: "/rondo/model", readOnly: true },
    { name: "data", mountPath: "/rondo/data", readOnly: true },
    { name: "behaviour", mountPath: "/rondo/behaviour" },
  ];
  return {
    spec: {
      terminationGracePeriodSeconds: 2,
      containers: [
        {
          name: "trainer",
          imagePullPolicy: "Never",
          command: ["python3", "/rondo/behaviour/misbehaving.py"],
          env: [{ name: "RONDO_THREADS", value: "1" }],
          volumeMounts: mounts,
        },
      ],
      volumes: mounts.map(({ name }) => ({ name, persistentVolumeClaim: { claimName: name } })),
    },
  };
}
