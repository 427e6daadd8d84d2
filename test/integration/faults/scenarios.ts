/** The rounds in which programs die: what goes on in them without a death, and in what each of them has to end. */
import { setTimeout as sleep } from "node:timers/promises";
import { type FaultFederation, type SiteName, setSuspended } from "./federation.ts";
import { isConnected, until } from "./installation.ts";
import type { Moment } from "./names.ts";

export interface Scenario {
  says: string;
  privacy: "secure" | "trusted";
  /** Version 0 is made by a Job of the operator's, and not fetched. */
  initialise?: boolean;
  /** Whom the federation invites. */
  sites: readonly SiteName[];
  /** Who is in the mean, and nobody else; ascending. */
  contributors: readonly SiteName[];
  /** In which the round succeeds. */
  attempt: number;
  /** Deaths that belong to it and are for good until `after`. */
  deaths: Partial<Record<SiteName, Moment>>;
  /** While the round runs; programs die after effects that come when this has ended. */
  during(federation: FaultFederation, hasDied: (site: SiteName) => boolean): Promise<void>;
  /** Of the operator's effects, those up to this one; what comes after is another scenario's. */
  upTo?: string;
  /** When it has ended. */
  after(federation: FaultFederation): Promise<void>;
}

export const oneAttempt: Scenario = {
  says: "a secure round of four",
  privacy: "secure",
  sites: ["site-1", "site-2", "site-3", "site-4"],
  contributors: ["site-1", "site-2", "site-3", "site-4"],
  attempt: 1,
  deaths: {},
  async during() {},
  async after() {},
};

export const fromNothing: Scenario = {
  ...oneAttempt,
  says: "a federation that makes version 0",
  initialise: true,
  upTo: "api: create federationrounds fed-r1",
};

export const trusted: Scenario = { ...oneAttempt, says: "a trusted round of four", privacy: "trusted" };

const LOST = ["site-4", "site-5"] as const;

/** Of five four must stay; two share keys, die, and are suspended while the others mask. Three are enough for another attempt. */
export const secondAttempt: Scenario = {
  says: "a secure round of five whose first attempt fails while inputs are masked",
  privacy: "secure",
  sites: ["site-1", "site-2", "site-3", "site-4", "site-5"],
  contributors: ["site-1", "site-2", "site-3"],
  attempt: 2,
  deaths: Object.fromEntries(LOST.map((site) => [site, { effect: "grpc: send share", nth: 1 }])),
  async during(federation, hasDied) {
    while (!LOST.every(hasDied)) await sleep(20);
    for (const site of LOST) await setSuspended(federation, site, true);
  },
  async after(federation) {
    for (const site of LOST) await setSuspended(federation, site, false);
    await Promise.all(LOST.map((site) => federation.programs[site].revive()));
    for (const site of LOST) await until(`${site} is connected`, 20_000, () => isConnected(federation, site));
  },
};
