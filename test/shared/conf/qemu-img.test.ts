import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type QemuImgOptions, qemuImgCommands } from '../../../shared/conf/qemu-img.ts';
import { parseVolume } from '../../../shared/conf/volume-xml.ts';
import { libvirtFile, libvirtFiles, withoutLibvirtData } from '../../support/libvirt-data.ts';
import { scratch } from '../../support/scratch.ts';

const secretFile = '/path/to/secretFile';
const inputSecretFile = '/path/to/inputSecretFile';

/** libvirt's own cases: what is made, from what, and how. */
interface Case {
  volume: string;
  input?: string;
  preallocate?: true;
  capacity?: 'optional';
}
const CASES: Record<string, Case> = {
  iso: { volume: 'vol-file-iso' },
  'iso-input': { volume: 'vol-file', input: 'vol-file-iso' },
  'luks-cipher': { volume: 'vol-luks-cipher' },
  'luks-convert-encrypt2fileraw': { volume: 'vol-file', input: 'vol-luks-convert' },
  'luks-convert-qcow2': { volume: 'vol-luks-convert', input: 'vol-file-qcow2' },
  'qcow2-compat': { volume: 'vol-qcow2' },
  'qcow2-luks': { volume: 'vol-qcow2-luks' },
  'qcow2-luks-convert-encrypt': { volume: 'vol-qcow2-luks', input: 'vol-qcow2-luks-convert' },
  'qcow2-luks-convert-encrypt2fileqcow2': { volume: 'vol-file-qcow2', input: 'vol-qcow2-luks-convert' },
  'qcow2-nocapacity': { volume: 'vol-qcow2-nocapacity-backing', capacity: 'optional' },
  'qcow2-nocapacity-convert-prealloc': {
    volume: 'vol-qcow2-nocapacity',
    input: 'vol-file',
    preallocate: true,
  },
  'qcow2-zerocapacity': { volume: 'vol-qcow2-zerocapacity' },
};

const SECRET = "<secret type='passphrase' usage='u'/>";
const volumeOf = (inner: string, size = '<capacity>2097152</capacity>') =>
  parseVolume(
    `<volume><name>v</name>${size}${inner.replace('<target>', '<target><path>/p/v</path>')}</volume>`,
    { pool: 'dir', capacity: 'optional' },
  );
const target = (inner: string, format = 'qcow2'): string =>
  `<target><format type='${format}'/>${inner}</target>`;
const luks = (inner = SECRET, format = 'luks'): string =>
  `<encryption format='${format}'>${inner}</encryption>`;
const on = (path: string): string => `<backingStore><path>${path}</path><format type='raw'/></backingStore>`;

/** What libvirt 9.0.0 was seen to run, by a qemu-img in its way that wrote down its arguments; `compat` as of libvirt 11. */
const SEEN: [string, QemuImgOptions, string[]][] = [
  [target(''), {}, ['create -f qcow2 -o compat=1.1 /p/v 2048K']],
  [
    target(''),
    { preallocateMetadata: true },
    ['create -f qcow2 -o preallocation=falloc,compat=1.1 /p/v 2048K'],
  ],
  [
    `<allocation>0</allocation>${target('')}`,
    { preallocateMetadata: true },
    ['create -f qcow2 -o preallocation=metadata,compat=1.1 /p/v 2048K'],
  ],
  [target('<nocow/>'), {}, ['create -f qcow2 -o nocow=on,compat=1.1 /p/v 2048K']],
  [
    target("<features><lazy_refcounts/><extended_l2/></features><clusterSize unit='K'>128</clusterSize>"),
    {},
    ['create -f qcow2 -o compat=1.1,cluster_size=131072,lazy_refcounts,extended_l2=on /p/v 2048K'],
  ],
  [target('') + on('/b'), {}, ['create -f qcow2 -b /b -o backing_fmt=raw,compat=1.1 /p/v 2048K']],
  [
    target(
      luks(
        `${SECRET}<cipher name='aes' size='256' mode='cbc' hash='sha256'/><ivgen name='plain64' hash='sha256'/>`,
      ),
    ),
    {},
    [
      `create -f qcow2 --object secret,id=v_encrypt0,file=${secretFile} -o encrypt.format=luks,encrypt.key-secret=v_encrypt0,encrypt.cipher-alg=aes-256,encrypt.cipher-mode=cbc,encrypt.hash-alg=sha256,encrypt.ivgen-alg=plain64,encrypt.ivgen-hash-alg=sha256,compat=1.1 /p/v 2048K`,
    ],
  ],
  [target('', 'vmdk'), {}, ['create -f vmdk /p/v 2048K']],
  [target('<nocow/>', 'qed'), {}, ['create -f qed -o nocow=on /p/v 2048K']],
  [
    target('') + on('/b'),
    { input: { document: volumeOf(target('', 'raw')) } },
    ['convert -f raw -O qcow2 -o compat=1.1 /p/v /p/v'],
  ],
  [
    target(luks()) + on('/b'),
    { input: { document: volumeOf(target('', 'raw')) } },
    [
      `create -f qcow2 --object secret,id=v_encrypt0,file=${secretFile} -o encrypt.format=luks,encrypt.key-secret=v_encrypt0,compat=1.1 /p/v 2048K`,
      `convert --image-opts -n --target-image-opts --object secret,id=v_encrypt0,file=${secretFile} driver=raw,file.filename=/p/v driver=qcow2,file.filename=/p/v,encrypt.key-secret=v_encrypt0`,
    ],
  ],
  [
    target(''),
    { input: { document: volumeOf(target('')), block: true } },
    ['convert -f raw -O qcow2 -o compat=1.1 /p/v /p/v'],
  ],
];

/** What libvirt refuses to make. */
const REFUSED: [string, QemuImgOptions, string][] = [
  [
    target('<compat>0.10</compat><features><lazy_refcounts/></features>'),
    {},
    'unsupported configuration: lazy_refcounts not supported with compat level 0.10',
  ],
  [
    target('<compat>0.10</compat><features><extended_l2/></features>'),
    {},
    "unsupported configuration: 'extended_l2' not supported with compat level 0.10",
  ],
  [
    target('') + on('/b'),
    { preallocateMetadata: true },
    'unsupported configuration: metadata preallocation conflicts with backing store',
  ],
  [
    target('', 'vdi'),
    { preallocateMetadata: true },
    'unsupported configuration: metadata preallocation only available with qcow2',
  ],
  [
    target('') + on('/b'),
    { input: { document: volumeOf(target('') + on('/c')) } },
    'internal error: a different backing store cannot be specified.',
  ],
  [
    target(luks(SECRET, 'qcow')),
    {},
    'unsupported configuration: creation of qcow2 encrypted image is not supported',
  ],
  [
    target(luks(SECRET, 'default')),
    {},
    'unsupported configuration: creation of qcow2 encrypted image is not supported',
  ],
  [target(luks(SECRET, 'luks2')), {}, 'unsupported configuration: unsupported volume encryption format 3'],
  [
    target(luks('')),
    {},
    "invalid argument: A single <secret type='passphrase'...> element is expected in encryption description",
  ],
  [
    target(luks(SECRET + SECRET)),
    {},
    "invalid argument: A single <secret type='passphrase'...> element is expected in encryption description",
  ],
  [
    target(luks(SECRET, 'qcow'), 'raw'),
    {},
    'internal error: Only luks encryption is supported for raw files',
  ],
  [target(luks(), 'vmdk'), {}, 'unsupported configuration: volume encryption unsupported with format vmdk'],
];

describe('what qemu-img is told', () => {
  const libvirtVolume = (name: string, capacity?: 'optional') =>
    parseVolume(libvirtFile(`vol-in/${name}.xml`), { pool: 'dir', capacity });

  test("libvirt's own cases, argument for argument", { skip: withoutLibvirtData }, () => {
    const there = new Set(libvirtFiles('vol-argv'));
    for (const [name, { volume, input, preallocate, capacity }] of Object.entries(CASES)) {
      assert.ok(there.has(`${name}.argv`), name);
      const commands = qemuImgCommands(
        { document: libvirtVolume(volume, input ? 'optional' : capacity), secretFile },
        {
          input:
            input === undefined ? undefined : { document: libvirtVolume(input), secretFile: inputSecretFile },
          preallocateMetadata: preallocate,
        },
      );
      const expected = libvirtFile(`vol-argv/${name}.argv`).replaceAll('\\\n', '').trim().split('\n');
      assert.deepEqual(
        commands.map((args) => ['qemu-img', ...args].join(' ')),
        expected,
        name,
      );
    }
    for (const [name, message] of [
      [
        'vol-qcow2-0.10-lazy',
        'unsupported configuration: lazy_refcounts not supported with compat level 0.10',
      ],
      [
        'vol-qcow2-encryption',
        'unsupported configuration: creation of qcow2 encrypted image is not supported',
      ],
    ] as const)
      assert.throws(() => qemuImgCommands({ document: libvirtVolume(name), secretFile }), { message });
  });

  test('what a real libvirt was seen to run', () => {
    for (const [inner, options, expected] of SEEN)
      assert.deepEqual(
        qemuImgCommands({ document: volumeOf(inner), secretFile }, options).map((args) => args.join(' ')),
        expected,
        inner,
      );
    assert.deepEqual(
      qemuImgCommands({ document: volumeOf(target('') + on('/b'), '') }).map((args) => args.join(' ')),
      ['create -f qcow2 -b /b -o backing_fmt=raw,compat=1.1 /p/v'],
    );
  });

  test('what libvirt refuses is refused in its words', () => {
    for (const [inner, options, message] of REFUSED)
      assert.throws(
        () => qemuImgCommands({ document: volumeOf(inner), secretFile }, options),
        {
          code: 'invalid-xml',
          message,
        },
        inner,
      );
  });

  test('a comma in a name ends no value', () => {
    const document = { ...volumeOf(target(luks())), name: 'a,b' };
    const [create] = qemuImgCommands({ document, secretFile: '/s,t' });
    assert.ok(create?.includes('secret,id=a,,b_encrypt0,file=/s,,t'), create?.join(' '));
  });

  test('a real qemu-img makes what is asked for, encrypted and converted too', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    writeFileSync(at('secret'), 'a passphrase', { mode: 0o600 });
    const place = (name: string, inner: string) => {
      const document = volumeOf(inner);
      return {
        document: { ...document, name, target: { ...document.target, path: at(name) } },
        secretFile: at('secret'),
      };
    };
    /** qemu-img measures how fast the processor is, and on some virtual machines now and then cannot. */
    const execute = (command: string[], attempts: number): void => {
      try {
        execFileSync('qemu-img', command, { stdio: 'pipe' });
      } catch (error) {
        if (attempts === 0 || !/Unable to get accurate CPU usage/.test(String(error))) throw error;
        execute(command, attempts - 1);
      }
    };
    const run = (...args: Parameters<typeof qemuImgCommands>): void => {
      for (const command of qemuImgCommands(...args)) execute(command, 20);
    };
    const info = (name: string): { format: string; 'virtual-size': number; encrypted?: boolean } =>
      JSON.parse(execFileSync('qemu-img', ['info', '--output=json', at(name)], { encoding: 'utf8' }));
    const plain = place('plain', target('<compat>1.1</compat><features><lazy_refcounts/></features>'));
    run(plain);
    assert.deepEqual([info('plain').format, info('plain')['virtual-size']], ['qcow2', 2 << 20]);
    const sealed = place('sealed', target(luks(), 'raw'));
    run(sealed, { input: plain });
    assert.equal(info('sealed').format, 'luks');
    const opened = place('opened', target(''));
    run(opened, { input: sealed });
    assert.deepEqual([info('opened').format, info('opened').encrypted], ['qcow2', undefined]);
    const within = place('within', target(luks()));
    run(within, { input: opened });
    assert.equal(info('within').encrypted, true);
  });
});
