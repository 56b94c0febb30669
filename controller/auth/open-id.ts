import * as client from 'openid-client';
import { z } from 'zod';
import { ROLES, type Role } from '../../shared/protocol/rights.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { principalNameSchema } from '../../shared/util/names.ts';
import { isLoopback } from './network.ts';

/** An OpenID Connect provider by which people sign in. */
export interface OpenIdOptions {
  issuer: string;
  clientId: string;
  clientSecret: string;
  /** Which of the groups that the provider names give which role; the highest counts. */
  groups: Record<Role, readonly string[]>;
}

/** What is kept by the browser between the two halves of signing in. */
export const openIdStateSchema = z.object({ state: z.string(), nonce: z.string(), verifier: z.string() });
export type OpenIdState = z.infer<typeof openIdStateSchema>;

/** Whom the provider names. */
export interface ProvenIdentity {
  /** `ISSUER SUBJECT`: theirs for ever. */
  subject: string;
  name: string;
  role: Role;
}

/** A claim may be one group, or a list of them. */
const claimsSchema = z.object({
  sub: z.string().min(1).max(255),
  preferred_username: principalNameSchema.optional(),
  email: z.string().max(320).optional(),
  groups: z.union([z.array(z.string()), z.string().transform((group) => [group])]).default([]),
});

const SCOPE = 'openid profile email groups';

/** Whether the provider has not answered at all, or only that it cannot now: nobody was refused. */
const isOutage = (error: Error & { code?: unknown; cause?: unknown }): boolean =>
  error instanceof TypeError ||
  error.code === 'OAUTH_TIMEOUT' ||
  (error.cause instanceof Response && error.cause.status >= 500);

/** The authorization code flow with PKCE. Everything is checked by openid-client; the provider says who it is, the groups what they may do. */
export class OpenId {
  readonly #options: OpenIdOptions;
  #found: Promise<client.Configuration> | undefined;

  constructor(options: OpenIdOptions) {
    this.#options = options;
  }

  /** Asks the provider about itself, once; after an error again. */
  #provider(): Promise<client.Configuration> {
    const { issuer, clientId, clientSecret } = this.#options;
    const url = new URL(issuer);
    this.#found ??= client
      .discovery(url, clientId, clientSecret, undefined, {
        timeout: 10,
        // Only a provider on the same machine is spoken to without TLS.
        execute: isLoopback(url.hostname) ? [client.allowInsecureRequests] : [],
      })
      .catch((error: Error) => {
        this.#found = undefined;
        throw new StowageError(
          'provider-unreachable',
          `the OpenID provider does not answer: ${error.message}`,
        );
      });
    return this.#found;
  }

  /** Where the browser goes, and what it keeps until it comes back. */
  async begin(redirectUri: string): Promise<{ url: URL; kept: OpenIdState }> {
    const provider = await this.#provider();
    const kept = {
      state: client.randomState(),
      nonce: client.randomNonce(),
      verifier: client.randomPKCECodeVerifier(),
    };
    const url = client.buildAuthorizationUrl(provider, {
      ...{ redirect_uri: redirectUri, scope: SCOPE, state: kept.state, nonce: kept.nonce },
      code_challenge: await client.calculatePKCECodeChallenge(kept.verifier),
      code_challenge_method: 'S256',
    });
    return { url, kept };
  }

  /** Who has come back to a URL. Throws `sign-in-refused` for what the provider does not vouch for, and for whoever has no role here; `provider-unreachable`. */
  async finish(current: URL, { state, nonce, verifier }: OpenIdState): Promise<ProvenIdentity> {
    const provider = await this.#provider();
    const checks = {
      expectedState: state,
      expectedNonce: nonce,
      pkceCodeVerifier: verifier,
      idTokenExpected: true,
    };
    const told = await client.authorizationCodeGrant(provider, current, checks).catch((error: Error) => {
      throw new StowageError(
        isOutage(error) ? 'provider-unreachable' : 'sign-in-refused',
        `the OpenID provider does not vouch for you: ${error.message}`,
      );
    });
    const { data } = claimsSchema.safeParse(told.claims());
    const name = data?.preferred_username ?? data?.email;
    if (!data || name === undefined || !principalNameSchema.safeParse(name).success)
      throw new StowageError(
        'sign-in-refused',
        'the OpenID provider names nobody by preferred_username or email',
      );
    const { groups } = this.#options;
    const role = ROLES.findLast((each) => groups[each].some((group) => data.groups.includes(group)));
    if (role === undefined)
      throw new StowageError('sign-in-refused', `'${name}' is in no group that has a role here`);
    return { subject: `${provider.serverMetadata().issuer} ${data.sub}`, name, role };
  }
}
