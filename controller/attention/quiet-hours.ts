/** A daily span of time in which only what is critical is told, such as from 22:00 to 07:00. */
export interface QuietHours {
  /** `HH:MM`. */
  from: string;
  to: string;
  /** A name of the IANA time zone database; the controller's own zone without. */
  zone?: string;
}

const formats = new Map<string | undefined, Intl.DateTimeFormat>();

function timeOfDay(at: number, zone: string | undefined): string {
  let format = formats.get(zone);
  if (!format) {
    const options = { timeZone: zone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
    format = new Intl.DateTimeFormat('en-GB', options);
    formats.set(zone, format);
  }
  return format.format(at);
}

/** Whether a time, ms since the epoch, is within quiet hours; `from` is, `to` is not. Both the same are never. */
export function isQuiet(at: number, { from, to, zone }: QuietHours): boolean {
  const now = timeOfDay(at, zone);
  return from <= to ? from <= now && now < to : from <= now || now < to;
}
