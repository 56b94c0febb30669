/** What an agent that dials in is told of the controller. */
export interface EnrolmentPlace {
  /** Where the host reaches the controller. */
  url: string;
  /** Whether its certificate is its own, which nothing on the host vouches for. */
  isSelfSigned: boolean;
  /** What an agent is made of. */
  files: readonly { name: string; sha256: string }[];
}

/**
 * Where a host reaches the controller, as the controller has told it; by the scheme of `own`, by which the caller reaches it, where that is
 * the same machine: behind a proxy that speaks TLS the controller does not know it.
 */
export const reachedAt = (told: string, own: string): string =>
  new URL(told).host === new URL(own).host ? new URL(own).origin : told;

/** Fetches the agent, and compares it with its digests, which say what it is whoever has sent it. */
export function fetchCommands({ url, isSelfSigned, files }: EnrolmentPlace): string[] {
  const curl = isSelfSigned ? 'curl -kfsSO' : 'curl -fsSO';
  return [
    ...files.map(({ name }) => `${curl} ${new URL(`/api/v1/agent/${name}`, url).href}`),
    "sha256sum -c <<'END'",
    ...files.map(({ name, sha256 }) => `${sha256}  ${name}`),
    'END',
  ];
}

/** Starts the agent, whose token lies in the file `token`. */
export const connectCommand = ({ url }: EnrolmentPlace): string =>
  `node stowage-agent.mjs connect ${url} --token-file token`;

/** The same with the Debian package, whose token is typed. */
export const packageCommands = ({ url }: EnrolmentPlace): string[] => [
  'install -m 600 /dev/stdin /var/lib/stowage-agent/token          # the token, then Ctrl-D',
  `echo STOWAGE_CONTROLLER=${url} > /etc/default/stowage-agent`,
  'systemctl enable stowage-agent && systemctl restart stowage-agent',
];
