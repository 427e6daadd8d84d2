/**
 * What passes between the journal and its worker thread: tagged unions with a request id, faults as plain data.
 */
import type { Increment, JournalFault, Write } from "./journal.ts";

export interface JournalWorkerData {
  path: string;
  /** What finds the disk full waits for room, and so does everything behind it; else it fails with "DiskFull". */
  waitsForRoom: boolean;
}

export type JournalRequest = { id: number } & (
  | { do: "get"; space: string; key: string }
  | { do: "entries"; space: string; prefix: string }
  | { do: "commit"; writes: Write[] }
  | ({ do: "increment"; counter: string } & Increment)
  | { do: "close" }
);

/** Omit over every member of the union: a request before it has its number. */
export type JournalCall = JournalRequest extends infer Request
  ? Request extends { id: number }
    ? Omit<Request, "id">
    : never
  : never;

export type JournalAnswer = Uint8Array | undefined | number | Array<{ key: string; value: Uint8Array }>;

export interface FaultData {
  code: JournalFault["code"];
  message: string;
}

/** The first reply of a worker has id 0 and says whether the file could be opened. */
export type JournalReply = { id: number; answer: JournalAnswer } | { id: number; fault: FaultData };

/** Between the replies of a worker that waits for room: it has begun to wait, or is at work again. */
export interface JournalNotice {
  isFull: boolean;
}
