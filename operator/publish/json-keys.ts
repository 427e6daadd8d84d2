/**
 * Finds a key that one object of a JSON text has twice: JSON.parse keeps the last one silently, another reader may
 * keep the first, and then two programs see two different files.
 * Does not: check the syntax; the text has gone through JSON.parse.
 */

/** The first repeated key, by its decoded value (so that `"\u0061"` repeats `"a"`); undefined: none. */
export function duplicateKey(text: string): string | undefined {
  const open: Array<Set<string> | "list"> = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push("list");
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const end = stringEnd(text, at);
      const keys = open.at(-1);
      if (keys instanceof Set && isKey(text, end)) {
        const key: string = JSON.parse(text.slice(at, end));
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end - 1;
    }
  }
  return undefined;
}

/** Behind the closing quote of the string that opens at `at`. */
function stringEnd(text: string, at: number): number {
  let end = at + 1;
  while (text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
  return end + 1;
}

function isKey(text: string, end: number): boolean {
  let at = end;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  return text[at] === ":";
}
