/** Something that runs. `stop` is idempotent, awaited, and leaves nothing behind that could still act. */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts the services in order; when one fails, stops those already started, in reverse order, and rejects with its
 * error. The returned function stops all in reverse order and reports every failure together.
 */
export async function startAll(services: readonly Service[]): Promise<() => Promise<void>> {
  const started: Service[] = [];
  const stopAll = async () => {
    const failures: unknown[] = [];
    for (const service of started.splice(0).reverse()) {
      await service.stop().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0)
      throw new AggregateError(failures, "some services did not stop cleanly");
  };
  for (const service of services) {
    try {
      await service.start();
    } catch (error) {
      await stopAll().catch(() => {});
      throw error;
    }
    started.push(service);
  }
  return stopAll;
}
