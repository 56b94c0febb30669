import { isIP } from 'node:net';
import {
  type AuthenticationResponseJSON,
  type AuthenticatorTransport,
  generateAuthenticationOptions,
  generateRegistrationOptions,
  type RegistrationResponseJSON,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from '@simplewebauthn/server';
import { z } from 'zod';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Sealing } from '../secrets/sealing.ts';
import type { StoredPasskey } from '../store/repositories/second-factors.ts';
import type { StoredUser } from '../store/repositories/users.ts';

const CHALLENGE_MS = 300_000;
const CHALLENGE_BYTES = 32;
const LABEL = 'passkey';
const base64url = z
  .string()
  .regex(/^[A-Za-z0-9_-]+$/)
  .max(8192);

/** Longer ids do not fit into a path. */
const idSchema = base64url.max(1000);
const common = {
  id: idSchema,
  rawId: idSchema,
  type: z.literal('public-key'),
  clientExtensionResults: z.looseObject({}),
  authenticatorAttachment: z.enum(['cross-platform', 'platform']).optional(),
};

/** What a browser answers when a passkey is made, as `PublicKeyCredential.toJSON()` has it. */
export const registrationSchema = z.object({
  ...common,
  response: z.object({
    clientDataJSON: base64url,
    attestationObject: base64url,
    transports: z.array(z.string().max(20)).max(10).default([]),
  }),
});
export type Registration = z.infer<typeof registrationSchema>;

/** What it answers when one signs. */
export const assertionSchema = z.object({
  ...common,
  response: z.object({
    clientDataJSON: base64url,
    authenticatorData: base64url,
    signature: base64url,
    userHandle: base64url.optional(),
  }),
});
export type Assertion = z.infer<typeof assertionSchema>;

/** What a browser is asked, and what it gives back unopened with its answer. */
export const askedSchema = z.object({ options: z.record(z.string(), z.unknown()), state: z.string() });
export type Asked = z.infer<typeof askedSchema>;

const stateSchema = z.object({
  challenge: z.string(),
  user: z.string().optional(),
  /** Ms since the epoch. */
  askedAt: z.number(),
});

const refused = (why: string): StowageError => new StowageError('sign-in-refused', why);

/** Whose passkeys they are: the host of an origin. Throws `not-supported` for an address, as browsers do. */
function relyingParty(origin: string): { rpID: string; origin: string } {
  const hostname = URL.canParse(origin) ? new URL(origin).hostname : '';
  if (hostname === '' || isIP(hostname.replace(/^\[|\]$/g, '')))
    throw new StowageError(
      'not-supported',
      'passkeys are for a name: open this page under a name, not an address',
    );
  return { rpID: hostname, origin };
}

/** Passkeys by WebAuthn: what browsers are asked, and whether what they answer is right. Each question is answered once. */
export class Passkeys {
  readonly #sealing: Sealing;
  /** What was asked before may have been answered already. */
  readonly #startedAt = clock.now();
  /** Challenges that were answered, and when they would have ended. */
  readonly #answered = new Map<string, number>();

  constructor(sealing: Sealing) {
    this.#sealing = sealing;
  }

  /** For a new passkey of a user. */
  async askToRegister(user: StoredUser, known: readonly StoredPasskey[], origin: string): Promise<Asked> {
    const { rpID } = relyingParty(origin);
    const options = await generateRegistrationOptions({
      rpID,
      rpName: 'Stowage',
      userName: user.name,
      userID: Buffer.from(user.id),
      challenge: new Uint8Array(clock.randomBytes(CHALLENGE_BYTES)),
      attestationType: 'none',
      excludeCredentials: known.map(({ id, transports }) => ({ id, transports: asTransports(transports) })),
      authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
    });
    return this.#asked(options, user.id);
  }

  /** For whoever signs in; nobody says yet who that is. */
  async askToSignIn(origin: string): Promise<Asked> {
    const { rpID } = relyingParty(origin);
    return this.#asked(
      await generateAuthenticationOptions({
        rpID,
        userVerification: 'required',
        challenge: new Uint8Array(clock.randomBytes(CHALLENGE_BYTES)),
      }),
    );
  }

  /** The passkey that a browser has made. Throws `sign-in-refused`. */
  async registered(
    user: StoredUser,
    { name, state, response }: { name: string; state: string; response: Registration },
    origin: string,
  ): Promise<StoredPasskey> {
    const site = relyingParty(origin);
    const challenge = this.#take(state, user.id);
    const { registrationInfo } = await verifyRegistrationResponse({
      response: response as RegistrationResponseJSON,
      expectedChallenge: challenge,
      expectedOrigin: site.origin,
      expectedRPID: site.rpID,
      requireUserVerification: true,
    }).catch(refuse);
    if (!registrationInfo) throw refused('the passkey does not fit');
    const { id, publicKey, counter } = registrationInfo.credential;
    return {
      ...{ id, counter, name, userId: user.id, createdAt: clock.now() },
      publicKey: Buffer.from(publicKey).toString('base64url'),
      transports: response.response.transports,
    };
  }

  /** The counter of a passkey after it has signed. Throws `sign-in-refused`. */
  async signed(
    passkey: StoredPasskey,
    { state, response }: { state: string; response: Assertion },
    origin: string,
  ): Promise<number> {
    const site = relyingParty(origin);
    const challenge = this.#take(state, undefined);
    const { userHandle } = response.response;
    if (userHandle !== undefined && Buffer.from(userHandle, 'base64url').toString() !== passkey.userId)
      throw refused('the passkey is of somebody else');
    const { verified, authenticationInfo } = await verifyAuthenticationResponse({
      response: response as AuthenticationResponseJSON,
      expectedChallenge: challenge,
      expectedOrigin: site.origin,
      expectedRPID: site.rpID,
      requireUserVerification: true,
      credential: {
        id: passkey.id,
        publicKey: Buffer.from(passkey.publicKey, 'base64url'),
        counter: passkey.counter,
        transports: asTransports(passkey.transports),
      },
    }).catch(refuse);
    if (!verified) throw refused('the passkey does not fit');
    return authenticationInfo.newCounter;
  }

  #asked(options: { challenge: string }, user?: string): Asked {
    const state = { challenge: options.challenge, user, askedAt: clock.now() };
    return { options: { ...options }, state: this.#sealing.seal(JSON.stringify(state), LABEL) };
  }

  /** The challenge of a question to a user, which counts as answered from now on. */
  #take(sealed: string, user: string | undefined): string {
    const now = clock.now();
    for (const [challenge, expiresAt] of this.#answered)
      if (expiresAt <= now) this.#answered.delete(challenge);
    const state = this.#opened(sealed);
    const isLate = !state || state.askedAt + CHALLENGE_MS <= now || state.askedAt < this.#startedAt;
    if (isLate || state.user !== user || this.#answered.has(state.challenge))
      throw refused('this was asked for too long ago, or is answered: try again');
    this.#answered.set(state.challenge, state.askedAt + CHALLENGE_MS);
    return state.challenge;
  }

  #opened(sealed: string): z.infer<typeof stateSchema> | undefined {
    try {
      return stateSchema.parse(JSON.parse(this.#sealing.open(sealed, LABEL)));
    } catch {
      return undefined;
    }
  }
}

const asTransports = (transports: readonly string[]) => transports as AuthenticatorTransport[];

/** What exactly does not fit is not told to whoever is not signed in. */
function refuse(error: Error): never {
  throw new StowageError('sign-in-refused', 'the passkey does not fit', { cause: error });
}
