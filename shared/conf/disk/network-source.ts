import { StowageError } from '../../util/errors.ts';
import type { XmlElement } from '../xml/element.ts';
import { enumAttribute, requiredAttribute, unsupported, xmlError, YES_NO } from '../xml/values.ts';
import type { Attributes, XmlWriter } from '../xml/write.ts';

/** Protocols in libvirt's order, with the port that a host has when it does not say; none where the client knows it. */
export const PROTOCOLS = {
  nbd: 10809,
  rbd: undefined,
  sheepdog: 7000,
  gluster: 24007,
  iscsi: 3260,
  http: 80,
  https: 443,
  ftp: 21,
  ftps: 990,
  tftp: 69,
  ssh: 22,
  vxhs: 9999,
  nfs: undefined,
} as const satisfies Record<string, number | undefined>;
export type Protocol = keyof typeof PROTOCOLS;
const NAMES = Object.keys(PROTOCOLS) as Protocol[];

export type NetworkHost =
  | { transport: 'tcp' | 'rdma'; name: string; port?: number }
  | { transport: 'unix'; socket: string };

/** An image behind a network protocol. */
export interface NetworkSource {
  protocol: Protocol;
  /** What the protocol calls it: an export, `pool/image`, `volume/path`, `iqn/lun`, a path. */
  name?: string;
  query?: string;
  tls?: 'yes' | 'no';
  tlsHostname?: string;
  hosts: NetworkHost[];
  snapshot?: string;
  /** Configuration file of the cluster's client. */
  configFile?: string;
  initiatorIqn?: string;
  sslVerify?: 'yes' | 'no';
  /** Secrets, as passwords are. */
  cookies?: { name: string; value: string }[];
  readaheadBytes?: bigint;
  timeoutSeconds?: bigint;
  /** For NFS: names, or numbers as `+1000`. */
  identity?: { user?: string; group?: string };
}

const HTTP: readonly Protocol[] = ['http', 'https'];
const CURL: readonly Protocol[] = ['http', 'https', 'ftp', 'ftps'];

function parseHost(element: XmlElement, protocol: Protocol): NetworkHost {
  const given = element.attribute('transport');
  const transport = (['tcp', 'unix', 'rdma'] as const).find((known) => known === (given ?? 'tcp'));
  if (!transport) throw unsupported(`unknown protocol transport type '${given}'`);
  const socket = element.attribute('socket');
  if (transport === 'unix') {
    if (!socket) throw xmlError('missing socket for unix transport');
    return { transport, socket };
  }
  if (socket) throw xmlError(`transport '${given ?? '(null)'}' does not support socket attribute`);
  const name = element.attribute('name');
  if (!name) throw xmlError('missing name for host');
  const port = element.attribute('port');
  if (port !== undefined && !/^\d{1,5}$/.test(port))
    throw new StowageError('invalid-xml', `invalid argument: failed to parse port number '${port}'`);
  const standard = transport === 'tcp' ? PROTOCOLS[protocol] : undefined;
  return { transport, name, port: Number(port ?? 0) || standard };
}

function parseName(element: XmlElement, protocol: Protocol): string | undefined {
  const name = element.attribute('name');
  if (name === undefined) {
    if (protocol !== 'nbd') throw xmlError('missing name for disk source');
    return undefined;
  }
  // libvirt takes 'volume/' and writes '(null)' for the path; here it is refused with the others.
  if ((protocol === 'rbd' || protocol === 'gluster') && !/^[^/]+\/+[^/]/.test(name))
    throw xmlError(`can't split path '${name}' into pool name and image name`);
  return name;
}

function parseCookies(element: XmlElement): NetworkSource['cookies'] {
  const cookies = element.all('cookie').map((cookie) => {
    const name = cookie.attribute('name');
    if (!name) throw xmlError('missing cookie name');
    if (!/^[!#$%&'*+\-.0-9A-Z^_`a-z|~]+$/.test(name))
      throw xmlError(`cookie name '${name}' contains invalid characters`);
    if (!cookie.text) throw xmlError(`missing value for cookie '${name}'`);
    if (!/^"?[!#$%&'()*+\-./0-9:>=<?@A-Z^_`[\]a-z|~]+"?$/.test(cookie.text))
      throw xmlError(`value of cookie '${name}' contains invalid characters`);
    return { name, value: cookie.text };
  });
  const names = new Set<string>();
  for (const { name } of cookies) {
    if (names.has(name)) throw xmlError(`duplicate cookie '${name}'`);
    names.add(name);
  }
  return cookies.length > 0 ? cookies : undefined;
}

/** A number of 64 bits; absent and 0 are the same. */
function parseLong(element: XmlElement | undefined, name: string): bigint | undefined {
  const value = element?.attribute(name);
  if (value === undefined) return undefined;
  if (!/^\d{1,19}$/.test(value)) throw xmlError('invalid readahead size or timeout');
  return BigInt(value) || undefined;
}

export function parseNetworkSource(element: XmlElement): NetworkSource {
  requiredAttribute(element, 'protocol');
  const protocol = enumAttribute(element, 'protocol', NAMES)!;
  const identity = element.one('identity');
  const http = HTTP.includes(protocol);
  const curl = CURL.includes(protocol);
  const ssl = element.one('ssl');
  const cookies = element.one('cookies');
  return {
    protocol,
    name: parseName(element, protocol),
    query: http ? element.attribute('query') : undefined,
    tls: enumAttribute(element, 'tls', YES_NO),
    tlsHostname: element.attribute('tlsHostname'),
    hosts: element.all('host').map((host) => parseHost(host, protocol)),
    snapshot: element.one('snapshot')?.attribute('name'),
    configFile: element.one('config')?.attribute('file'),
    initiatorIqn: element.one('initiator/iqn')?.attribute('name'),
    sslVerify:
      ssl && (protocol === 'https' || protocol === 'ftps') ? enumAttribute(ssl, 'verify', YES_NO) : undefined,
    cookies: http && cookies ? parseCookies(cookies) : undefined,
    readaheadBytes: curl ? parseLong(element.one('readahead'), 'size') : undefined,
    timeoutSeconds: curl ? parseLong(element.one('timeout'), 'seconds') : undefined,
    identity:
      identity && protocol === 'nfs'
        ? { user: identity.attribute('user'), group: identity.attribute('group') }
        : undefined,
  };
}

export function networkAttributes({ protocol, name, query, tls, tlsHostname }: NetworkSource): Attributes {
  return { protocol, name, query, tls, tlsHostname };
}

/** `secure`: cookies are written too. */
export function formatNetworkChildren(xml: XmlWriter, source: NetworkSource, secure: boolean): void {
  for (const host of source.hosts) {
    if (host.transport === 'unix') xml.empty('host', { transport: 'unix', socket: host.socket });
    else
      xml.empty('host', {
        name: host.name,
        port: host.port,
        transport: host.transport === 'tcp' ? undefined : host.transport,
      });
  }
  if (source.identity) xml.empty('identity', source.identity);
  if (source.snapshot !== undefined) xml.empty('snapshot', { name: source.snapshot });
  if (source.configFile !== undefined) xml.empty('config', { file: source.configFile });
  if (source.initiatorIqn !== undefined)
    xml.element('initiator', {}, () => xml.empty('iqn', { name: source.initiatorIqn }));
  if (source.sslVerify) xml.empty('ssl', { verify: source.sslVerify });
  if (source.cookies && secure) {
    xml.element('cookies', {}, () => {
      for (const { name, value } of source.cookies ?? []) xml.leaf('cookie', value, { name });
    });
  }
  if (source.readaheadBytes) xml.empty('readahead', { size: String(source.readaheadBytes) });
  if (source.timeoutSeconds) xml.empty('timeout', { seconds: String(source.timeoutSeconds) });
}
