/** What may be wrong with the scheme of a URL, by the words or the code of the error that a connection to it gave; nothing where it tells nothing. */
export function schemeHint(url: string, error: string): string {
  if (url.startsWith('https:') && /EPROTO|WRONG_VERSION|PACKET_LENGTH|wrong version number/i.test(error))
    return '; perhaps it speaks http and not https';
  if (url.startsWith('http:') && /socket hang up|ECONNRESET/.test(error))
    return '; perhaps it speaks https and not http';
  return '';
}
