/** The organisations of the demo: each owns text that the others do not have. */
export interface Site {
  /** Of the participant, its cluster, and the folder under <cache>/data that holds its text. */
  name: string;
  displayName: string;
}

export const SITES: readonly Site[] = [
  { name: "computing", displayName: "Computing dictionary" },
  { name: "hackers", displayName: "Hacker slang" },
  { name: "satire", displayName: "Satirist's dictionary" },
  { name: "chemistry", displayName: "Chemical elements" },
];

/** General English: text that no participant has. */
export const NOBODYS_TEXT = "general";
