import type { Usage } from "../processes.ts";

/** What one contender did. */
export interface PeerRun {
  title: string;
  /** Of each round, the first one included. */
  seconds: number[];
  server: Usage;
  /** Of all its processes, starting up included. */
  cpuSeconds: number;
}
