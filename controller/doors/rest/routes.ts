import { DEVICE_CHANGES } from '../../../shared/protocol/lists.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Where an action is in the REST API. What its path names, and what stands in its query or its body, is its input. */
export interface Route {
  method: Method;
  path: string;
  action: string;
  /** Of an answer that is a document; 200 unless said otherwise. */
  status?: 200 | 201 | 202;
  /** The action that answers to those who ask for libvirt's document. */
  xml?: string;
  /** It may be called without a token. */
  isPublic?: boolean;
}

const host = '/api/v1/hosts/:host';
const pool = `${host}/pools/:pool`;
const volume = `${pool}/volumes/:volume`;
const domain = `${host}/domains/:domain`;
const job = '/api/v1/jobs/:job';

/** The bytes of volumes, which HTTP knows how to send in parts, have routes of their own beside these. */
export const ROUTES: readonly Route[] = [
  { method: 'GET', path: '/api/v1/actions', action: 'action.list' },
  { method: 'GET', path: '/api/v1/fleet', action: 'fleet.show' },

  { method: 'GET', path: '/api/v1/fleet/history', action: 'fleet.history' },
  { method: 'GET', path: '/api/v1/fleet/attention', action: 'fleet.attention' },
  { method: 'GET', path: '/metrics', action: 'metrics.read' },

  { method: 'GET', path: '/api/v1/hosts', action: 'host.list' },
  { method: 'POST', path: '/api/v1/hosts', action: 'host.add', status: 201 },
  { method: 'GET', path: host, action: 'host.show' },
  { method: 'DELETE', path: host, action: 'host.remove' },
  { method: 'POST', path: `${host}/labels`, action: 'host.label' },
  { method: 'GET', path: `${host}/doctor`, action: 'host.doctor' },
  { method: 'GET', path: `${host}/devices`, action: 'host.devices' },
  { method: 'POST', path: `${host}/enrolment`, action: 'host.invite', status: 201 },
  { method: 'GET', path: '/api/v1/agent', action: 'agent.list' },
  // The same for everybody, and fetched by a host that has no token yet.
  { method: 'GET', path: '/api/v1/agent/:file', action: 'agent.download', isPublic: true },

  { method: 'GET', path: '/api/v1/pools', action: 'pool.list' },
  { method: 'POST', path: `${host}/pools`, action: 'pool.create', status: 201 },
  { method: 'GET', path: pool, action: 'pool.show', xml: 'pool.dumpxml' },
  { method: 'PUT', path: pool, action: 'pool.redefine' },
  { method: 'DELETE', path: pool, action: 'pool.delete' },
  { method: 'PUT', path: `${pool}/limits`, action: 'pool.limit' },
  { method: 'GET', path: `${pool}/forecast`, action: 'pool.forecast' },
  { method: 'GET', path: `${pool}/history`, action: 'pool.history' },
  { method: 'GET', path: `${pool}/locks`, action: 'pool.locks' },
  { method: 'GET', path: `${pool}/orphans`, action: 'pool.orphans' },
  { method: 'POST', path: `${pool}/build`, action: 'pool.build' },
  { method: 'POST', path: `${pool}/start`, action: 'pool.start' },
  { method: 'POST', path: `${pool}/stop`, action: 'pool.stop' },
  { method: 'POST', path: `${pool}/refresh`, action: 'pool.refresh' },
  { method: 'GET', path: `${host}/pool-capabilities`, action: 'pool.capabilities' },
  { method: 'GET', path: `${host}/pool-sources/:type`, action: 'pool.find-sources' },

  { method: 'GET', path: '/api/v1/volumes', action: 'volume.list' },
  { method: 'GET', path: '/api/v1/volume-rows', action: 'volume.rows' },
  { method: 'POST', path: `${pool}/volumes`, action: 'volume.create', status: 201 },
  { method: 'GET', path: volume, action: 'volume.show', xml: 'volume.dumpxml' },
  { method: 'GET', path: `${volume}/blockdev`, action: 'volume.blockdev' },
  { method: 'DELETE', path: volume, action: 'volume.delete' },
  { method: 'POST', path: `${volume}/trash`, action: 'volume.trash' },
  { method: 'POST', path: `${volume}/free`, action: 'volume.free', status: 202 },
  { method: 'GET', path: `${pool}/trash`, action: 'trash.list' },
  { method: 'POST', path: `${pool}/trash/:id/restore`, action: 'trash.restore' },
  { method: 'DELETE', path: `${pool}/trash/:id`, action: 'trash.purge' },
  { method: 'POST', path: `${pool}/trash/:id/free`, action: 'trash.free', status: 202 },
  { method: 'POST', path: `${volume}/resize`, action: 'volume.resize' },
  { method: 'POST', path: `${volume}/rename`, action: 'volume.rename' },
  { method: 'PUT', path: `${volume}/base`, action: 'volume.set-base' },
  { method: 'PATCH', path: `${volume}/attributes`, action: 'volume.set-attributes' },
  { method: 'PUT', path: `${volume}/secret`, action: 'volume.set-secret' },
  { method: 'POST', path: `${volume}/check`, action: 'volume.check' },
  { method: 'POST', path: `${volume}/repair`, action: 'volume.repair' },
  { method: 'POST', path: `${volume}/wipe`, action: 'volume.wipe', status: 202 },
  { method: 'POST', path: `${volume}/clone`, action: 'volume.clone', status: 202 },
  { method: 'POST', path: `${volume}/migrate/check`, action: 'volume.check-migration' },
  { method: 'POST', path: `${volume}/migrate`, action: 'volume.migrate', status: 202 },
  { method: 'GET', path: '/api/v1/images', action: 'image.list' },
  { method: 'POST', path: `${pool}/images`, action: 'image.allocate', status: 201 },
  { method: 'DELETE', path: `${pool}/images/:volume`, action: 'image.free' },
  { method: 'POST', path: `${pool}/images/:volume/base`, action: 'image.create-base', status: 202 },
  { method: 'POST', path: `${pool}/images/:volume/copies`, action: 'image.copy-base' },
  { method: 'POST', path: `${pool}/images/:volume/assign`, action: 'image.assign' },
  { method: 'POST', path: `${pool}/images/:volume/clone`, action: 'image.clone', status: 201 },
  { method: 'POST', path: `${volume}/map`, action: 'volume.map' },
  { method: 'DELETE', path: `${volume}/map`, action: 'volume.unmap' },
  { method: 'GET', path: `${volume}/snapshots`, action: 'snapshot.list' },
  { method: 'POST', path: `${volume}/snapshots`, action: 'snapshot.create', status: 201 },
  { method: 'DELETE', path: `${volume}/snapshots/:snapshot`, action: 'snapshot.delete' },
  { method: 'PATCH', path: `${volume}/snapshots/:snapshot`, action: 'snapshot.rename' },
  { method: 'POST', path: `${volume}/snapshots/:snapshot/switch`, action: 'snapshot.switch' },

  { method: 'GET', path: `${volume}/extents`, action: 'volume.download-extents' },
  { method: 'GET', path: `${volume}/layout`, action: 'volume.layout' },
  { method: 'GET', path: `${volume}/stream`, action: 'volume.send-stream' },
  { method: 'PUT', path: `${volume}/stream`, action: 'volume.receive-stream', status: 201 },
  { method: 'POST', path: `${volume}/download-direct`, action: 'volume.download-direct' },
  { method: 'POST', path: `${volume}/upload/direct`, action: 'volume.upload-direct' },
  { method: 'POST', path: `${volume}/upload`, action: 'volume.upload', status: 201 },
  { method: 'DELETE', path: `${volume}/upload`, action: 'volume.upload-cancel' },
  { method: 'GET', path: `${volume}/upload/digests`, action: 'upload.digests' },
  { method: 'PUT', path: `${volume}/upload/extents`, action: 'volume.upload-extents' },
  { method: 'POST', path: `${volume}/upload/commit`, action: 'volume.upload-commit' },

  { method: 'GET', path: '/api/v1/domains', action: 'domain.list' },
  { method: 'POST', path: `${host}/domains`, action: 'domain.define', status: 201 },
  { method: 'GET', path: domain, action: 'domain.dumpxml' },
  { method: 'GET', path: `${domain}/with-secrets`, action: 'domain.read-secrets' },
  { method: 'DELETE', path: domain, action: 'domain.undefine' },
  { method: 'POST', path: `${domain}/start`, action: 'domain.start' },
  { method: 'POST', path: `${domain}/destroy`, action: 'domain.destroy' },
  ...DEVICE_CHANGES.map(
    (change): Route => ({
      method: 'POST',
      path: `${domain}/${change}`,
      action: `domain.${change}`,
    }),
  ),

  { method: 'GET', path: '/api/v1/jobs', action: 'job.list' },
  { method: 'GET', path: job, action: 'job.show' },
  { method: 'POST', path: `${job}/cancel`, action: 'job.cancel' },
  { method: 'POST', path: `${job}/pause`, action: 'job.pause' },
  { method: 'POST', path: `${job}/resume`, action: 'job.resume' },
  { method: 'POST', path: `${job}/retry`, action: 'job.retry', status: 202 },
  { method: 'POST', path: `${job}/dismiss`, action: 'job.dismiss' },

  { method: 'GET', path: '/api/v1/audit', action: 'audit.list' },
  { method: 'GET', path: '/api/v1/audit/verify', action: 'audit.verify' },
  { method: 'GET', path: '/api/v1/audit/witnesses', action: 'audit.witnesses' },
  { method: 'GET', path: '/api/v1/audit/export', action: 'audit.export' },

  { method: 'GET', path: '/api/v1/secrets', action: 'secret.list' },
  { method: 'POST', path: '/api/v1/secrets', action: 'secret.define', status: 201 },
  { method: 'DELETE', path: '/api/v1/secrets/:secret', action: 'secret.delete' },

  { method: 'GET', path: '/api/v1/tokens', action: 'token.list' },
  { method: 'POST', path: '/api/v1/tokens', action: 'token.create', status: 201 },
  { method: 'DELETE', path: '/api/v1/tokens/:token', action: 'token.revoke' },

  { method: 'GET', path: '/api/v1/users', action: 'user.list' },
  { method: 'POST', path: '/api/v1/users', action: 'user.invite', status: 201 },
  { method: 'GET', path: '/api/v1/open-invitations', action: 'user.list-invitations' },
  { method: 'DELETE', path: '/api/v1/open-invitations/:user', action: 'user.withdraw' },
  { method: 'POST', path: '/api/v1/users/:user/reset', action: 'user.reset', status: 201 },
  { method: 'PATCH', path: '/api/v1/users/:user', action: 'user.set' },
  { method: 'DELETE', path: '/api/v1/users/:user', action: 'user.remove' },

  { method: 'GET', path: '/api/v1/account', action: 'account.show' },
  { method: 'PUT', path: '/api/v1/account/password', action: 'account.set-password' },
  { method: 'POST', path: '/api/v1/account/second-factor', action: 'account.new-second-factor' },
  { method: 'PUT', path: '/api/v1/account/second-factor', action: 'account.set-second-factor' },
  { method: 'POST', path: '/api/v1/account/second-factor/remove', action: 'account.remove-second-factor' },
  { method: 'POST', path: '/api/v1/account/passkeys/ask', action: 'account.new-passkey' },
  { method: 'POST', path: '/api/v1/account/passkeys', action: 'account.add-passkey' },
  { method: 'POST', path: '/api/v1/account/passkeys/:passkey/remove', action: 'account.remove-passkey' },
  { method: 'POST', path: '/api/v1/account/recovery-codes', action: 'account.new-recovery-codes' },
  { method: 'GET', path: '/api/v1/account/sessions', action: 'account.list-sessions' },
  { method: 'DELETE', path: '/api/v1/account/sessions/:session', action: 'account.end-session' },
];
