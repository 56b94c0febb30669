import { StowageError } from '../../../shared/util/errors.ts';
import { bytesAt, textAt, writeAddress } from '../../host/native.ts';
import { libiscsi } from './libiscsi.ts';

const NORMAL = 2;
const DISCOVERY = 1;
const CRC32C_OR_NONE = 1;
/** Longest that a command may take, in seconds. */
const PATIENCE_S = 15;
/** Offsets in `struct scsi_task`. */
const TASK = { status: 0, residual: 32, senseKey: 52, size: 64, data: 72, bytes: 80 };
const GOOD = 0;
const UNIT_ATTENTION = 6;
const ILLEGAL_REQUEST = 5;
/** What is reported once after a login or a change of the target, however often it is. */
const ATTENTIONS = 8;

/** A target that refuses a command. */
export class ScsiError extends StowageError {
  readonly #senseKey: number;

  constructor(senseKey: number, message: string) {
    super('io-error', message);
    this.#senseKey = senseKey;
  }

  /** The command is unknown there, or has a part that is. */
  get isUnsupported(): boolean {
    return this.#senseKey === ILLEGAL_REQUEST;
  }

  /** Something about the unit is new: it was reset, or another one is in its place. */
  get isAttention(): boolean {
    return this.#senseKey === UNIT_ATTENTION;
  }
}

export interface Login {
  user: string;
  password: string;
}

const REFUSED = 'refuses the login';

interface CommandOptions {
  /** That something about the unit is new is passed over so often. */
  attentions?: number;
  /** It is an error where fewer bytes were moved than were asked for. */
  whole?: boolean;
}

/** A session with one target. Commands go one after the other: the library is for one thread. */
export class Session implements AsyncDisposable {
  readonly #context: bigint;
  readonly #what: string;
  #last: Promise<unknown> = Promise.resolve();
  /** Why nothing can be asked of it any more. */
  #lost: StowageError | undefined;
  #ended = false;

  private constructor(context: bigint, what: string) {
    this.#context = context;
    this.#what = what;
  }

  static async #connect(
    portal: string,
    initiator: string,
    target: string | undefined,
    login: Login | undefined,
  ): Promise<Session> {
    const library = libiscsi();
    const context = library.create(initiator);
    if (!context) throw new StowageError('io-error', 'iscsi: no memory for a session');
    const session = new Session(context, `${portal}${target ? ` (${target})` : ''}`);
    try {
      library.setSessionType(context, target === undefined ? DISCOVERY : NORMAL);
      if (target !== undefined) library.setTarget(context, target);
      library.setDigest(context, CRC32C_OR_NONE);
      library.setTimeout(context, PATIENCE_S);
      // A session that came back by itself would hide that the target was another one meanwhile.
      library.noReconnect(context, 1);
      if (login) library.setLogin(context, login.user, login.password);
      for (const [call, what] of [
        [() => library.connect(context, portal), 'does not answer'],
        [() => library.login(context), REFUSED],
      ] as const)
        if ((await call()) !== 0)
          throw new StowageError(
            login && what === REFUSED ? 'secret-refused' : 'pool-inaccessible',
            `iscsi: ${session.#what} ${what}: ${session.#words()}`,
          );
      return session;
    } catch (error) {
      library.destroy(context);
      throw error;
    }
  }

  /** Throws `pool-inaccessible`. */
  static open(portal: string, initiator: string, target: string, login?: Login): Promise<Session> {
    return Session.#connect(portal, initiator, target, login);
  }

  /** The names of the targets that a portal has. Throws `pool-inaccessible`. */
  static async discover(portal: string, initiator: string, login?: Login): Promise<string[]> {
    await using session = await Session.#connect(portal, initiator, undefined, login);
    const { discover, freeDiscovery } = libiscsi();
    const first = await discover(session.#context);
    if (!first) {
      const words = libiscsi().error(session.#context);
      if (words) throw new StowageError('pool-inaccessible', `iscsi: ${portal} tells no targets: ${words}`);
      return [];
    }
    const names: string[] = [];
    // A chain: the next one, and the name.
    for (let at = first; at !== 0n; ) {
      const entry = bytesAt(at, 16);
      names.push(textAt(entry, 8));
      at = entry.readBigUInt64LE();
    }
    freeDiscovery(session.#context, first);
    return names;
  }

  #words(): string {
    return libiscsi().error(this.#context)?.trim() || 'no reason given';
  }

  /** Whether the session can still be used. */
  get isUsable(): boolean {
    return this.#lost === undefined;
  }

  /** Ends the use of the session. */
  #lose(what: string): StowageError {
    this.#lost = new StowageError('pool-inaccessible', `iscsi: ${this.#what}: ${what}: ${this.#words()}`);
    return this.#lost;
  }

  /**
   * Runs one command after those before. Gives what it read. Throws {@link ScsiError}, or `pool-inaccessible` where nobody answers.
   */
  command(
    what: string,
    call: (library: ReturnType<typeof libiscsi>, context: bigint) => Promise<bigint | null>,
    { attentions = ATTENTIONS, whole = false }: CommandOptions = {},
  ): Promise<Buffer> {
    const run = async (): Promise<Buffer> => {
      for (let attempt = 0; ; attempt++) {
        if (this.#lost) throw this.#lost;
        const task = await call(libiscsi(), this.#context);
        if (!task) throw this.#lose(what);
        try {
          const head = bytesAt(task, TASK.bytes);
          const status = head.readInt32LE(TASK.status);
          // No status of SCSI: the session was cut, or nobody answered in time.
          if (status > 0xff) throw this.#lose(what);
          if (status === GOOD) {
            if (whole && head.readInt32LE(TASK.residual) !== 0)
              throw new StowageError(
                'io-error',
                `iscsi: ${this.#what}: ${what}: the target moved fewer bytes`,
              );
            return bytesAt(head.readBigUInt64LE(TASK.data), head.readInt32LE(TASK.size));
          }
          const senseKey = head.readInt32LE(TASK.senseKey);
          if (senseKey !== UNIT_ATTENTION || attempt >= attentions)
            throw new ScsiError(senseKey, `iscsi: ${this.#what}: ${what}: ${this.#words()}`);
        } finally {
          libiscsi().freeTask(task);
        }
      }
    };
    const result = this.#last.then(run, run);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Reads whole blocks of a unit into memory of ours. An attention is an error. */
  async read(lun: number, block: number, blockBytes: number, bytes: Uint8Array): Promise<void> {
    const target = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const vector = Buffer.alloc(16);
    writeAddress(vector, 0, target);
    vector.writeBigUInt64LE(BigInt(target.length), 8);
    await this.command(
      'reading',
      (library, context) =>
        library.read(context, lun, block, target.length, blockBytes, 0, 0, 0, 0, 0, vector, 1),
      { attentions: 0, whole: true },
    );
  }

  /** Writes whole blocks of a unit. An attention is an error. */
  async write(lun: number, block: number, blockBytes: number, bytes: Uint8Array): Promise<void> {
    await this.command(
      'writing',
      (library, context) =>
        library.write(context, lun, block, bytes, bytes.length, blockBytes, 0, 0, 0, 0, 0),
      { attentions: 0, whole: true },
    );
  }

  /** After the commands before. Repeatable. */
  async [Symbol.asyncDispose](): Promise<void> {
    const end = async (): Promise<void> => {
      if (this.#ended) return;
      this.#ended = true;
      const { logout, destroy } = libiscsi();
      if (!this.#lost) await logout(this.#context);
      this.#lost ??= new StowageError('pool-inactive', 'the session has ended');
      destroy(this.#context);
    };
    const ended = this.#last.then(end, end);
    this.#last = ended.catch(() => undefined);
    await ended;
  }
}
