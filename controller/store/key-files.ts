/** Files of the data directory, beside the store, that are made once. By the first the audit trail is signed. */
export const AUDIT_KEY = 'audit-key.pem';
/** By it agents that dial in know the controller. */
export const LINK_KEY = 'link-key.pem';
/** By it secrets are sealed. */
export const SECRETS_KEY = 'secrets-key';
