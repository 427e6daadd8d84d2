/** What a site cannot get back by itself: these come last, for nobody mends them. */
import { PARTICIPANTS } from "../../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../../demo/install.ts";
import { EVERYBODY } from "../arena.ts";
import { type Fault, succeeds, without } from "../fault.ts";
import { emptyFolder, podsAre, scale } from "../workloads.ts";

/** Of a site whose ledger is gone: its people have to accept the others' keys anew (docs/site-guide.md). */
const unpinned = without({ north: /^RosterChanged$/ });

export const losses: readonly Fault[] = [
  {
    name: "a site's namespace deleted, with agent, Jobs and identity",
    slug: "ns-gone",
    at: { training: without({ guest: /./ }) },
    federation: EVERYBODY,
    spec: { deadlines: { training: "75s" } },
    async strike({ under }) {
      await under.guest.kubectl.run(["delete", "namespace", under.guest.namespace, "--wait", "--timeout=100s"]);
      // Its volume goes with it.
      emptyFolder(under.guest.folders.agent);
    },
    // With a new key, which the others' people would have to accept before a round.
    async restore({ under }) {
      const { guest, kube } = under;
      const volumes = await guest.kubectl.run(["get", "pv", "-o", "name"]);
      const its = volumes.split("\n").filter((name) => name.includes(`/${guest.namespace}-`));
      await guest.kubectl.run(["delete", ...its]);
      const ref = { namespace: NAMESPACE, name: guest.name };
      await kube.patchMerge(PARTICIPANTS, ref, { spec: { enrolment: 2 } } as never);
      await under.installSite(guest);
    },
  },
  {
    name: "a site's volume lost, with ledger and deltas",
    slug: "ag-lost",
    // Its vector is in the sum, and its signature never comes: that step is waited out.
    spec: { deadlines: { aggregation: "2m" } },
    at: { planning: unpinned, training: unpinned, aggregating: succeeds, publishing: succeeds },
    async strike({ under }) {
      const { kubectl, kube, folders } = under.site("north");
      await scale(kubectl, "deployment/rondo-agent", 0);
      await podsAre(kube, "agent", 0);
      emptyFolder(folders.agent);
      await scale(kubectl, "deployment/rondo-agent", 1);
    },
  },
];
