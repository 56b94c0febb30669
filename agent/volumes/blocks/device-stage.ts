import type { Image } from '../../images/image.ts';
import { RecordedStage } from '../recorded-stage.ts';

/** A stage whose bytes arrive in one device. */
export abstract class DeviceStage extends RecordedStage implements AsyncDisposable {
  #image: Promise<Image> | undefined;

  /** For writing. */
  protected abstract openImage(): Promise<Image>;

  /** Opened once. */
  protected async image(): Promise<Image> {
    this.record.requireOpen();
    this.#image ??= this.openImage().catch((error) => {
      this.#image = undefined;
      throw error;
    });
    return this.#image;
  }

  async images(): Promise<readonly Image[]> {
    return [await this.image()];
  }

  protected async closeImage(): Promise<void> {
    const image = await this.#image?.catch(() => undefined);
    this.#image = undefined;
    await image?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeImage();
    await this.record[Symbol.asyncDispose]();
  }
}
