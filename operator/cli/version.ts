/** The program's version; the same as package.json's (version.test.ts). A constant, because a bundle has no package.json beside it. */
export const VERSION = "0.1.0";
