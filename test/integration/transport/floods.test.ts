/** Strangers, and participants before they have answered the challenge, who send a great deal: it costs the operator little, and the others nothing. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { coordinationChannel } from "../../../operator/transport/channel.ts";
import { enrol } from "../../../operator/transport/enrol-client.ts";
import { seal } from "../../../operator/transport/envelope.ts";
import { fromServiceError, TransportFault } from "../../../operator/transport/faults.ts";
import { Attending, type OperatorMessage } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity } from "../../../operator/transport/identity.ts";
import { Inbox } from "../../../operator/transport/inbox.ts";
import { TestAgent } from "./agent.ts";
import { TestOperator } from "./operator.ts";

let operator: TestOperator;
const agents: TestAgent[] = [];

afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.client.stop()));
  await operator.stop();
});

async function connectedAgent(participant: string): Promise<TestAgent> {
  const created = new TestAgent(operator.invite(participant));
  agents.push(created);
  await created.connected();
  return created;
}

/** Of an enrolled participant, who has not answered any challenge yet. */
async function channelOf(participant: string) {
  const identity = generateIdentity();
  const invitation = operator.invite(participant);
  const credential = await enrol({ invitation, identity: identity.privateKey, now: Date.now });
  return { channel: coordinationChannel(invitation, credential), identity };
}

test("connections that say nothing are closed within the handshake's time, and agents get through meanwhile", async () => {
  operator = await TestOperator.start({ handshakeMs: 1_500 });
  const { endpoint, enrolmentEndpoint } = operator.invite("clinic-a");
  const sockets: Socket[] = [];
  for (const address of [endpoint, enrolmentEndpoint]) {
    const [host, port] = address.split(":");
    for (let n = 0; n < 200; n += 1) sockets.push(connect(Number(port), host).on("error", () => {}));
  }
  const closed = Promise.all(sockets.map((socket) => once(socket, "close")));
  await connectedAgent("clinic-a");
  await closed;
});

test("connections that send what is no TLS are closed at once", async () => {
  operator = await TestOperator.start();
  const [host, port] = operator.invite("clinic-a").endpoint.split(":");
  const sockets = Array.from({ length: 100 }, () => connect(Number(port), host).on("error", () => {}));
  for (const socket of sockets) socket.write(Buffer.alloc(64 * 1024, 0x41));
  await Promise.all(sockets.map((socket) => once(socket, "close")));
  await connectedAgent("clinic-a");
  expect(operator.errors).toEqual([]);
});

test("a message before the challenge was answered is not opened, however many follow it", async () => {
  operator = await TestOperator.start();
  const honest = await connectedAgent("clinic-b");
  const { channel, identity } = await channelOf("clinic-a");
  const call = channel.attend();
  const inbox = new Inbox<OperatorMessage>(call);
  const report = seal("consistency", Buffer.alloc(60 * 1024), identity.privateKey);
  for (let n = 0; n < 500; n += 1) call.write({ signed: report });
  await expect(endOf(inbox)).rejects.toMatchObject({ code: "MessageInvalid" });
  expect(operator.coordinator.events).toEqual(["attended clinic-b"]);
  expect(operator.coordinator.reports).toEqual([]);
  expect(honest.disconnections).toEqual([]);
  channel.close();
});

test("an answer of a megabyte to the challenge is refused by its size", async () => {
  operator = await TestOperator.start();
  const { channel, identity } = await channelOf("clinic-a");
  const call = channel.attend();
  const inbox = new Inbox<OperatorMessage>(call);
  const challenge = (await inbox.next(5_000))!.message as { value: Uint8Array };
  const attending = { challenge: challenge.value, participant: "clinic-a", capacity: undefined, open: [] };
  const body = Attending.encode({ ...attending, agentVersion: "x".repeat(2 ** 20) }).finish();
  call.write({ signed: seal("attend", body, identity.privateKey) });
  await expect(endOf(inbox)).rejects.toMatchObject({ code: "MessageTooLarge" });
  expect(operator.coordinator.events).toEqual([]);
  channel.close();
});

test("of the streams that one connection opens and says nothing on, 32 are served, and the others' agents as ever", async () => {
  operator = await TestOperator.start();
  const { channel } = await channelOf("clinic-a");
  let challenged = 0;
  const calls = Array.from({ length: 100 }, () => channel.attend());
  for (const call of calls) {
    call.on("error", () => {});
    call.on("data", () => {
      challenged += 1;
    });
  }
  await expect.poll(() => challenged, { timeout: 5_000 }).toBe(32);
  await connectedAgent("clinic-b");
  expect(challenged).toBe(32);
  expect(operator.server.sessions().map(({ participant }) => participant)).toEqual(["clinic-b"]);
  for (const call of calls) call.cancel();
  channel.close();
});

async function endOf(inbox: Inbox<OperatorMessage>): Promise<void> {
  try {
    while (await inbox.next(5_000));
  } catch (error) {
    throw fromServiceError(error, "the test's operator");
  }
  throw new TransportFault("Unavailable", "the stream ended without a reason");
}
