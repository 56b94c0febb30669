import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';

const encode = encodeURIComponent;

export interface PoolReference {
  host: string;
  pool: string;
}
export interface VolumeReference extends PoolReference {
  volume: string;
}

export function poolReference(text: string): PoolReference {
  const [host, pool, more] = splitReference(text);
  if (!host || !pool || more) throw new StowageError('invalid-argument', `'${text}' is not HOST/POOL`);
  return { host, pool };
}

export function volumeReference(text: string): VolumeReference {
  const [host, pool, volume] = splitReference(text);
  if (!host || !pool || !volume)
    throw new StowageError('invalid-argument', `'${text}' is not HOST/POOL/VOLUME`);
  return { host, pool, volume };
}

export const hostPath = (host: string): string => `/hosts/${encode(host)}`;
export const poolPath = ({ host, pool }: PoolReference): string => `${hostPath(host)}/pools/${encode(pool)}`;
export const volumePath = (reference: VolumeReference): string =>
  `${poolPath(reference)}/volumes/${encode(reference.volume)}`;
