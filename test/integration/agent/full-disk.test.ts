/** The agent's volume without room (a tmpfs that the test fills): said at the site and to the operator, and all goes on by itself. */
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { EVENTS } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { type SmallDisk, smallDisk } from "../small-disk.ts";
import { participant, Site } from "./site.ts";

const job = `notes-r1-${participant}-1`;
let api: SharedApiServer;
let disk: SmallDisk;
let site: Site;

beforeAll(async () => {
  api = await sharedApiServer();
});
beforeEach(async () => {
  disk = await smallDisk(32); // an eighth of it is kept
  site = await Site.open(api);
  site.config.dataDir = disk.folder;
  await site.startAgent();
});
afterEach(async () => {
  await disk.empty();
  await site.close();
  await disk.unmount();
});

const isToldFull = (state: string) => () =>
  site.reports.some(({ kind, body }) => kind === "status" && body.state === state && body.reason === "StorageFull");
const siteHears = async () => {
  const { items } = await api.client.list(EVENTS, { namespace: site.namespace });
  return items.some(({ reason, regarding }) => reason === "StorageFull" && regarding?.kind === "Service");
};

async function trainsAndContributes(planHash: Uint8Array): Promise<void> {
  await site.kubelet.run(job);
  expect(await (await site.trainer(job)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
  await site.nothingLeft();
}

test("below the reserve a plan is accepted and nothing begun; with room again its Job is made", async () => {
  await disk.fill(2 << 20);
  await site.until(siteHears, "the site's people hear of it");
  const { planHash } = site.send(site.plan());
  await site.until(isToldFull("Scheduling"), "the operator is told");
  expect(site.said).toContain("accept");
  expect(await site.kubelet.jobs()).toEqual([]);
  await disk.empty();
  await trainsAndContributes(planHash);
});

test("with no room for the ledger the answer waits for it", async () => {
  await disk.fill();
  await site.until(siteHears, "the site's people hear of it");
  const { planHash } = site.send(site.plan());
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(site.said).not.toContain("accept");
  await disk.empty();
  await site.until(() => site.said.includes("accept"), "accepted");
  await trainsAndContributes(planHash);
});

test("a trained adapter that finds no room is given again when there is some", async () => {
  const { planHash } = site.send(site.plan());
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  const trainer = await site.trainer(job);
  await disk.fill(1 << 20);
  await site.until(isToldFull("Training"), "the operator is told");
  expect(await trainer.deliver(await site.adapter(() => 1.125))).toBe(507);
  await disk.empty();
  await site.until(async () => (await trainer.deliver(await site.adapter(() => 1.125))) === 204, "taken");
  await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
});

test("an agent whose ledger waits for room can be stopped, and goes on where it was", async () => {
  const { planHash } = site.send(site.plan());
  await site.kubelet.pod(job);
  await site.until(() => site.said.includes("Scheduling"), "Scheduling");
  await disk.fill();
  await site.kubelet.run(job); // its record would say so
  await site.until(siteHears, "the site's people hear of it");
  await site.stopAgent();
  await disk.empty();
  await site.startAgent();
  expect(await (await site.trainer(job)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
});
