import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { StowageError } from '../../shared/util/errors.ts';

export interface SshHost {
  user: string;
  hostname: string;
  port: number;
  /** Those that ~/.ssh/config names; not the ones that ssh(1) tries for everybody. */
  identities: string[];
  identitiesOnly: boolean;
}

/** What ssh(1) would do for a host, each keyword with its values; empty where there is no ssh(1). */
function configOf(alias: string, ...options: string[]): Map<string, string[]> {
  const config = new Map<string, string[]>();
  try {
    const text = execFileSync('ssh', [...options, '-G', '--', alias], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    for (const line of text.split('\n')) {
      const [key = '', ...value] = line.split(' ');
      config.set(key, [...(config.get(key) ?? []), value.join(' ')]);
    }
  } catch {
    // no ssh(1) here: the URL alone decides
  }
  return config;
}

/**
 * The address behind `ssh://user@host:port`. ssh(1) itself reads ~/.ssh/config (`ssh -G`), so that aliases, wildcards
 * and Match blocks mean what they mean everywhere else; what the URL says goes before.
 */
export function resolveSshHost(url: string): SshHost {
  const match = /^ssh:\/\/(?:([^@/\s:]+)@)?(\[[0-9a-f:.]+\]|[^@/\s:]+)(?::(\d{1,5}))?\/?$/i.exec(url);
  if (!match?.[2] || match[2].startsWith('-'))
    throw new StowageError('invalid-argument', `'${url}' is not ssh://user@host:port`);
  const alias = match[2].replace(/^\[|\]$/g, '');
  const config = configOf(alias);
  const [user] = config.get('user') ?? [];
  const [hostname] = config.get('hostname') ?? [];
  const [port] = config.get('port') ?? [];
  const usual = configOf(alias, '-F', 'none').get('identityfile') ?? [];
  const named = (config.get('identityfile') ?? []).filter((path) => !usual.includes(path));
  return {
    user: match[1] ?? user ?? 'root',
    hostname: hostname ?? alias,
    port: Number(match[3] ?? port ?? 22),
    identities: named.map((path) => path.replace(/^~(?=\/)/, homedir())).filter((path) => existsSync(path)),
    identitiesOnly: config.get('identitiesonly')?.[0] === 'yes',
  };
}
