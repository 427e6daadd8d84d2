/** The cable between a client and the API server: a TCP relay that can be cut (connections break) and unplugged (none is made). */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

export type Cable = {
  /** The API server's address through the cable. */
  url: string;
  /** Connections break; new ones are made. */
  cut(): void;
  /** Connections break; new ones are refused until plugIn(). */
  unplug(): void;
  plugIn(): void;
  close(): Promise<void>;
};

export async function layCable(apiServerUrl: string): Promise<Cable> {
  const { hostname, port } = new URL(apiServerUrl);
  const sockets = new Set<Socket>();
  let isUnplugged = false;
  const relay = createServer((near) => {
    if (isUnplugged) {
      near.destroy();
      return;
    }
    const far = connect(Number(port), hostname);
    join(near, far, sockets);
    join(far, near, sockets);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `https://127.0.0.1:${(relay.address() as AddressInfo).port}`,
    cut,
    unplug() {
      isUnplugged = true;
      cut();
    },
    plugIn() {
      isUnplugged = false;
    },
    close: () =>
      new Promise<void>((resolve) => {
        relay.close(() => resolve());
        cut();
      }),
  };
}

function join(from: Socket, to: Socket, sockets: Set<Socket>): void {
  sockets.add(from);
  from.on("error", () => undefined);
  from.on("close", () => {
    sockets.delete(from);
    to.destroy();
  });
  from.pipe(to);
}
