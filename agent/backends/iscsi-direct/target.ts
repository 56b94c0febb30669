import { StowageError } from '../../../shared/util/errors.ts';
import type { Image } from '../../images/image.ts';
import type { Device, DeviceMode, DeviceStorage } from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { Lun, type LunFacts, unitsOf } from './lun.ts';
import { type Login, Session } from './session.ts';

export interface TargetAddress {
  /** HOST:PORT */
  portal: string;
  iqn: string;
  initiator: string;
  /** Asked for at each login. */
  login?(): Login;
}

/** The units of one iSCSI target, reached without the kernel of this host. They are made on the target. */
export class Target implements DeviceStorage {
  readonly type = 'network';
  readonly name: string;
  readonly #address: TargetAddress;
  #session: Promise<Session> | undefined;

  constructor(address: TargetAddress) {
    this.name = address.iqn;
    this.#address = address;
  }

  /** All who come while one connects get the same session. */
  async #connected(): Promise<Session> {
    const before = this.#session;
    const session = await before?.catch(() => undefined);
    if (session?.isUsable) return session;
    if (this.#session === before) {
      const { portal, initiator, iqn, login } = this.#address;
      this.#session = Session.open(portal, initiator, iqn, login?.());
      this.#session.catch(() => undefined);
      await session?.[Symbol.asyncDispose]();
    }
    // It was let go of meanwhile.
    if (!this.#session) throw new StowageError('pool-inactive', `the session with ${this.name} was ended`);
    return this.#session;
  }

  async attach(): Promise<void> {
    await this.#connected();
  }

  async detach(): Promise<void> {
    const session = await this.#session?.catch(() => undefined);
    this.#session = undefined;
    await session?.[Symbol.asyncDispose]();
  }

  async space(): Promise<Space & { id: string }> {
    const units = await unitsOf(await this.#connected());
    const capacityBytes = units.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    // A name of iSCSI is one in the world.
    return { id: this.#address.iqn, capacityBytes, allocationBytes: capacityBytes, availableBytes: 0 };
  }

  async devices(name?: string): Promise<Device[]> {
    const units = await unitsOf(await this.#connected());
    return units.map((unit) => this.#device(unit)).filter((device) => (name ?? device.name) === device.name);
  }

  /** Named as libvirt names it. */
  #device({ lun, uid, sizeBytes, damaged }: LunFacts): Device {
    const { portal, iqn } = this.#address;
    return {
      name: `unit:0:0:${lun}`,
      uid,
      path: `ip-${portal}-iscsi-${iqn}-lun-${lun}`,
      // A target does not tell what was written to it.
      mark: String(sizeBytes),
      sizeBytes,
      allocationBytes: sizeBytes,
      open: false,
      damaged,
      dependants: [],
    };
  }

  async open(device: Device, _mode: DeviceMode): Promise<Image> {
    const session = await this.#connected();
    const facts = (await unitsOf(session)).find(({ uid }) => uid === device.uid);
    if (!facts) throw new StowageError('volume-not-found', `the target has no '${device.name}' any more`);
    return new Lun(session, facts);
  }
}
