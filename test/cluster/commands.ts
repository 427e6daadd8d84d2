/** Runs a program of the host to its end. Not for the long-running programs of a cluster (processes.ts). */
import { execFile } from "node:child_process";

/** @returns standard output. @throws with the command and what it said on standard error */
export function command(program: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${[program, ...args].join(" ")}: ${stderr.trim() || error.message}`));
      else resolve(stdout);
    });
  });
}

/** For a command whose failure is an answer: "does it exist", "remove it if it is there". */
export async function succeeds(program: string, ...args: string[]): Promise<boolean> {
  return command(program, ...args).then(
    () => true,
    () => false,
  );
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
