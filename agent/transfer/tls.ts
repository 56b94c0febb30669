/** TLS between two agents, the cheapest suite first: AES-128 is as far beyond reach as AES-256 and costs less. */
export const TLS = {
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
} as const;
