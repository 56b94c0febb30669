import { Command, Option } from 'commander';
import type { VolumeAttributes } from '../../shared/conf/volume.ts';
import type { FleetVolume } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { callJson } from './client.ts';
import { printable, show } from './output.ts';
import { volumePath, volumeReference } from './references.ts';
import { allowUsedOption, usedQuery } from './volume-options.ts';

interface SetOptions {
  notes?: string;
  protected?: 'on' | 'off';
}

function attributesOf({ notes, protected: isProtected }: SetOptions): VolumeAttributes {
  if (notes === undefined && isProtected === undefined)
    throw new StowageError('invalid-argument', 'what is to be set? See --notes and --protected');
  return { notes, isProtected: isProtected === undefined ? undefined : isProtected === 'on' };
}

/** Commands about what a volume has beside its content. */
export function attributeCommands(): Command[] {
  return [
    new Command('rename')
      .arguments('<host/pool/vol> <name>')
      .description('give a volume another name in its pool; it is the same volume')
      .addOption(allowUsedOption())
      .action(async (text: string, name: string, options: { allowUsed?: boolean }) => {
        const path = `${volumePath(volumeReference(text))}/rename${usedQuery(options)}`;
        const volume = await callJson<FleetVolume>(path, { method: 'POST', json: { name } });
        await show(
          volume,
          () => `${printable(text)} is ${printable(`${volume.host}/${volume.pool}/${name}`)} now`,
        );
      }),
    new Command('base')
      .arguments('<host/pool/vol>')
      .description('make a base of a volume: it takes no write, and linked clones can stand on it')
      .option('--undo', 'make a volume of a base again')
      .addOption(allowUsedOption())
      .action(async (text: string, options: { undo?: boolean; allowUsed?: boolean }) => {
        const path = `${volumePath(volumeReference(text))}/base${usedQuery(options)}`;
        const isBase = !options.undo;
        const volume = await callJson<FleetVolume>(path, { method: 'PUT', json: { isBase } });
        await show(volume, () => `${printable(text)} is ${isBase ? 'a base' : 'no base any more'}`);
      }),
    new Command('set')
      .arguments('<host/pool/vol>')
      .description('change the notes of a volume, and whether it is protected')
      .option('--notes <text>', 'an empty text takes them away')
      .addOption(
        new Option(
          '--protected <on|off>',
          'on: it is not deleted, wiped, replaced or moved away until this is off',
        ).choices(['on', 'off']),
      )
      .action(async (text: string, options: SetOptions) => {
        const path = `${volumePath(volumeReference(text))}/attributes`;
        const volume = await callJson<FleetVolume>(path, { method: 'PATCH', json: attributesOf(options) });
        await show(
          volume,
          ({ isProtected, notes }) =>
            `${printable(text)}: ${isProtected ? 'protected' : 'not protected'}${notes ? `, ${printable(notes)}` : ''}`,
        );
      }),
  ];
}
