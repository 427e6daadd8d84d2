/**
 * A coordinator and sites on real clusters, installed by the charts, in which a test makes things go wrong: what a site's trainer does,
 * what its volumes hold, which pod dies. Everything that is kept lies in .rondo/<set>, so that a test sees what an operator's volume holds.
 * Holds: opening it twice completes it, so that all test files share one (shared-clusters.ts removes it at the end).
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseAllDocuments } from "yaml";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { down } from "../../cluster/down.ts";
import { advertiseGpus } from "../../cluster/gpus.ts";
import { archiveOf, archiveStamp, loadImage } from "../../cluster/images.ts";
import { cacheDir, clusterSet, kubeconfigPath } from "../../cluster/layout.ts";
import { up } from "../../cluster/up.ts";
import { installCoordinator, NAMESPACE } from "../../demo/install.ts";
import { Kubectl, run } from "../../demo/programs.ts";
import { claimed, restrictedNamespace, writableFolder } from "../../demo/volumes.ts";
import { removeDisks, secondPath, smallDisk } from "./disks.ts";
import { Site, type SiteOptions, TRAINER_COMMAND } from "./site.ts";

/** A family of clusters of its own; another one for a run beside another run. */
export const SET = process.env.RONDO_E2E_SET ?? "e2e-failures";

export const TRAINER_IMAGE = "localhost/rondo-trainer:dev";
/** A site may allow it, and no node has it. */
export const ABSENT_IMAGE = "localhost/absent:1";
/** Label of the Participants that are invited. */
export const SECTOR = { sector: "failures" };
/** Theirs and the guest's. */
export const EVERYBODY = { crowd: "five" };
const MODEL = "test/models/tiny-llama";
/** Clusters and Participants by name, with the images that each one's policy allows. */
const SITES: Readonly<Record<string, readonly string[]>> = {
  north: [TRAINER_IMAGE, ABSENT_IMAGE],
  south: [TRAINER_IMAGE, ABSENT_IMAGE],
  west: [TRAINER_IMAGE],
  east: [TRAINER_IMAGE, ABSENT_IMAGE],
};
/** Below the folder of all volumes: the operator's volume, where it is after a move. */
export const MOVED = "operator-moved";
const GUEST = { name: "guest", images: [TRAINER_IMAGE], cluster: "east", namespace: "guest" };
/** Rounds of several federations train at a site at once. */
export const GPUS = 8;

export class FederationUnderTest {
  /** Folder of all volumes. */
  readonly state: string;
  readonly coordinator: Kubectl;
  readonly kube: KubeClient;
  readonly sites: readonly Site[];
  /** A fifth site, in a namespace of its own of the last one's cluster: only federations that ask for everybody have it, where a test needs more than four. */
  readonly guest: Site;

  private constructor(state: string) {
    this.state = state;
    this.coordinator = new Kubectl(kubeconfigPath("coordinator"));
    this.kube = clientOf("coordinator");
    const site = (options: Pick<SiteOptions, "name" | "images" | "cluster" | "namespace">, index: number) => {
      const { name, cluster = name } = options;
      const hands = { kubectl: new Kubectl(kubeconfigPath(cluster)), kube: clientOf(cluster) };
      return new Site({ ...options, step: 0.001 * 2 ** index, folder: join(state, name) }, hands);
    };
    this.sites = Object.entries(SITES).map(([name, images], index) => site({ name, images }, index));
    this.guest = site(GUEST, this.sites.length);
  }

  static async open(): Promise<FederationUnderTest> {
    process.env.RONDO_CLUSTERS_SET = SET;
    const names = Object.keys(SITES);
    const clusters = ["coordinator", ...names];
    const state = resolve(".rondo", SET);
    // Before the clusters: what is mounted later would not be seen in them.
    await Promise.all(
      [join(state, "operator"), ...[...names, GUEST.name].map((name) => join(state, name, "agent"))].map(smallDisk),
    );
    await secondPath(join(state, "operator"), join(state, MOVED));
    await up(clusters);
    await Promise.all(clusters.map(loadImages));
    await Promise.all(names.map((name) => advertiseGpus(name, GPUS)));
    const made = new FederationUnderTest(state);
    await made.#install();
    for (const site of made.sites) site.behaveWell();
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

  close(): void {
    this.kube.close();
    for (const { kube } of [...this.sites, this.guest]) kube.close();
  }

  site(name: string): Site {
    return [...this.sites, this.guest].find((site) => site.name === name)!;
  }

  async openGuest(): Promise<void> {
    await this.#once("guest-installed", () => this.installSite(this.guest));
    this.guest.behaveWell();
  }

  /** Once per image: an installation anew would restart every agent, because invitations are used once. */
  async #install(): Promise<void> {
    await this.#once("installed", async (isThere) => {
      await this.#installCoordinator();
      await Promise.all(this.sites.map((site) => this.installSite(site)));
      if (!isThere) return;
      for (const verb of ["restart", "status"])
        await this.coordinator.run(["-n", NAMESPACE, "rollout", verb, "statefulset/rondo-operator"]);
    });
  }

  async #once(marker: string, install: (isThere: boolean) => Promise<void>): Promise<void> {
    const file = join(this.state, marker);
    const image = archiveStamp(archiveOf("localhost/rondo:dev"));
    const installed = existsSync(file) ? readFileSync(file, "utf8") : undefined;
    if (installed === image) return;
    await install(installed !== undefined);
    writeFileSync(file, image);
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

  /** Also for a site whose Participant was deleted: it enrols with a new invitation. */
  async installSite(site: Site): Promise<void> {
    await this.applyParticipant(site.name, site === this.guest ? EVERYBODY : { ...SECTOR, ...EVERYBODY });
    modelFolder(site.folders.model);
    site.prepare();
    await site.kubectl.apply([
      restrictedNamespace(site.namespace),
      ...[
        { name: "agent-data", path: site.folders.agent, access: "ReadWriteOnce" as const },
        { name: "behaviour", path: writableFolder(site.folders.behaviour), access: "ReadWriteOnce" as const },
        { name: "model", path: site.folders.model, access: "ReadOnlyMany" as const },
        { name: "data", path: site.folders.data, access: "ReadOnlyMany" as const },
        { name: "venv", path: join(cacheDir, "venv"), access: "ReadOnlyMany" as const },
      ].flatMap((folder) => claimed(site.namespace, folder)),
    ]);
    await site.kubectl.install("rondo-agent", "charts/rondo-agent", site.namespace, {
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
  // Rounds that end between sum and version are many here; at a site they are a reason to stop.
  policy: { images, privacy: ["secure", "trusted"], minCohort: 3, releasesPerParent: 1000 },
});

/** Also what a run that was killed has left. */
export async function removeAll(): Promise<void> {
  const state = resolve(".rondo", SET);
  await down([], clusterSet(SET));
  await removeDisks(state);
  rmSync(state, { recursive: true, force: true });
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
          command: [TRAINER_COMMAND],
          env: [{ name: "RONDO_THREADS", value: "1" }],
          volumeMounts: mounts,
        },
      ],
      volumes: mounts.map(({ name }) => ({ name, persistentVolumeClaim: { claimName: name } })),
    },
  };
}
