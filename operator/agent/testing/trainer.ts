/** The test as trainer: what `python -m rondo_trainer` does over HTTPS, without the training. */
import { request } from "node:https";
import type { Result, Task } from "../../trainer/task.ts";

export interface TrainerAccess {
  port: number;
  caPem: string;
  token: string;
  /** A name or address in the server's certificate, where it is not the one dialled. */
  serverName?: string;
}

export interface Answer {
  status: number;
  body: Buffer;
}

export class TestTrainer {
  readonly #access: TrainerAccess;
  constructor(access: TrainerAccess) {
    this.#access = access;
  }

  async task(): Promise<Task> {
    return JSON.parse((await this.call("GET", "/v1/task")).body.toString()) as Task;
  }

  progress(step: number, steps: number): Promise<Answer> {
    return this.call("POST", "/v1/task/progress", Buffer.from(JSON.stringify({ step, steps, loss: 2 })));
  }

  async deliver(adapter: Buffer, result: Partial<Result> = {}): Promise<number> {
    const put = await this.call("PUT", "/v1/task/adapter", adapter);
    if (put.status !== 200) return put.status;
    const whole = {
      schema: 1,
      examples: 50,
      steps: 4,
      tokens: 1000,
      trainLoss: 2.5,
      heldOut: { tokens: 100, parentLoss: 3.1, loss: 2.9 },
      recordPrivacy: null,
      seconds: 1,
      ...result,
    };
    return (await this.call("PUT", "/v1/task/result", Buffer.from(JSON.stringify(whole)))).status;
  }

  call(method: string, path: string, body?: Buffer): Promise<Answer> {
    const { port, caPem, token, serverName } = this.#access;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const outgoing = request(
      {
        host: "127.0.0.1",
        port,
        method,
        path,
        ca: caPem,
        agent: false,
        ...(serverName ? { servername: serverName } : {}),
        headers: { authorization: `Bearer ${token}`, ...(body ? { "content-length": body.length } : {}) },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
    return promise;
  }
}
