/**
 * The trainer of the stand-in, in a thread of its own as a trainer has a pod of its own: the trainer's side of the task API, with
 * fresh noise for training. One message per task in, one answer out.
 */
import { randomFillSync, X509Certificate } from "node:crypto";
import { Agent, request } from "node:https";
import { checkServerIdentity } from "node:tls";
import { parentPort } from "node:worker_threads";
import { parseHeader } from "../../operator/publish/safetensors-header.ts";

export interface TrainerTask {
  /** Whom the agent's certificate must name. */
  host: string;
  /** On loopback: what a Service would forward to. */
  port: number;
  ca: string;
  token: string;
}

export type TrainerAnswer = { kind: "trained" } | { kind: "failed"; message: string };

parentPort?.on("message", (task: TrainerTask) => {
  train(task).then(
    () => parentPort?.postMessage({ kind: "trained" } satisfies TrainerAnswer),
    (error: unknown) => parentPort?.postMessage({ kind: "failed", message: String(error) } satisfies TrainerAnswer),
  );
});

async function train(task: TrainerTask): Promise<void> {
  // No keep-alive: a server may close a waiting connection at the very moment in which it is used again.
  const agent = new Agent({
    keepAlive: false,
    ca: new X509Certificate(task.ca).toString(),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(task.host, certificate),
  });
  const call = (method: string, path: string, body?: Uint8Array) =>
    exchange({ agent, port: task.port, method, path, token: task.token }, body);
  try {
    await call("GET", "/v1/task");
    const adapter = await call("GET", "/v1/task/adapter");
    addNoise(adapter);
    await call("PUT", "/v1/task/adapter", adapter);
    const result = { schema: 1, examples: 100, steps: 1, tokens: 1000, trainLoss: 1 };
    await call("PUT", "/v1/task/result", Buffer.from(JSON.stringify(result)));
  } finally {
    agent.destroy();
  }
}

/** Fresh noise on every value of an F32 file: no two rounds and no two participants move the same bytes. */
function addNoise(file: Uint8Array): void {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const { dataStart } = parseHeader(file.subarray(8, 8 + length), file.length);
  const values = new Float32Array(file.buffer, file.byteOffset + dataStart, (file.length - dataStart) / 4);
  const noise = randomFillSync(new Int32Array(values.length));
  for (let i = 0; i < values.length; i++) values[i] = values[i]! + noise[i]! * 1e-12;
}

interface Exchange {
  agent: Agent;
  port: number;
  method: string;
  path: string;
  token: string;
}

function exchange({ agent, port, method, path, token }: Exchange, body?: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, ...(body && { "content-length": body.length }) };
    const sent = request({ host: "127.0.0.1", port, method, path, headers, agent }, (answer) => {
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        const all = Buffer.concat(parts);
        const status = answer.statusCode ?? 0;
        if (status < 200 || status > 299)
          reject(new Error(`${method} ${path}: ${status} ${all.toString().slice(0, 300)}`));
        else resolve(aligned(all));
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** In a buffer of its own, so that float32 views fit. */
function aligned(bytes: Buffer): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
}
