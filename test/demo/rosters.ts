/**
 * What the engineers of the sites do by telephone: does every agent mask against the keys that the other sites have in truth?
 * Here the demo is the telephone, because it may ask every agent; the operator is not asked.
 */
import type { RosterView } from "../../operator/agent/roster.ts";
import { NAMESPACE } from "./install.ts";
import type { Kubectl } from "./programs.ts";
import type { Site } from "./sites.ts";

/** @throws Error naming every key that is not the one its owner has */
export async function compareRosters(sites: readonly Site[], kubectlOf: (name: string) => Kubectl): Promise<void> {
  const views = await Promise.all(
    sites.map(async ({ name }) => {
      const command = ["exec", "deployment/rondo-agent", "--", "rondo", "agent", "roster", "-o", "json"];
      return JSON.parse(await kubectlOf(name).run(["-n", NAMESPACE, ...command])) as RosterView;
    }),
  );
  const found = rosterProblems(views);
  if (found.length > 0)
    throw new Error(`${found.join("; ")}. Secure aggregation hides nothing from whoever has that key.`);
}

type View = Pick<RosterView, "participant" | "fingerprint"> & {
  entries: Pick<RosterView["entries"][number], "participant" | "fingerprint" | "state">[];
};

/** @returns a clause for each key that a site masks against and that is not its owner's, and for each owner it does not know */
export function rosterProblems(views: readonly View[]): string[] {
  return views.flatMap(({ participant: site, entries }) =>
    views
      .filter(({ participant }) => participant !== site)
      .flatMap(({ participant, fingerprint }) => {
        const held = entries.filter((entry) => entry.participant === participant && entry.state === "pinned");
        if (held.length === 0) return [`${site} has not pinned ${participant}`];
        return held
          .filter((entry) => entry.fingerprint !== fingerprint)
          .map((entry) => `${site} has pinned ${entry.fingerprint} for ${participant}, which has ${fingerprint}`);
      }),
  );
}
