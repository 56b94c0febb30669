import type { VolumeFormat } from '../../../shared/conf/volume.ts';

/** Where the volumes of a pool of files lie below its directory. */
export interface Layout {
  /** The place of a volume of a name; undefined for a name that no volume can have. */
  placeOf(name: string): string | undefined;
  /** The name of the volume at a place: `placeOf` of it is that place. undefined where no volume lies. */
  nameAt(place: string): string | undefined;
  /** The directories that volumes lie in now, '' for that of the pool. Throws where that cannot be told. */
  directories(pool: string): Promise<string[]>;
  /** Whether what lies at a place belongs there and is no volume, such as the directory of a container. Absent: nothing does. */
  isOthers?(place: string): boolean;
  /** The format that a name says; whatever the bytes look like, the volume has it. */
  formatOf?(name: string): VolumeFormat | undefined;
}

/** All volumes side by side, each under its name. */
export const FLAT: Layout = {
  placeOf: (name) => name,
  nameAt: (place) => (place.startsWith('.') || place.includes('/') ? undefined : place),
  directories: async () => [''],
};
