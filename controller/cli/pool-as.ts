import { Command } from 'commander';
import type { Pool } from '../../shared/conf/pool.ts';
import { XmlWriter } from '../../shared/conf/xml/write.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { callJson } from './client.ts';
import { show } from './output.ts';
import { hostPath } from './references.ts';

/** The options of virsh's `pool-create-as` that say what the pool is, with the values that they take. */
const SAYING = {
  'source-host': 'name',
  'source-path': 'path',
  'source-dev': 'path',
  'source-name': 'name',
  'source-format': 'format',
  'source-initiator': 'iqn',
  'source-protocol-ver': 'version',
  target: 'path',
  'auth-type': 'type',
  'auth-username': 'name',
  'secret-usage': 'usage',
  'secret-uuid': 'uuid',
  'adapter-name': 'name',
  'adapter-wwnn': 'wwn',
  'adapter-wwpn': 'wwn',
  'adapter-parent': 'name',
  'adapter-parent-wwnn': 'wwn',
  'adapter-parent-wwpn': 'wwn',
  'adapter-parent-fabric-wwn': 'wwn',
} as const;
type Saying = Partial<Record<keyof typeof SAYING, string>>;

function sourceOf(xml: XmlWriter, given: Saying): void {
  const one = (element: string, attribute: string, value: string | undefined): void => {
    if (value !== undefined) xml.empty(element, { [attribute]: value });
  };
  one('host', 'name', given['source-host']);
  one('dir', 'path', given['source-path']);
  one('device', 'path', given['source-dev']);
  const initiator = given['source-initiator'];
  if (initiator !== undefined) xml.element('initiator', {}, () => one('iqn', 'name', initiator));
  if (given['adapter-name'] !== undefined)
    xml.empty('adapter', { type: 'scsi_host', name: given['adapter-name'] });
  else if (given['adapter-wwnn'] !== undefined && given['adapter-wwpn'] !== undefined)
    xml.empty('adapter', {
      type: 'fc_host',
      parent: given['adapter-parent'],
      parent_wwnn: given['adapter-parent-wwnn'],
      parent_wwpn: given['adapter-parent-wwpn'],
      parent_fabric_wwn: given['adapter-parent-fabric-wwn'],
      wwnn: given['adapter-wwnn'],
      wwpn: given['adapter-wwpn'],
    });
  const secret = { uuid: given['secret-uuid'], usage: given['secret-usage'] };
  if (
    given['auth-type'] !== undefined &&
    given['auth-username'] !== undefined &&
    (secret.uuid ?? secret.usage)
  )
    xml.element('auth', { type: given['auth-type'], username: given['auth-username'] }, () =>
      xml.empty('secret', secret),
    );
  if (given['source-name'] !== undefined) xml.leaf('name', given['source-name']);
  one('format', 'type', given['source-format']);
  one('protocol', 'ver', given['source-protocol-ver']);
}

/** The document that virsh makes of such options. What it means is for whoever reads it. */
export function documentAs(name: string, type: string, given: Saying): string {
  if (given['secret-usage'] !== undefined && given['secret-uuid'] !== undefined)
    throw new StowageError(
      'invalid-argument',
      'Options --secret-usage and --secret-uuid are mutually exclusive',
    );
  const xml = new XmlWriter();
  xml.element('pool', { type }, () => {
    xml.leaf('name', name);
    xml.optional('source', {}, () => sourceOf(xml, given));
    if (given.target !== undefined) xml.element('target', {}, () => xml.leaf('path', given.target!));
  });
  return xml.toString();
}

const camel = (option: string): string =>
  option.replace(/-(.)/g, (_all, letter: string) => letter.toUpperCase());

function given(options: Record<string, unknown>): Saying {
  return Object.fromEntries(Object.keys(SAYING).map((name) => [name, options[camel(name)]]));
}

/** `pool create-as` or `pool define-as`, with the options of virsh's commands of these names. */
export function asCommand(verb: 'create-as' | 'define-as'): Command {
  const creates = verb === 'create-as';
  const command = new Command(verb)
    .argument('<host>')
    .argument('<name>')
    .argument('<type>', 'such as dir')
    .description(
      creates ? "define and start a pool, by virsh's options" : "define a pool, by virsh's options",
    );
  for (const [name, value] of Object.entries(SAYING)) command.option(`--${name} <${value}>`);
  if (creates)
    command
      .option('--build', 'make its storage')
      .option('--overwrite', 'with --build: format the storage, whatever is there')
      .option('--no-overwrite', 'with --build: format the storage, unless something is there');
  command.option('--no-autostart', 'do not start it with the agent');
  return command
    .option('--print-xml', 'write the document instead of doing anything')
    .action(async (host: string, name: string, type: string, options: Record<string, unknown>) => {
      const xml = documentAs(name, type, given(options));
      if (options.printXml) {
        process.stdout.write(xml);
        return;
      }
      if (options.overwrite !== undefined && !options.build)
        throw new StowageError('invalid-argument', '--overwrite and --no-overwrite go with --build');
      const overwrite = options.overwrite === undefined ? '' : `&overwrite=${Boolean(options.overwrite)}`;
      const query = `build=${Boolean(options.build)}&start=${creates}&autostart=${Boolean(options.autostart)}${overwrite}`;
      const made = await callJson<Pool>(`${hostPath(host)}/pools?${query}`, { method: 'POST', xml });
      await show(made, () => `pool ${host}/${made.name} is ${made.state}`);
    });
}
