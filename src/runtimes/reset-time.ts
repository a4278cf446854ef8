/** Parts of a time that a vendor's text names; `half` is am or pm, `zone` an IANA name. */
export interface NamedTime {
  readonly month?: string | undefined;
  readonly day?: string | undefined;
  readonly year?: string | undefined;
  readonly hour?: string | undefined;
  readonly minute?: string | undefined;
  readonly half?: string | undefined;
  readonly zone?: string | undefined;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** No window of a vendor is longer: what would be is misread. */
const MAX_AHEAD_MS = 45 * DAY_MS;

/**
 * The next moment after `now` that bears this time (ms), at the end of the minute it names; null when the text makes no sense. Without a zone it is
 * taken as UTC. Pure.
 */
export function resetTime(named: NamedTime, now: number): number | null {
  const hour = hourOf(named);
  const minute = Number(named.minute ?? "0");
  if (hour === null || minute > 59) return null;
  const zone = named.zone ?? "UTC";
  const today = dateIn(zone, now);
  if (today === null) return null;
  const month = named.month === undefined ? null : MONTHS.indexOf(named.month);
  if (month === -1) return null;
  const at = (year: number, monthIndex: number, day: number) =>
    fromZone(zone, Date.UTC(year, monthIndex, day, hour, minute)) + MINUTE_MS;
  const candidates =
    month === null
      ? [0, 1].map((ahead) => at(today.year, today.month, today.day + ahead))
      : years(named, today.year).map((year) => at(year, month, Number(named.day)));
  const next = candidates.find((candidate) => candidate > now);
  return next === undefined || next - now > MAX_AHEAD_MS ? null : next;
}

function years(named: NamedTime, current: number): number[] {
  return named.year === undefined ? [current, current + 1] : [Number(named.year)];
}

function hourOf({ hour, half }: NamedTime): number | null {
  const value = Number(hour);
  if (hour === undefined || value > (half === undefined ? 23 : 12)) return null;
  if (half === undefined) return value;
  if (value === 0) return null;
  return (value % 12) + (half === "pm" ? 12 : 0);
}

function dateIn(zone: string, at: number): { year: number; month: number; day: number } | null {
  const offset = offsetOf(zone, at);
  if (offset === null) return null;
  const local = new Date(at + offset);
  return { year: local.getUTCFullYear(), month: local.getUTCMonth(), day: local.getUTCDate() };
}

/** A wall time of the zone, written as if it were UTC, as a moment. */
function fromZone(zone: string, local: number): number {
  const guess = local - (offsetOf(zone, local) ?? 0);
  return local - (offsetOf(zone, guess) ?? 0);
}

/** How far the zone's clocks are ahead of UTC then (ms); null for a zone that nobody knows. */
function offsetOf(zone: string, at: number): number | null {
  try {
    const format = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" });
    const name = format.formatToParts(at).find(({ type }) => type === "timeZoneName")?.value ?? "";
    const [, sign, hours = "0", minutes = "0"] = /GMT([+-])(\d{2}):(\d{2})/.exec(name) ?? [];
    const ahead = Number(hours) * 60 + Number(minutes);
    return (sign === "-" ? -ahead : ahead) * MINUTE_MS;
  } catch {
    return null;
  }
}
