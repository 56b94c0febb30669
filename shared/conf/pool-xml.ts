import { clock } from '../util/clock.ts';
import { StowageError } from '../util/errors.ts';
import { sanitizePath } from '../util/paths.ts';
import type { PoolDefinition } from './pool.ts';
import type { Adapter } from './pool-source.ts';
import { isPoolType, POOL_TYPES, type PoolType, type PoolTypeName, type SourcePart } from './pool-types.ts';
import { poolLimitsSchema } from './pool-usage.ts';
import { formatAuth, parseAuth } from './xml/auth.ts';
import type { XmlElement } from './xml/element.ts';
import { formatPermissions, parsePermissions } from './xml/permissions.ts';
import { readXml } from './xml/read.ts';
import { enumAttribute, integerAttribute, parseUuid, unsupported, xmlError, YES_NO } from './xml/values.ts';
import { XmlWriter } from './xml/write.ts';

/** A pool as libvirt's document describes it. Sizes are not part of it: they are what its host sees. */
export type PoolDocument = Omit<PoolDefinition, 'autostart' | 'type'> & { type: PoolTypeName };

const NAMESPACES = {
  fs: 'http://libvirt.org/schemas/storagepool/fs/1.0',
  rbd: 'http://libvirt.org/schemas/storagepool/rbd/1.0',
  /** Of what libvirt has no words for. */
  stowage: 'urn:stowage:pool:1',
};

// ---- reading ----

function parseAdapter(element: XmlElement | undefined): Adapter {
  if (!element) throw xmlError('missing storage pool source adapter');
  const type = enumAttribute(element, 'type', ['scsi_host', 'fc_host'] as const);
  if (type === 'fc_host' || (type === undefined && element.attribute('wwnn'))) {
    const [wwnn, wwpn] = [element.attribute('wwnn'), element.attribute('wwpn')];
    if (!wwnn || !wwpn) throw xmlError("'wwnn' and 'wwpn' must be specified for adapter type 'fchost'");
    return {
      type: 'fc_host',
      parent: element.attribute('parent'),
      parentWwnn: element.attribute('parent_wwnn'),
      parentWwpn: element.attribute('parent_wwpn'),
      parentFabricWwn: element.attribute('parent_fabric_wwn'),
      managed: enumAttribute(element, 'managed', YES_NO),
      wwnn,
      wwpn,
    };
  }
  const parent = element.one('parentaddr');
  const name = element.attribute('name');
  if (name && parent)
    throw xmlError("Either 'name' or 'parent' must be specified for the 'scsi_host' adapter");
  if (parent) {
    const uniqueId = integerAttribute(parent, 'unique_id');
    if (uniqueId === undefined)
      throw xmlError("missing or invalid 'unique_id' attribute for parent of scsi_host adapter");
    const address = parent.one('address');
    return { type: 'scsi_host', parent: { uniqueId, address: address && parsePciAddress(address) } };
  }
  if (!name) throw xmlError("Either 'name' or 'parent' must be specified for the 'scsi_host' adapter");
  return { type: 'scsi_host', name };
}

function parsePciAddress(element: XmlElement) {
  const part = (name: string, digits: number): string => {
    const value = Number(element.attribute(name) ?? 0);
    if (!Number.isInteger(value) || value < 0) throw xmlError(`Cannot parse <address> '${name}' attribute`);
    return `0x${value.toString(16).padStart(digits, '0')}`;
  };
  return {
    domain: part('domain', 4),
    bus: part('bus', 2),
    slot: part('slot', 2),
    function: part('function', 1),
  };
}

function parseSource(
  element: XmlElement | undefined,
  type: PoolTypeName,
  poolName: string,
): PoolDocument['source'] {
  const { source: parts, formats, ownFormats = [], defaultFormat }: PoolType = POOL_TYPES[type];
  const has = (part: SourcePart): boolean => parts.includes(part);
  const host = (found: XmlElement) => {
    const name = found.attribute('name');
    if (!name) throw xmlError('missing storage pool host name');
    return { name, port: integerAttribute(found, 'port') || undefined };
  };
  const device = (found: XmlElement) => {
    const path = found.attribute('path');
    if (!path) throw xmlError('missing storage pool source device path');
    return { path, partSeparator: enumAttribute(found, 'part_separator', YES_NO) };
  };

  const named = element?.textOf('name');
  if (type === 'rbd' && !named) throw xmlError("element 'name' is mandatory for RBD pool");
  const format = element?.one('format')?.attribute('type');
  if (formats && format && ![...formats, ...ownFormats].includes(format))
    throw unsupported(`unknown pool format type ${format}`);
  const hosts = element?.all('host').map(host) ?? [];
  const devices = element?.all('device').map(device) ?? [];
  const dir = element?.one('dir')?.attribute('path') ?? (type === 'gluster' ? '/' : undefined);
  const protocolVersion = element?.one('protocol')?.attribute('ver');
  const initiatorIqn = element?.one('initiator/iqn')?.attribute('name');
  const auth = element?.one('auth');
  const source: PoolDocument['source'] = {
    hosts: has('host') ? hosts : [],
    devices: has('device') ? devices : [],
    dir: has('dir') && dir ? sanitizePath(dir) : undefined,
    name: has('name') ? (named ?? poolName) : undefined,
    initiatorIqn: has('initiator') ? initiatorIqn : undefined,
    auth: auth && parseAuth(auth),
    format: formats && (format ?? defaultFormat ?? formats[0]),
    vendor: element?.one('vendor')?.attribute('name'),
    product: element?.one('product')?.attribute('name'),
    protocolVersion,
  };
  if (has('adapter')) source.adapter = parseAdapter(element?.one('adapter'));
  if (protocolVersion !== undefined) {
    if (type !== 'netfs') throw unsupported(`storage pool protocol ver unsupported for pool type '${type}'`);
    if (protocolVersion.includes(','))
      throw new StowageError(
        'invalid-xml',
        `storage pool protocol ver '${protocolVersion}' must not contain ','`,
      );
  }
  if (has('host') && hosts.length === 0) throw xmlError('missing storage pool source host name');
  if (has('dir') && !dir) throw xmlError('missing storage pool source path');
  if (has('device') && devices.length === 0 && !has('name'))
    throw xmlError('missing storage pool source device name');
  if (type === 'iscsi-direct' && !initiatorIqn) throw unsupported('missing initiator IQN');
  return source;
}

function parseTarget(
  element: XmlElement | undefined,
  type: PoolTypeName,
  sourceName: string,
): PoolDocument['target'] {
  const { untargeted, targetPath }: PoolType = POOL_TYPES[type];
  if (untargeted) return {};
  const given = element?.textOf('path');
  const path = targetPath?.of(sourceName) ?? given;
  if (!path) throw xmlError('missing storage pool target path');
  const permissions = element?.one('permissions');
  return { path: sanitizePath(path), permissions: permissions && parsePermissions(permissions) };
}

function parseRefresh(element: XmlElement): PoolDocument['refreshAllocation'] {
  const allocation = element.one('volume')?.attribute('allocation');
  if (allocation === undefined || allocation === 'default' || allocation === 'capacity') return allocation;
  throw unsupported(`unknown storage pool volume refresh allocation type ${allocation}`);
}

/** The prefix that a document has for a namespace, with its colon. */
function prefixOf(pool: XmlElement, namespace: string): string | undefined {
  const declared = [...pool.attributes].find(
    ([name, value]) => name.startsWith('xmlns:') && value === namespace,
  )?.[0];
  return declared && `${declared.slice(6)}:`;
}

/** The options of an element of `namespace`. */
function parseOptions(pool: XmlElement, namespace: string, list: string): XmlElement[] | undefined {
  const prefix = prefixOf(pool, namespace);
  const found = prefix && pool.one(`${prefix}${list}`);
  return found ? found.all(`${prefix}option`) : undefined;
}

function parseLimits(pool: XmlElement): PoolDocument['limits'] {
  const prefix = prefixOf(pool, NAMESPACES.stowage);
  const found = prefix && pool.one(`${prefix}limits`);
  if (!found) return undefined;
  const percent = (name: string): number | undefined => {
    const value = found.attribute(name);
    return value === undefined ? undefined : Number(value);
  };
  const { data, error } = poolLimitsSchema.safeParse({
    warningPercent: percent('warning'),
    criticalPercent: percent('critical'),
    provisionedPercent: percent('provisioned'),
  });
  if (error) throw xmlError(`the limits of the pool are wrong: ${error.issues[0]?.message}`);
  return data;
}

function optionName(option: XmlElement, missing: string): string {
  const name = option.attribute('name');
  if (!name) throw xmlError(missing);
  return name;
}

/**
 * Reads a pool document as libvirt does: what its type does not have is dropped, paths are sanitised, what is missing is
 * defaulted, sizes are ignored. Throws `invalid-xml` with libvirt's own words.
 */
export function parsePool(text: string): PoolDocument {
  const pool = readXml(text, 'pool');
  const type = pool.attribute('type');
  if (type === undefined) throw xmlError("Missing required attribute 'type' in element 'pool'");
  if (!isPoolType(type)) throw xmlError(`Invalid value for attribute 'type' in element 'pool': '${type}'.`);

  const sourceElement = pool.one('source');
  const hasSourceName = (POOL_TYPES[type] as PoolType).source.includes('name');
  const name = pool.textOf('name') ?? (hasSourceName ? sourceElement?.textOf('name') : undefined);
  const source = parseSource(sourceElement, type, name ?? '');
  if (name === undefined) throw xmlError('missing pool source name element');
  if (name.includes('/')) throw xmlError(`name ${name} cannot contain '/'`);
  const uuid = pool.textOf('uuid');
  const refresh = pool.one('refresh');
  const cow = pool.one('features/cow');
  const isFileSystem = type === 'fs' || type === 'netfs';
  return {
    type,
    name,
    uuid: uuid === undefined ? clock.uuid() : parseUuid(uuid),
    cow: cow && enumAttribute(cow, 'state', YES_NO),
    source,
    target: parseTarget(pool.one('target'), type, source.name ?? name),
    refreshAllocation: refresh && parseRefresh(refresh),
    mountOptions: isFileSystem
      ? parseOptions(pool, NAMESPACES.fs, 'mount_opts')?.map((option) =>
          optionName(option, 'no mount option name specified'),
        )
      : undefined,
    configOptions:
      type === 'rbd'
        ? parseOptions(pool, NAMESPACES.rbd, 'config_opts')?.map((option) => {
            const value = option.attribute('value');
            const optioned = optionName(option, 'no rbd option name specified');
            if (!value) throw xmlError(`no rbd option value specified for option '${optioned}'`);
            return { name: optioned, value };
          })
        : undefined,
    limits: parseLimits(pool),
  };
}

// ---- writing ----

function formatAdapter(xml: XmlWriter, adapter: Adapter): void {
  if (adapter.type === 'fc_host') {
    xml.empty('adapter', {
      type: 'fc_host',
      parent: adapter.parent,
      parent_wwnn: adapter.parentWwnn,
      parent_wwpn: adapter.parentWwpn,
      parent_fabric_wwn: adapter.parentFabricWwn,
      managed: adapter.managed,
      wwnn: adapter.wwnn,
      wwpn: adapter.wwpn,
    });
    return;
  }
  const { parent } = adapter;
  if (!parent) {
    xml.empty('adapter', { type: 'scsi_host', name: adapter.name });
    return;
  }
  xml.element('adapter', { type: 'scsi_host' }, () => {
    xml.element('parentaddr', { unique_id: parent.uniqueId }, () => {
      if (parent.address) xml.empty('address', parent.address);
    });
  });
}

function formatSource(xml: XmlWriter, { source }: PoolDocument): void {
  xml.element('source', {}, () => {
    for (const { name, port } of source.hosts) xml.empty('host', { name, port });
    for (const { path, partSeparator } of source.devices)
      xml.empty('device', { path, part_separator: partSeparator });
    if (source.dir !== undefined) xml.empty('dir', { path: source.dir });
    if (source.adapter) formatAdapter(xml, source.adapter);
    if (source.name !== undefined) xml.leaf('name', source.name);
    if (source.initiatorIqn !== undefined)
      xml.element('initiator', {}, () => xml.empty('iqn', { name: source.initiatorIqn }));
    if (source.auth) formatAuth(xml, source.auth);
    if (source.format !== undefined) xml.empty('format', { type: source.format });
    if (source.vendor !== undefined) xml.empty('vendor', { name: source.vendor });
    if (source.product !== undefined) xml.empty('product', { name: source.product });
    if (source.protocolVersion !== undefined) xml.empty('protocol', { ver: source.protocolVersion });
  });
}

/** What the host of a pool sees of it, in bytes. */
export interface PoolSizes {
  capacityBytes: number;
  allocationBytes: number;
  availableBytes: number;
}

/** The document in libvirt's canonical form, byte for byte. */
export function formatPool(
  pool: PoolDocument,
  sizes: PoolSizes = { capacityBytes: 0, allocationBytes: 0, availableBytes: 0 },
): string {
  const xml = new XmlWriter();
  const { permissions, path } = pool.target;
  const attributes = {
    type: pool.type,
    'xmlns:fs': pool.mountOptions && NAMESPACES.fs,
    'xmlns:rbd': pool.configOptions && NAMESPACES.rbd,
    'xmlns:stowage': pool.limits && NAMESPACES.stowage,
  };
  xml.element('pool', attributes, () => {
    xml.leaf('name', pool.name);
    xml.leaf('uuid', pool.uuid);
    xml.leaf('capacity', sizes.capacityBytes, { unit: 'bytes' });
    xml.leaf('allocation', sizes.allocationBytes, { unit: 'bytes' });
    xml.leaf('available', sizes.availableBytes, { unit: 'bytes' });
    if (pool.cow) xml.element('features', {}, () => xml.empty('cow', { state: pool.cow }));
    formatSource(xml, pool);
    if (path !== undefined) {
      xml.element('target', {}, () => {
        xml.leaf('path', path);
        if (permissions) formatPermissions(xml, permissions);
      });
    }
    if (pool.refreshAllocation)
      xml.element('refresh', {}, () => xml.empty('volume', { allocation: pool.refreshAllocation }));
    if (pool.mountOptions) {
      xml.element('fs:mount_opts', {}, () => {
        for (const name of pool.mountOptions ?? []) xml.empty('fs:option', { name });
      });
    }
    if (pool.configOptions) {
      xml.element('rbd:config_opts', {}, () => {
        for (const option of pool.configOptions ?? []) xml.empty('rbd:option', option);
      });
    }
    if (pool.limits) {
      const { warningPercent, criticalPercent, provisionedPercent } = pool.limits;
      xml.empty('stowage:limits', {
        warning: warningPercent,
        critical: criticalPercent,
        provisioned: provisionedPercent,
      });
    }
  });
  return xml.toString();
}
