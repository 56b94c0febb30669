import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { StowageError } from '../../shared/util/errors.ts';

export interface SshHost {
  user: string;
  hostname: string;
  port: number;
  identity: string | undefined;
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
  let config = new Map<string, string>();
  try {
    const text = execFileSync('ssh', ['-G', '--', alias], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    // Several identities may be listed; the first that exists is the one that ssh would try first.
    for (const line of text.split('\n')) {
      const [key = '', ...value] = line.split(' ');
      const text = value.join(' ').replace(/^~/, homedir());
      if (key === 'identityfile' && !config.has(key) && existsSync(text)) config.set(key, text);
      else if (key !== 'identityfile') config.set(key, text);
    }
  } catch {
    config = new Map(); // no ssh(1) here: the URL alone decides
  }
  return {
    user: match[1] ?? config.get('user') ?? 'root',
    hostname: config.get('hostname') ?? alias,
    port: Number(match[3] ?? config.get('port') ?? 22),
    identity: config.get('identityfile'),
  };
}
