const LARGEST_PORT = 65_535;

export const LISTEN_WORDS = "where to listen is HOST:PORT, such as '127.0.0.1:7070' or '[::1]:7070'";

/** The parts of `HOST:PORT`, an address of IPv6 in brackets; undefined for any other text. */
export function listenAddress(text: string): { host: string; port: number } | undefined {
  const [, inBrackets, plain, digits] =
    /^(?:\[([0-9a-f:.]+(?:%[^\]]+)?)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = inBrackets ?? plain;
  const port = Number(digits);
  return host === undefined || port > LARGEST_PORT ? undefined : { host, port };
}
