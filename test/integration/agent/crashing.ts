/** A process that dies at one of its effects, before it or after it. */

export class Crash extends Error {}

/** Wraps effects so that one of them is the last thing this process does, before or after the effect itself. */
export function crashing<T extends object>(
  target: T,
  methods: ReadonlyArray<keyof T>,
  tick: () => "before" | "after" | undefined,
  die: () => void,
): T {
  return new Proxy(target, {
    get(object, name) {
      const value = Reflect.get(object, name) as unknown;
      if (typeof value !== "function") return value;
      const bound = value.bind(object) as (...args: unknown[]) => Promise<unknown>;
      if (!methods.includes(name as keyof T)) return bound;
      return async (...args: unknown[]) => {
        const when = tick();
        if (when === "before") {
          die();
          throw new Crash();
        }
        const result = await bound(...args);
        if (when === "after") {
          die();
          throw new Crash();
        }
        return result;
      };
    },
  });
}
