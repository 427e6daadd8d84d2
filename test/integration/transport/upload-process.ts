/**
 * An agent as a process of its own, for the test that kills it: uploads a file and prints its progress.
 * Arguments: one JSON object {invitation, identity (32 bytes, hex), file, participant}.
 */
import { CoordinatorClient } from "../../../operator/transport/client.ts";
import { privateKeyFromRaw } from "../../../operator/transport/identity.ts";
import { manifestOf } from "../../../operator/transport/upload-client.ts";
import { MemoryStore, workOf } from "./agent.ts";

const { invitation, identity, file, participant } = JSON.parse(process.argv[2]!);
const client = new CoordinatorClient(
  { invitation, identity: privateKeyFromRaw(Buffer.from(identity, "hex")) },
  {
    store: new MemoryStore(),
    introduce: async () => ({ agentVersion: "0", capacity: undefined, open: [] }),
    handlers: {
      plan: () => {},
      cancelled: () => {},
      step: () => {},
      draw: () => {},
      connected: () => {},
      disconnected: (reason) => console.error(reason),
    },
  },
);
client.start();
const manifest = await manifestOf(file, workOf(participant), Buffer.alloc(32, 1));
await client.upload(manifest, file, { onProgress: (bytes) => console.log(bytes) });
