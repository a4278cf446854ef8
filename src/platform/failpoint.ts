/** A named place between two effects where a test may end the process. In production it does nothing. */
export type Failpoint = (name: string) => void;

export const noFailpoint: Failpoint = () => {};

/** Ends this process with SIGKILL at the `count`-th passing of `name`; written as `name` or `name:3`. */
export function killingFailpoint(spec: string): Failpoint {
  const [wanted = "", count = "1"] = spec.split(":");
  let left = Number(count);
  return (name) => {
    if (name !== wanted) return;
    left -= 1;
    if (left === 0) process.kill(process.pid, "SIGKILL");
  };
}
