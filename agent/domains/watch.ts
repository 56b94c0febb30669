import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { existsSync, type FSWatcher, watch } from 'node:fs';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
import { MOST_DOMAINS_A_LINE } from '../../shared/protocol/agent.ts';
import type { DomainKey, HostDomain } from '../../shared/protocol/domains.ts';
import { clock, type Timer } from '../../shared/util/clock.ts';
import type { HostDomains } from './host-domains.ts';
import { isHidden } from './unreadable.ts';

/** Changes that come together are looked at once. */
const SETTLE_MS = 200;
/** What no watch tells of, such as a guest of another node, is seen by then. */
const POLL_MS = 15_000;
/** Domains with very many disks share a line with few others. */
const LINE_CHARACTERS = 1 << 20;
/** Looking takes at most this part of the time. */
const SHARE = 0.05;

const keyOf = ({ origin, name, uuid }: DomainKey): DomainKey => ({ origin, name, uuid });

const keyText = (domain: DomainKey): string => JSON.stringify(keyOf(domain));

interface Seen {
  domain: HostDomain;
  /** Its JSON. */
  text: string;
}

/** As many a line as a reader takes. */
function pages(all: readonly Seen[]): Seen[][] {
  const found: Seen[][] = [];
  let characters = Infinity;
  for (const seen of all) {
    const page = found.at(-1);
    if (!page || page.length === MOST_DOMAINS_A_LINE || characters + seen.text.length > LINE_CHARACTERS) {
      found.push([seen]);
      characters = 0;
    } else page.push(seen);
    characters += seen.text.length;
  }
  return found;
}

/**
 * What is told of the domains of this host. Looks at them again when a configuration or a pool changes, and now and then
 * anyway, and emits `event` with each difference.
 */
export class DomainWatch extends EventEmitter<{ event: [AgentEvent] }> {
  readonly #domains: HostDomains;
  /** As they were seen last, with their JSON. */
  #seen = new Map<string, Seen>();
  #digest = '';
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #poll: Timer;
  #soon: Timer | undefined;
  #tookMs = 0;
  #last: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  readonly #first = Promise.withResolvers<void>();
  #isSeen = false;

  constructor(domains: HostDomains) {
    super();
    this.setMaxListeners(0);
    this.#domains = domains;
    this.#poll = clock.every(POLL_MS, () => this.lookSoon(), false);
    this.lookSoon();
  }

  close(): void {
    this.#poll.stop();
    this.#soon?.stop();
    for (const watcher of this.#watchers.values()) watcher.close();
  }

  /** Looks in a moment; later on a host where looking takes long. */
  lookSoon(): void {
    this.#soon ??= clock.after(
      Math.max(SETTLE_MS, this.#tookMs / SHARE),
      () => {
        this.#soon = undefined;
        // Until a look succeeds, what was seen last counts.
        this.look().catch(() => undefined);
      },
      false,
    );
  }

  /** Looks now. Settles when what has changed was emitted. */
  look(): Promise<void> {
    // One that is under way may have read what has changed since.
    this.#next ??= this.#last
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#look();
      });
    this.#last = this.#next;
    return this.#next;
  }

  async #look(): Promise<void> {
    this.#watchDirectories();
    const began = clock.monotonicMs();
    const found = await this.#domains.listWithUses();
    this.#tookMs = clock.monotonicMs() - began;
    const seen = new Map(found.map((domain) => [keyText(domain), { domain, text: JSON.stringify(domain) }]));
    const before = this.#seen;
    // Where configurations cannot be read, the domains that were seen there count as they were.
    const hidden = new Set(found.filter(isHidden).map(({ origin }) => origin));
    for (const [key, entry] of before)
      if (hidden.has(entry.domain.origin) && !isHidden(entry.domain) && !seen.has(key)) seen.set(key, entry);
    const changed = [...seen].filter(([key, { text }]) => before.get(key)?.text !== text);
    const gone = [...before].filter(([key]) => !seen.has(key));
    this.#seen = seen;
    if (changed.length + gone.length === 0 && this.#isSeen) return;
    const hash = createHash('sha256');
    for (const key of [...seen.keys()].sort()) hash.update(`${seen.get(key)!.text}\n`);
    this.#digest = hash.digest('base64url');
    if (!this.#isSeen) {
      this.#isSeen = true;
      return this.#first.resolve();
    }
    for (const page of pages(gone.map(([, entry]) => entry)))
      this.emit('event', { type: 'domains', domains: [], gone: page.map(({ domain }) => keyOf(domain)) });
    for (const page of pages(changed.map(([, entry]) => entry)))
      this.emit('event', { type: 'domains', domains: page.map(({ domain }) => domain), gone: [] });
    this.emit('event', { type: 'domains', domains: [], gone: [], now: this.#digest });
  }

  /** Settles when the domains were seen for the first time: until then it is not known what there is. */
  get seen(): Promise<void> {
    return this.#first.promise;
  }

  /** The domains as lines of the event stream; none for who knows this state of them. Each line is built when it is read, from the state at that moment. */
  *snapshot(known: string | undefined): Generator<AgentEvent> {
    if (known === this.#digest) return;
    yield { type: 'domains-begin' };
    for (const page of pages([...this.#seen.values()])) {
      const domains = page.flatMap(({ domain }) => this.#seen.get(keyText(domain))?.domain ?? []);
      yield { type: 'domains', domains, gone: [] };
    }
    yield { type: 'domains-end', now: this.#digest };
  }

  /** Directories come and go with the packages that make them. */
  #watchDirectories(): void {
    for (const directory of this.#domains.directories) {
      if (this.#watchers.has(directory)) continue;
      try {
        const watcher = watch(directory, { persistent: false }, (event) => {
          // A directory made anew under this name needs a new watch.
          if (event === 'rename' && !existsSync(directory)) this.#forget(directory);
          this.lookSoon();
        });
        watcher.on('error', () => this.#forget(directory));
        this.#watchers.set(directory, watcher);
      } catch {
        // Not there, or not ours to see: what is in it is looked at now and then.
      }
    }
  }

  #forget(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
  }
}
