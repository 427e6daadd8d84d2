/** `node test/cluster/main.ts up|down|status|kubeconfig|load …`: local clusters by hand. docs/local-clusters.md explains them. */
import { Command } from "commander";
import { down } from "./down.ts";
import { loadImage } from "./images.ts";
import { clusterSet, knownClusters, kubeconfigPath } from "./layout.ts";
import { status } from "./status.ts";
import { up } from "./up.ts";

const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(1).padStart(6);
function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const program = new Command("clusters")
  .description("Real Kubernetes clusters on this machine, each in a network namespace")
  .option(
    "--set <name>",
    "family of clusters to work on; another one has its own bridge",
    process.env.RONDO_CLUSTERS_SET ?? "rondo",
  );
const set = () => clusterSet(program.opts<{ set: string }>().set);

program
  .command("up")
  .description("bring clusters up, or repair them; without names: the coordinator and the participants")
  .argument("[names...]")
  .option("--participants <n>", "how many participants (participant-1 …) beside the coordinator", "4")
  .action(async (names: string[], { participants }: { participants: string }) => {
    const wanted = names.length > 0 ? names : defaultNames(Number(participants));
    await up(wanted, { set: set(), progress: (cluster, step) => say(`${seconds()} s  ${cluster.padEnd(16)} ${step}`) });
  });

program
  .command("down")
  .description("take clusters down and remove everything of them; without names: all of the set")
  .argument("[names...]")
  .action(async (names: string[]) => {
    await down(names, set());
    say(`${seconds()} s  down`);
  });

program
  .command("status")
  .description("what runs")
  .action(async () => {
    for (const { name, address, state, ended } of await status(set())) {
      say(`${name.padEnd(16)} ${address.padEnd(12)} ${state}${ended.length > 0 ? `, ended: ${ended.join(", ")}` : ""}`);
    }
  });

program
  .command("kubeconfig")
  .description("path of a cluster's kubeconfig: export KUBECONFIG=$(… kubeconfig NAME)")
  .argument("<name>")
  .action((name: string) => say(kubeconfigPath(name, set())));

program
  .command("load")
  .description("put images that scripts/images made, or archives, into clusters (all of the set)")
  .argument("<images...>")
  .action(async (images: string[]) => {
    await Promise.all(
      knownClusters(set()).map(async (cluster) => {
        for (const image of images) await loadImage(cluster, image);
      }),
    );
    say(`${seconds()} s  loaded`);
  });

function defaultNames(participants: number): string[] {
  if (!Number.isInteger(participants) || participants < 0 || participants > 200) {
    throw new RangeError("--participants is a number from 0 to 200");
  }
  return ["coordinator", ...Array.from({ length: participants }, (_, i) => `participant-${i + 1}`)];
}

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
