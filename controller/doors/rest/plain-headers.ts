/** What helmet says of answers that are no document, for those that pass none of Fastify's hooks. */
export const PLAIN_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'x-content-type-options': 'nosniff',
} as const;
