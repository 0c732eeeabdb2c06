// Moments, in the reader's zone or in UTC.

export const zone = {
  utc: false,
  // east gives how many minutes east of UTC the zone is.
  east: () => zone.utc ? 0 : -new Date().getTimezoneOffset(),
  // title names the zone.
  title: () => zone.utc ? 'UTC' : when(Date.now(), { timeZoneName: 'short' }).replace(/^.*, /, ''),
}

// when writes a moment, in the parts that are asked for. To make a formatter takes
// much longer than to use it, and each new line asks for some.
const formatters = new Map()
export function when(ms, parts) {
  let own = formatters.get(parts)
  if (!own || own.utc !== zone.utc) {
    own = { utc: zone.utc, formatter: new Intl.DateTimeFormat('en-GB', zone.utc ? { ...parts, timeZone: 'UTC' } : parts) }
    formatters.set(parts, own)
  }
  return own.formatter.format(ms)
}

export const second = { hour: '2-digit', minute: '2-digit', second: '2-digit' }
export const dayAndSecond = { day: 'numeric', month: 'short', ...second }
export const exact = { day: 'numeric', month: 'short', year: 'numeric', ...second, fractionalSecondDigits: 3, timeZoneName: 'short' }

// day numbers the days, of which two moments have the same or not.
export function day(ms) {
  return Math.floor((zone.utc ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000) / 86_400_000)
}
