/**
 * The journal's worker thread: owns the SQLite file and answers the requests of messages.ts in the order of their arrival.
 * Holds: requests that wait together share one transaction, hence one fsync; nobody is answered before that transaction is on disk;
 *   on a full disk nothing overtakes what waits for room: what is on disk is always what memory was some time ago.
 * Does not: run on the main thread.
 */
import { isMainThread, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { giveBack } from "./give-back.ts";
import type { Write } from "./journal.ts";
import type {
  FaultData,
  JournalAnswer,
  JournalNotice,
  JournalReply,
  JournalRequest,
  JournalWorkerData,
} from "./messages.ts";
import { JournalStore } from "./store.ts";

if (isMainThread || !parentPort) throw new Error("operator/journal/worker.ts is a worker thread");
const port = parentPort;
const { path, waitsForRoom } = workerData as JournalWorkerData;

type Served = Exclude<JournalRequest, { do: "close" }>;

/** One fsync for at most this many requests: bounds the time that the first of them waits for the last. */
const MOST_IN_ONE_TRANSACTION = 256;
/** Between two tries on a full disk: each costs a failed write. */
const ROOM_AGAIN_MS = 500;

const backlog: JournalRequest[] = [];
/** The transaction of the first requests of the backlog is on disk, and only what it removed is not erased yet. */
let committed: JournalReply[] | undefined;
let isFull = false;
let again: NodeJS.Timeout | undefined;

open();

function open(): void {
  try {
    const store = new JournalStore(path);
    setFull(false);
    port.on("message", (request: JournalRequest) => {
      backlog.push(request);
      // Whoever wants to end does not wait for room.
      if (!isFull || request.do === "close") work(store);
    });
    reply({ id: 0, answer: undefined });
  } catch (error) {
    const fault = JournalStore.faultOf(error, path);
    if (isWaitedFor(fault)) {
      wait(open);
      return;
    }
    reply({ id: 0, fault });
    port.close();
  }
}

function work(store: JournalStore): void {
  clearTimeout(again);
  for (let requests = next(); requests.length > 0; requests = next()) {
    const served = requests.filter((request) => request.do !== "close");
    const { replies, fault } = committed ? { replies: committed, fault: undefined } : transact(store, served);
    const stopped = fault ?? store.erase();
    committed = fault ? undefined : replies;
    if (stopped && isWaitedFor(stopped)) {
      wait(() => work(store));
      return;
    }
    committed = undefined;
    backlog.splice(0, requests.length);
    for (const request of requests) if (request.do === "commit") giveBackValues(request.writes);
    setFull(false);
    for (const each of replies) reply(stopped ? { id: each.id, fault: stopped } : each);
    const closing = requests.find((request) => request.do === "close");
    if (closing) {
      close(store, closing.id);
      return;
    }
  }
}

/** They are on disk, and this thread's own copies. */
function giveBackValues(writes: readonly Write[]): void {
  for (const write of writes) {
    if ("put" in write) giveBack(write.put.value);
    else if ("insert" in write) giveBack(write.insert.value);
  }
}

/** What shares the next transaction; a close is the last of it. */
function next(): JournalRequest[] {
  while (backlog.length < MOST_IN_ONE_TRANSACTION) {
    const found = receiveMessageOnPort(port);
    if (!found) break;
    backlog.push(found.message as JournalRequest);
  }
  const size = committed?.length ?? MOST_IN_ONE_TRANSACTION;
  const closing = backlog.findIndex((request) => request.do === "close");
  return backlog.slice(0, closing >= 0 ? Math.min(size, closing + 1) : size);
}

function transact(store: JournalStore, requests: Served[]): { replies: JournalReply[]; fault: FaultData | undefined } {
  const replies: JournalReply[] = [];
  const fault = store.transaction(() => {
    for (const request of requests) replies.push(outcome(store, request));
  });
  return { replies, fault };
}

function outcome(opened: JournalStore, request: Served): JournalReply {
  const { id } = request;
  try {
    switch (request.do) {
      case "get":
        return { id, answer: opened.get(request.space, request.key) };
      case "entries":
        return { id, answer: opened.entries(request.space, request.prefix) };
      case "increment":
        return { id, answer: opened.increment(request.counter, request) };
      case "commit":
        return { id, answer: opened.commit(request.writes) as JournalAnswer };
    }
  } catch (error) {
    return { id, fault: opened.faultOf(error) };
  }
}

function isWaitedFor(fault: FaultData): boolean {
  const isClosing = backlog.some((request) => request.do === "close");
  return fault.code === "DiskFull" && waitsForRoom && !isClosing;
}

function wait(retry: () => void): void {
  setFull(true);
  again = setTimeout(retry, ROOM_AGAIN_MS);
}

function setFull(now: boolean): void {
  if (now !== isFull) port.postMessage({ isFull: now } satisfies JournalNotice);
  isFull = now;
}

function close(opened: JournalStore, id: number): void {
  let fault: FaultData | undefined;
  try {
    opened.close();
  } catch (error) {
    fault = opened.faultOf(error);
  }
  reply(fault ? { id, fault } : { id, answer: undefined });
  port.close();
}

function reply(message: JournalReply): void {
  port.postMessage(message);
}
