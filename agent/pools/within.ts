import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** Settles as `work` does, or throws `pool-inaccessible` when that takes too long. */
export async function within<T>(ms: number, work: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = clock.after(ms, () =>
    reject(new StowageError('pool-inaccessible', `${what}: its storage has not answered for ${ms / 1000} s`)),
  );
  work.catch(() => undefined);
  try {
    return await Promise.race([work, promise]);
  } finally {
    timer.stop();
  }
}
