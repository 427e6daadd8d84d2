/**
 * The journal's worker thread: owns the SQLite file and answers the requests of messages.ts in the order of their arrival.
 * Holds: requests that wait together share one transaction, hence one fsync; nobody is answered before that transaction is on disk.
 * Does not: run on the main thread.
 */
import { isMainThread, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import type { FaultData, JournalAnswer, JournalReply, JournalRequest, JournalWorkerData } from "./messages.ts";
import { JournalStore } from "./store.ts";

if (isMainThread || !parentPort) throw new Error("operator/journal/worker.ts is a worker thread");
const port = parentPort;

/** One fsync for at most this many requests: bounds the time that the first of them waits for the last. */
const MOST_IN_ONE_TRANSACTION = 256;

const store = open();
if (store) port.on("message", (first: JournalRequest) => serve(store, waiting(first)));

function open(): JournalStore | undefined {
  try {
    const opened = new JournalStore((workerData as JournalWorkerData).path);
    reply({ id: 0, answer: undefined });
    return opened;
  } catch (error) {
    reply({ id: 0, fault: JournalStore.faultOf(error, (workerData as JournalWorkerData).path) });
    port.close();
    return undefined;
  }
}

function waiting(first: JournalRequest): JournalRequest[] {
  const requests = [first];
  while (requests.length < MOST_IN_ONE_TRANSACTION) {
    const next = receiveMessageOnPort(port);
    if (!next) break;
    requests.push(next.message as JournalRequest);
  }
  return requests;
}

function serve(opened: JournalStore, requests: JournalRequest[]): void {
  const replies: JournalReply[] = [];
  let closing: JournalRequest | undefined;
  const fault = opened.transaction(() => {
    for (const request of requests) {
      if (request.do === "close") {
        closing = request;
        break;
      }
      replies.push(outcome(opened, request));
    }
  });
  for (const each of replies) reply(fault ? { id: each.id, fault } : each);
  if (closing) close(opened, closing.id);
}

function outcome(opened: JournalStore, request: Exclude<JournalRequest, { do: "close" }>): JournalReply {
  const { id } = request;
  try {
    switch (request.do) {
      case "get":
        return { id, answer: opened.get(request.space, request.key) };
      case "entries":
        return { id, answer: opened.entries(request.space, request.prefix) };
      case "increment":
        return { id, answer: opened.increment(request.counter) };
      case "commit":
        return { id, answer: opened.commit(request.writes) as JournalAnswer };
    }
  } catch (error) {
    return { id, fault: opened.faultOf(error) };
  }
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
