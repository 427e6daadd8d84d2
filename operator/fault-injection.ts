/**
 * Names every effect that outlives the process, at the instant in which it has happened: a journal commit that was answered, a file that was
 * synced, renamed or removed, a mutating call that the API server answered, a message that has left on a stream, a blob that a registry took.
 * Holds: without a hook it does nothing, and a shipped program installs none. `node scripts/bundle.ts --fault-injection FOLDER` makes one that
 *   does (test/integration/faults/hook.ts): it lists the effects and kills its own process after a chosen one.
 * Does not: change, delay or fail an effect; know who is killed (test/integration/faults).
 */
export type EffectKind = "journal" | "file" | "api" | "grpc" | "push";

export type EffectHook = (kind: EffectKind, what: string) => void;

let hook: EffectHook | undefined;

/**
 * Called right after each lasting effect, before anybody else hears of it.
 * @param what  which one, without secrets; may be long or dear to say, then as a function
 */
export function effect(kind: EffectKind, what: string | (() => string)): void {
  hook?.(kind, typeof what === "string" ? what : what());
}

/** Of this thread: a worker thread has modules of its own. */
export function install(listener: EffectHook): void {
  hook = listener;
}
