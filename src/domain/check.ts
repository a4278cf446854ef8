/** One thing that `doctor` looked at. Fields are added, never renamed: this is its JSON form. */
export interface Check {
  /** Stable: `git`, `repo kite`, `proof delivered`. */
  readonly check: string;
  /** `warn`: works, but not all of it, or not for long. `skip`: not looked at, the detail says why. */
  readonly state: "ok" | "warn" | "fail" | "skip";
  readonly detail: string;
  /** What to do, in one line; absent where nothing is to be done. */
  readonly fix?: string;
}
