/**
 * The parts of the path of an address, as they were before `encodeURIComponent`; undefined for a path that is badly written. The router's
 * own parameters are not that: it leaves characters such as `#` encoded.
 */
export function partsOfPath(pathname: string): string[] | undefined {
  try {
    return pathname.split('/').slice(1).map(decodeURIComponent);
  } catch {
    return undefined;
  }
}
