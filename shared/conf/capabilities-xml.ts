import { POOL_TYPES, type PoolType, type PoolTypeName } from './pool-types.ts';
import { FORMATS_OF, type Formats } from './volume-xml.ts';
import { XmlWriter } from './xml/write.ts';

/** A backend that is registered on a host. */
export interface RegisteredBackend {
  type: string;
  /** Formats that its volumes can have, where those are not all that libvirt has for the type. */
  volumeFormats?: readonly string[];
}

/** What libvirt tells of volumes, which is not all that it takes. */
function volumeFormatsOf(type: PoolTypeName): Formats | undefined {
  if (type === 'sheepdog') return undefined;
  const formats = FORMATS_OF[type];
  return type === 'rbd' && formats ? { ...formats, names: [] } : formats;
}

function formatOptions(
  xml: XmlWriter,
  element: string,
  list: string,
  { names, default: usual }: Formats,
): void {
  xml.element(element, {}, () => {
    xml.empty('defaultFormat', { type: usual });
    xml.element('enum', { name: list }, () => {
      for (const name of names) xml.leaf('value', name);
    });
  });
}

/** libvirt's document of what pools a host can have: all types that libvirt knows, and which of them are registered. */
export function formatCapabilities(backends: readonly RegisteredBackend[]): string {
  const xml = new XmlWriter();
  xml.element('storagepoolCapabilities', {}, () => {
    for (const [name, type] of Object.entries(POOL_TYPES) as [PoolTypeName, PoolType][]) {
      if (type.beyondLibvirt) continue;
      const backend = backends.find((registered) => registered.type === name);
      const known = volumeFormatsOf(name);
      const volumes =
        known && backend?.volumeFormats
          ? { ...known, names: known.names.filter((format) => backend.volumeFormats?.includes(format)) }
          : known;
      xml.element('pool', { type: name, supported: backend ? 'yes' : 'no' }, () => {
        const [first] = type.formats ?? [];
        if (type.formats && first !== undefined)
          formatOptions(xml, 'poolOptions', 'sourceFormatType', {
            names: type.formats,
            default: type.defaultFormat ?? first,
          });
        if (volumes) formatOptions(xml, 'volOptions', 'targetFormatType', volumes);
      });
    }
  });
  return xml.toString();
}
