/**
 * The real kubectl against one API server, as a person would type it.
 * Holds: what it prints is returned, never thrown: a refusal is a result here.
 */
import { spawn } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";

export const binaries = join(process.env.RONDO_CACHE ?? join(homedir(), ".cache/rondo"), "bin");

export type Printed = { ok: boolean; stdout: string; stderr: string };

/** @param stdin an object becomes JSON, which kubectl reads as it reads YAML */
export async function kubectl(kubeconfig: string, args: string[], stdin?: unknown): Promise<Printed> {
  return await printed(join(binaries, "kubectl"), ["--kubeconfig", kubeconfig, ...args], stdin);
}

export async function printed(program: string, args: string[], stdin?: unknown): Promise<Printed> {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(stdin === undefined ? "" : typeof stdin === "string" ? stdin : JSON.stringify(stdin));
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve)),
  ]);
  return { ok: code === 0, stdout, stderr };
}

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  let result = "";
  for await (const chunk of stream) result += chunk;
  return result;
}
