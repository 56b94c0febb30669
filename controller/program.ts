import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { StowageError } from '../shared/util/errors.ts';
import { VERSION } from '../shared/version.ts';
import { tryChannels } from './attention/trial.ts';
import { backup, restore } from './backup.ts';
import { count } from './cli/numbers.ts';
import { readConfiguration } from './configuration/file.ts';
import { notifyOptions } from './configuration/notify.ts';
import { openIdOptions } from './configuration/open-id.ts';
import { type Configuration, configurationSchema, LOG_LEVELS } from './configuration/schema.ts';
import { storeUrl } from './configuration/store-url.ts';
import { tracesOptions } from './configuration/traces.ts';
import { trailOptions } from './configuration/trail.ts';
import { sourceThrough } from './doors/source.ts';
import { moveStore } from './move-store.ts';
import { certificateOf, type ServeOptions, serve } from './serve.ts';

/** Keys of the file that are options, too. */
const SHARED = {
  data: 'data',
  listen: 'listen',
  'public-url': 'publicUrl',
  'local-agent': 'localAgent',
  command: 'command',
  'jobs-per-host': 'jobsPerHost',
  tls: 'tls',
  'tls-cert': 'tlsCert',
  'tls-key': 'tlsKey',
  'trust-proxy': 'trustProxy',
  'log-level': 'logLevel',
} as const satisfies Partial<Record<keyof Configuration, keyof ServeOptions>>;

/** Takes an option as the key of that name in the file is taken. */
const asKey = (key: 'listen' | 'public-url') => (text: string) => {
  const { data, error } = configurationSchema.shape[key].safeParse(text);
  if (error) throw new InvalidArgumentError(error.issues[0]!.message);
  return data;
};

export const program = new Command('stowage-controller')
  .description('the controller: inventory, transfers, jobs and audit of a fleet')
  .version(VERSION)
  .addOption(
    new Option(
      '--config <file>',
      'YAML, whose keys are these options without the dashes, and more; what is given here or in the environment counts more',
    ).env('STOWAGE_CONFIG'),
  )
  .addOption(
    new Option('--data <dir>', 'where everything is kept')
      .env('STOWAGE_DATA')
      .default(join(homedir(), '.local/share/stowage'), '~/.local/share/stowage'),
  )
  .addOption(
    new Option('--listen <host:port>', 'where the API answers')
      .env('STOWAGE_LISTEN')
      .argParser(asKey('listen'))
      .default('127.0.0.1:7070'),
  )
  .option('--no-local-agent', 'run no agent on this machine')
  .option('--no-command', 'put no command `stowage` into the data directory')
  .option('--jobs-per-host <count>', 'jobs that work on a host at a time', count, 2)
  .option('--tls', 'speak TLS, with a certificate of our own, which clients know by its fingerprint')
  .option('--tls-cert <file>', 'speak TLS with this certificate, PEM, the chain behind it')
  .option('--tls-key <file>', 'its key, PEM')
  .option(
    '--public-url <url>',
    'under which browsers reach it, such as https://storage.example; as they ask for it when not given',
    asKey('public-url'),
  )
  .option(
    '--trust-proxy <addresses>',
    'proxies whose X-Forwarded-For counts, such as 127.0.0.1,10.0.0.0/8',
    (text: string) => text.split(',').map((each) => each.trim()),
  )
  .option(
    '--accept-keys',
    'start though keys of the data directory are missing, or are not those of the store; goes on record, and what they signed and sealed is lost',
  )
  .addOption(
    new Option('--log-level <level>', 'of the JSON log on standard error')
      .env('STOWAGE_LOG')
      .choices(LOG_LEVELS)
      .default('warn'),
  )
  .addHelpText(
    'after',
    '\nSTOWAGE_STORE=postgres://USER:PASSWORD@HOST/DATABASE keeps the store in PostgreSQL; only the environment, or a file that `store-file` in the configuration names, says it.',
  )
  .action(() => {
    const configuration = configure();
    return serve(program.opts<ServeOptions>(), configuration);
  });

/** Reads the file, if one is given. What it says of an option counts where neither the command line nor the environment does. */
function configure(): Configuration {
  const { config } = program.opts<ServeOptions>();
  // STOWAGE_CONFIG= says that there is none.
  const configuration = config ? readConfiguration(resolve(config)) : {};
  for (const [key, option] of Object.entries(SHARED) as [keyof typeof SHARED, string][]) {
    const source = program.getOptionValueSource(option);
    if (configuration[key] !== undefined && (source === undefined || source === 'default'))
      program.setOptionValueWithSource(option, configuration[key], 'config');
  }
  return configuration;
}

program
  .command('check')
  .description('check the configuration, and the files that it names, and start nothing')
  .option('--notify', 'and send a message for trial to everybody who is to be told')
  .action(async ({ notify }: { notify?: boolean }) => {
    const configuration = configure();
    storeUrl(process.env, configuration);
    openIdOptions(process.env, configuration);
    trailOptions(configuration, '');
    const { file, checkpoints, archives } = configuration.audit ?? {};
    for (const path of [file, checkpoints, archives])
      if (path !== undefined && !existsSync(dirname(path)))
        throw new StowageError('invalid-argument', `audit: there is no directory for ${path}`);
    tracesOptions(process.env, configuration);
    const { trustProxy = [], tlsCert, tlsKey, ...options } = program.opts<ServeOptions>();
    sourceThrough(trustProxy);
    if (tlsCert ?? tlsKey) await certificateOf({ ...options, tlsCert, tlsKey });
    const channels = notifyOptions(configuration)?.channels ?? [];
    console.log('the configuration is valid');
    if (!notify) return;
    if (channels.length === 0)
      throw new StowageError('invalid-argument', 'nobody is to be told: the configuration has no `notify`');
    let refused = 0;
    for await (const { channel, refusal } of tryChannels(channels)) {
      if (refusal !== undefined) refused++;
      console.log(`${channel}: ${refusal ?? 'it was taken'}`);
    }
    if (refused > 0)
      throw new StowageError('invalid-argument', `${refused} of ${channels.length} did not take it`);
  });
program
  .command('store')
  .description('the store of the controller')
  .command('copy')
  .description(
    'copy the SQLite store to the empty PostgreSQL database that STOWAGE_STORE or `store-file` names, and check the trail there',
  )
  .action(() => {
    const configuration = configure();
    return moveStore(program.opts<ServeOptions>().data, storeUrl(process.env, configuration));
  });
const stateOf = ({ records, head }: { records: number; head?: string }): string =>
  `the trail is whole: ${records} records, signed up to ${head?.slice(0, 16) ?? 'nothing'}`;
program
  .command('backup <directory>')
  .description(
    'copy store and keys into a new directory, while the controller works or not, and check the trail there',
  )
  .action(async (directory: string) => {
    if (storeUrl(process.env, configure()))
      throw new StowageError(
        'invalid-argument',
        'the store is in PostgreSQL: save it by pg_dump, and the keys by copying them',
      );
    const target = resolve(directory);
    process.stderr.write('copying the store and the keys, then checking the trail of the copy …\n');
    console.log(stateOf(await backup(resolve(program.opts<ServeOptions>().data), target)));
    console.log(`saved to ${target}; whoever has it can be this controller`);
  });
program
  .command('restore <backup>')
  .description('make the data directory, which must be empty or not there, of a backup that is whole')
  .action(async (directory: string) => {
    configure();
    const { data } = program.opts<ServeOptions>();
    console.log(stateOf(await restore(resolve(directory), resolve(data))));
    console.log(
      `restored to ${resolve(data)}; where the old data directory has \`agent\` and \`pools\`, move them here; then start the controller`,
    );
  });
