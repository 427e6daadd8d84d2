/** At each step of secure aggregation operator and agents are killed and cables are pulled; see below. */
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { cutLink, restoreLink } from "../../cluster/faults.ts";
import { bytesUnderWay, deletePod, killProcess, slowDown, speedUp } from "./crashes.ts";
import { FederationUnderTest } from "./federation.ts";
import { haveVersions, standardFederations } from "./federations.ts";
import {
  atStep,
  endOf,
  eventually,
  lost,
  outcome,
  sentence,
  sessionsOf,
  startRound,
  terminal,
  unopened,
} from "./rounds.ts";
import type { Site } from "./site.ts";
import { isMeanOf } from "./sums.ts";

let under: FederationUnderTest;
let north: Site;
let south: Site;
let east: Site;

beforeAll(async () => {
  under = await FederationUnderTest.open();
  [north, south, , east] = under.sites as [Site, Site, Site, Site];
  await under.coordinator.apply(standardFederations());
  await haveVersions(under, ["small", "large"]);
});
afterAll(() => under?.close());

afterEach(() => {
  for (const site of under.sites) {
    site.letGo();
    site.behaveWell();
  }
});

/**
 * Four members, of which three are needed to open the sum: before they share keys, after their vectors have arrived, and before they reveal
 * shares, operator and agents are killed and one site's cable is pulled. Whoever has contributed counts, come back or not.
 */
describe("at each step of secure aggregation", () => {
  afterEach(() => Promise.all(under.sites.map(({ name }) => restoreLink(name))));

  test("before keys are shared: who is cut off is lost by name, and the sum is that of the other three", async () => {
    east.behave("wait");
    await startRound(under, "sharing", { federation: "small", deadlines: { aggregation: "100s" } });
    await atStep(under, "sharing", { step: "advertise", answered: 3 });
    await cutLink("west");
    killProcess("north", "agent");
    killProcess("coordinator", "operator");
    east.letGo();
    const cut = await terminal(under, "sharing");
    await restoreLink("west");
    expect(outcome(cut)).toMatchObject({ phase: "Succeeded" });
    expect(lost(cut)).toEqual({
      west: {
        state: "Lost",
        reason: "ShareDeadline",
        message: sentence(/its shares did not come by the sharing deadline/),
      },
    });
    const ended = await endOf(under, "sharing");
    await isMeanOf(under, ended, [north, south, east]);
    expect(await sessionsOf(under, ended)).toEqual({
      north: "RELEASED",
      south: "RELEASED",
      west: "ABORTED",
      east: "RELEASED",
    });
  });

  test("before keys are shared: with two cut off the cohort is too small, and nothing of the other two is opened", async () => {
    east.behave("wait");
    await startRound(under, "too-small", { federation: "small", deadlines: { aggregation: "60s" } });
    await atStep(under, "too-small", { step: "advertise", answered: 3 });
    await Promise.all([cutLink("west"), cutLink("north")]);
    east.letGo();
    const cut = await terminal(under, "too-small");
    await Promise.all([restoreLink("west"), restoreLink("north")]);
    expect(outcome(cut)).toMatchObject({
      phase: "Failed",
      reason: "CohortTooSmall",
      message: sentence(/2 of 4 are left while keys were shared, 3 are needed; north Lost .*west Lost/),
    });
    const late = { state: "Lost", reason: "ShareDeadline", message: sentence(/shares did not come/) };
    expect(lost(cut)).toEqual({ west: late, north: late, south: unopened, east: unopened });
    const ended = await endOf(under, "too-small");
    expect(await sessionsOf(under, ended)).toEqual({
      north: "ABORTED",
      south: "ABORTED",
      west: "ABORTED",
      east: "ABORTED",
    });
  });

  test("after masking and before shares are revealed: who has contributed counts, whether it answers or not", async () => {
    await slowDown("east", SLOW_KIB_PER_SECOND);
    try {
      // Consistency ends at 85 %: whoever was cut off has to find the operator again before that, on a slow machine too.
      await startRound(under, "masked", { federation: "large", deadlines: { training: "4m", aggregation: "170s" } });
      // By the rate of its link alone east may still be at any earlier step when the others are done.
      await atStep(under, "masked", { step: "mask", answered: 3 });
      killProcess("south", "agent");
      await cutLink("west");
      await dieDuringUpload();
    } finally {
      await speedUp("east", SLOW_KIB_PER_SECOND);
    }
    // Three have confirmed the survivors and wait for the fourth, so that none can have been asked for shares.
    await atStep(under, "masked", { step: "consistency", answered: 3 });
    killProcess("coordinator", "operator");
    killProcess("south", "agent");
    await cutLink("north");
    await restoreLink("west");
    const cut = await terminal(under, "masked");
    await restoreLink("north");
    expect(outcome(cut)).toMatchObject({ phase: "Succeeded" });
    expect(lost(cut)).toEqual({});
    const ended = await endOf(under, "masked");
    expect(under.sites.map((site) => site.starts("large", ended.status.number!))).toEqual([1, 1, 1, 1]);
    await isMeanOf(under, ended, under.sites);
    // North had confirmed the survivors and was not there when shares were asked for.
    expect(await sessionsOf(under, ended)).toEqual({
      north: "ABORTED",
      south: "RELEASED",
      west: "RELEASED",
      east: "RELEASED",
    });
  });

  /** Operator and agent, twice each; the upload goes on where it was. */
  async function dieDuringUpload(): Promise<void> {
    const spool = join(under.state, "operator");
    let held = 0;
    let least = 0;
    for (const die of [
      async () => killProcess("coordinator", "operator"),
      () => deletePod(east.kube, "agent"),
      () => deletePod(under.kube, "operator"),
      async () => killProcess("east", "agent"),
    ]) {
      const before = held;
      held = await eventually(() => {
        const bytes = bytesUnderWay(spool);
        // Else it would have begun anew.
        least = Math.min(least, bytes - before);
        expect(bytes).toBeGreaterThan(before);
        return bytes;
      });
      await die();
    }
    expect(least).toBe(0);
  }
});

const SLOW_KIB_PER_SECOND = 256;
