/** A wait that ends at an instant or when it is rung. A ring between two waits ends the next one at once. */
export class Alarm {
  #ring: () => void = () => {};
  #isRung = false;

  ring(): void {
    this.#isRung = true;
    this.#ring();
  }

  async wait(forMs: number): Promise<void> {
    if (!this.#isRung) await this.#sleep(forMs);
    this.#isRung = false;
  }

  async #sleep(forMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.min(Math.max(1, forMs), 2 ** 31 - 1));
    this.#ring = resolve;
    await promise;
    clearTimeout(timer);
    this.#ring = () => {};
  }
}
