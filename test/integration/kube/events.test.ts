/** Events as `kubectl describe` would find them. */
import { pino } from "pino";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { EventRecorder } from "../../../operator/kube/events.ts";
import { CONFIG_MAPS, CORE_EVENTS, type ConfigMap, EVENTS } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";

const log = pino({ level: "silent" });
let server: SharedApiServer;
let namespace: string;
let object: ConfigMap;
let recorder: EventRecorder;
let now: Date;

beforeAll(async () => {
  server = await sharedApiServer();
});

beforeEach(async () => {
  namespace = await server.createNamespace("events");
  object = await server.client.create(CONFIG_MAPS, { metadata: { namespace, name: "round-1" } });
  now = new Date();
  const { client } = server;
  recorder = new EventRecorder({ client, log, controller: "rondo.dev/operator", instance: "pod-0", now: () => now });
});

const recorded = async () => (await server.client.list(EVENTS, { namespace })).items;
const refused = { type: "Warning", reason: "ParticipantRefused", action: "Plan" } as const;

test("an event names its object, reason and sentence, and kubectl's older view has it too", async () => {
  recorder.record(object, { ...refused, note: "clinic-1 refused: its policy allows no image of that name" });
  await recorder.flush();
  expect(await recorded()).toMatchObject([
    {
      type: "Warning",
      reason: "ParticipantRefused",
      action: "Plan",
      note: "clinic-1 refused: its policy allows no image of that name",
      reportingController: "rondo.dev/operator",
      reportingInstance: "pod-0",
      regarding: { apiVersion: "v1", kind: "ConfigMap", name: "round-1", uid: object.metadata.uid },
    },
  ]);
  const fieldSelector = `involvedObject.uid=${object.metadata.uid}`;
  const { items } = await server.client.list(CORE_EVENTS, { namespace, fieldSelector });
  expect(items).toMatchObject([{ message: "clinic-1 refused: its policy allows no image of that name" }]);
});

test("the same again counts up one event; after six quiet minutes it is news again", async () => {
  for (let i = 0; i < 4; i++) recorder.record(object, { ...refused, note: "clinic-1 refused" });
  await recorder.flush();
  recorder.record(object, { ...refused, note: "clinic-1 refused" });
  await recorder.flush();
  expect(await recorded()).toMatchObject([{ series: { count: 5 } }]);
  now = new Date(now.getTime() + 7 * 60_000);
  recorder.record(object, { ...refused, note: "clinic-1 refused" });
  await recorder.flush();
  expect(await recorded()).toHaveLength(2);
});

test("many different notes for one reason end in one combined event", async () => {
  for (let i = 0; i < 40; i++) recorder.record(object, { ...refused, note: `clinic-${i} refused` });
  await recorder.flush();
  const events = await recorded();
  expect(events).toHaveLength(11);
  expect(events.filter((event) => event.note?.startsWith("(several"))).toMatchObject([{ series: { count: 30 } }]);
});

test("a note longer than the API server takes is cut", async () => {
  recorder.record(object, { ...refused, note: "ü".repeat(3_000) });
  await recorder.flush();
  expect(await recorded()).toHaveLength(1);
});

test("an event that cannot be written harms nobody", async () => {
  const elsewhere = { ...object, metadata: { ...object.metadata, namespace: "nowhere" } };
  recorder.record(elsewhere, { ...refused, note: "lost" });
  recorder.record(elsewhere, { ...refused, note: "lost" });
  recorder.record(object, { ...refused, note: "kept" });
  await recorder.flush();
  expect(await recorded()).toMatchObject([{ note: "kept" }]);
});
