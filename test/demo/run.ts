/** The demo's course: clusters, charts, enrolment, rounds, and what each site measured. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { AdapterVersion } from "../../operator/api/adapter-version.ts";
import { type FederationRound, isTerminal } from "../../operator/api/federation-round.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { fromKubeconfig } from "../../operator/kube/credentials.ts";
import { FEDERATION_ROUNDS, PODS } from "../../operator/kube/resources.ts";
import { advertiseGpus } from "../cluster/gpus.ts";
import { loadImage } from "../cluster/images.ts";
import { cacheDir, kubeconfigPath, nodeAddress } from "../cluster/layout.ts";
import { up } from "../cluster/up.ts";
import { followRounds } from "./follow.ts";
import { type Folders, installAgent, installCoordinator, NAMESPACE } from "./install.ts";
import { lossElsewhere, losses, peakRssMiB, pullFinalAdapter } from "./measure.ts";
import { type DemoOptions, minCohortOf } from "./options.ts";
import { Kubectl, python, run } from "./programs.ts";
import { bold, dim, say, step } from "./progress.ts";
import { REGISTRY_PORT } from "./registry.ts";
import { compareRosters } from "./rosters.ts";
import { roundSummary } from "./round-summary.ts";
import type { Site } from "./sites.ts";
import { printSummary, writeSummary } from "./summary.ts";

const GPUS_PER_SITE = 2;
/** A round of the examples ends by its own deadlines long before; this only bounds a broken demo. */
const ROUND_LIMIT_MS = 40 * 60_000;

/** Where operator, agents and registry keep their data. */
export const volumesOf = (state: string) => join(state, "volumes");

/** @returns whether every round succeeded and every participant's loss fell */
export async function runDemo(options: DemoOptions, state: string): Promise<boolean> {
  const { sites, startedMs } = options;
  const names = ["coordinator", ...sites.map(({ name }) => name)];
  const kubectlOf = (name: string) => new Kubectl(kubeconfigPath(name));
  const clock = stopwatch(startedMs);

  say(bold(`${sites.length} participants, ${options.rounds} rounds of ${options.steps} steps, model ${options.model}`));
  const model = await step("base model and text", () => prepareModel(options));
  const folders: Folders = {
    state: volumesOf(state),
    venv: join(cacheDir, "venv"),
    model: model.folder,
    data: join(cacheDir, "data"),
  };
  const setUp = clock();

  await step(`${names.length} Kubernetes clusters`, (note) =>
    up(names, { progress: (name, what) => note(`${name}: ${what}`) }),
  );
  await step("images", () => Promise.all(names.map(loadImages)));
  await Promise.all(sites.map(({ name }) => advertiseGpus(name, GPUS_PER_SITE)));
  const clusters = clock();

  const coordinator = kubectlOf("coordinator");
  await step("operator and registry (charts/rondo)", () => installCoordinator(coordinator, folders));
  await step("participants (examples/demo/participants.yaml)", () => applyParticipants(coordinator, sites));
  await Promise.all(
    sites.map((site) =>
      step(`agent of ${site.name} (charts/rondo-agent)`, async () => {
        const invitation = await invite(coordinator, site);
        await installAgent(kubectlOf(site.name), site, folders, { invitation, minCohort: minCohortOf(sites) });
      }),
    ),
  );
  await step("agents connected", () =>
    coordinator.run(["-n", NAMESPACE, "wait", "part", "--all", "--for=condition=Connected", "--timeout=2m"]),
  );
  const install = clock();

  say();
  const federation = federationOf(options, model.digest);
  say(bold(`Federation ${federation.metadata.name} (examples/demo/federation.yaml)`));
  await coordinator.apply([federation]);
  const rounds = await follow(options, federation.metadata.name);
  const roundsSeconds = clock();

  const { items } = await coordinator.json<{ items: AdapterVersion[] }>(["-n", NAMESPACE, "get", "av"]);
  const summaries = rounds.map((round) => roundSummary(round, items));
  const last = items.filter(({ spec }) => spec.round).sort((a, b) => b.spec.version - a.spec.version)[0];
  if (!last) throw new Error("No round published an adapter; look with kubectl get fr -o wide.");
  say();
  await step("each site compares the keys it masked against with their owners (rondo agent roster)", () =>
    compareRosters(sites, kubectlOf),
  );
  rmSync(join(state, "adapter"), { recursive: true, force: true });
  await step("final adapter from the registry", () => pullFinalAdapter(last, join(state, "adapter")));
  const loss = await step("each site scores base model and final adapter on its held-out text", () =>
    losses(sites, kubectlOf, federation.metadata.name, last),
  );
  const elsewhere = await step("the same on text that no site has", () =>
    lossElsewhere(model.folder, join(state, "adapter")),
  );
  const improved = sites.every(({ name }) => loss.final[name]! < loss.base[name]!);
  const summary = {
    ok: improved && summaries.every(({ phase }) => phase === "Succeeded"),
    rounds: summaries,
    loss,
    lossElsewhere: elsewhere,
    seconds: { setUp, clusters, install, rounds: roundsSeconds, total: (Date.now() - startedMs) / 1000 },
    peakRssMiB: await peakRssMiB(
      coordinator,
      sites.map(({ name }) => kubectlOf(name)),
    ),
  };
  writeSummary(join(state, "summary.json"), summary);
  printSummary(summary);
  return summary.ok;
}

/** Seconds since the last call, the first time since `lastMs`. */
function stopwatch(lastMs: number): () => number {
  return () => {
    const seconds = (Date.now() - lastMs) / 1000;
    lastMs = Date.now();
    return seconds;
  };
}

async function prepareModel({ model }: DemoOptions): Promise<{ folder: string; digest: string }> {
  await run(python, ["scripts/demo-data/prepare_data.py", "--cache", cacheDir]);
  const printed = await run(python, ["scripts/demo-data/prepare_model.py", model, "--cache", cacheDir]);
  const [folder, digest] = printed.trim().split("\n").slice(-2);
  return { folder: folder!, digest: digest! };
}

async function loadImages(cluster: string): Promise<void> {
  const registry = cluster === "coordinator" ? ["localhost/registry:2"] : [];
  for (const image of ["localhost/rondo:dev", "localhost/rondo-trainer:dev", ...registry])
    await loadImage(cluster, image);
}

type Manifest = { kind: string; metadata: { name: string }; spec: Record<string, unknown> };

const manifests = (file: string): Manifest[] =>
  parseAllDocuments(readFileSync(join("examples/demo", file), "utf8")).map((document) => document.toJS() as Manifest);

const applyParticipants = (coordinator: Kubectl, sites: readonly Site[]) =>
  coordinator.apply(
    manifests("participants.yaml")
      .filter(({ metadata }) => sites.some(({ name }) => name === metadata.name))
      .map((manifest) => ({ ...manifest, metadata: { ...manifest.metadata, namespace: NAMESPACE } })),
  );

/** What `rondo invite` prints is what the site puts into its values; an agent that has enrolled keeps its identity and needs none. */
async function invite(coordinator: Kubectl, { name }: Site): Promise<object> {
  const printed = await run(process.execPath, ["operator/main.ts", "invite", name, "-n", NAMESPACE, "-o", "values"], {
    env: { KUBECONFIG: coordinator.kubeconfig },
  });
  return parseAllDocuments(printed)[0]!.toJS() as object;
}

/** The example as it stands in the repository, with this run's model, rounds, steps and registry. */
function federationOf({ rounds, steps, model }: DemoOptions, digest: string): Manifest {
  const federation = manifests(model === "tiny" ? "federation-tiny.yaml" : "federation.yaml").find(
    ({ kind }) => kind === "Federation",
  )!;
  const spec = federation.spec as Record<string, Record<string, unknown>>;
  return {
    ...federation,
    metadata: { ...federation.metadata, namespace: NAMESPACE } as Manifest["metadata"],
    spec: {
      ...spec,
      baseModel: { ...spec.baseModel, digest },
      training: { ...spec.training, steps },
      publish: {
        oci: { repository: `${nodeAddress("coordinator")}:${REGISTRY_PORT}/adapters/dictionaries`, plainHTTP: true },
      },
      rounds: { ...spec.rounds, count: rounds },
    },
  };
}

async function follow({ rounds, sites }: DemoOptions, federation: string): Promise<FederationRound[]> {
  const client = (name: string) =>
    new KubeClient({ credentials: fromKubeconfig(kubeconfigPath(name)), fieldManager: "rondo-demo" });
  const coordinator = client("coordinator");
  const clients = new Map(sites.map(({ name }) => [name, client(name)]));
  say(dim("  each site's loss is read from its own cluster"));
  return followRounds(
    {
      async rounds() {
        const { items } = await coordinator.list(FEDERATION_ROUNDS, { namespace: NAMESPACE });
        return (items as unknown as FederationRound[])
          .filter(({ spec }) => spec.federation === federation)
          .sort((a, b) => (a.status.number ?? 0) - (b.status.number ?? 0) || (isTerminal(a.status.phase) ? -1 : 1));
      },
      async trainingLoss(participant, job) {
        const kube = clients.get(participant);
        const { items } = await kube!.list(PODS, {
          namespace: NAMESPACE,
          labelSelector: `batch.kubernetes.io/job-name=${job}`,
        });
        const pod = items[0]?.metadata.name;
        if (!pod) return undefined;
        const log = await kube!.podLogs(NAMESPACE, pod, { container: "trainer", tailLines: 5 });
        return log.match(/loss[ =:]+(\d+\.\d+)(?![\s\S]*loss[ =:]+\d)/)?.[1];
      },
    },
    rounds,
    rounds * ROUND_LIMIT_MS,
  );
}
