// Apart from the schemas, whose library the page does not carry.

/** `queued`: its turn has not come. `waiting`: something is away that will come back. */
export const JOB_STATES = ['queued', 'running', 'waiting', 'paused', 'done', 'failed', 'cancelled'] as const;

export const ENDED_STATES: readonly (typeof JOB_STATES)[number][] = ['done', 'failed', 'cancelled'];

/** As libvirt's `<usage type='…'>`. */
export const SECRET_KINDS = ['iscsi', 'ceph', 'volume'] as const;

/** What images of guests are, as Proxmox VE has it. */
export const IMAGE_CONTENTS = ['images', 'rootdir', 'iso', 'vztmpl', 'backup', 'snippets', 'import'] as const;

/** What is done to a device of a domain. */
export const DEVICE_CHANGES = ['attach-device', 'detach-device', 'update-device'] as const;
export type DeviceChange = (typeof DEVICE_CHANGES)[number];

/** By what a table of volumes is sorted. */
export const VOLUME_ORDERS = ['place', 'name', 'capacityBytes', 'allocationBytes', 'modifiedAt'] as const;
export type VolumeOrder = (typeof VOLUME_ORDERS)[number];

/** What wants attention. */
export const ATTENTION_KINDS = [
  'host-unreachable',
  'pool-down',
  'pool-filling',
  'pool-leftovers',
  'job-failed',
  'job-waiting',
  'trail-not-forwarded',
  'trail-not-witnessed',
  'trail-not-archived',
  'trail-disputed',
  /** Nothing: somebody tries whether messages arrive. */
  'trial',
] as const;
export const ATTENTION_SEVERITIES = ['warning', 'critical'] as const;
export type AttentionSeverity = (typeof ATTENTION_SEVERITIES)[number];

export const AUDIT_OUTCOMES = ['begun', 'done', 'failed', 'refused'] as const;
