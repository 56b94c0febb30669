import type { Image } from '../images/image.ts';
import type { StageRecord } from './stage-record.ts';

/** What a stage tells out of its record. */
export abstract class RecordedStage {
  protected readonly record: StageRecord;

  constructor(record: StageRecord) {
    this.record = record;
  }

  get id(): string {
    return this.record.spec.id;
  }

  /** Everything that it was begun with, as text. */
  get spec(): string {
    return this.record.text;
  }

  get sealed(): boolean {
    return this.record.sealed !== undefined;
  }

  get note(): string | undefined {
    return this.record.sealed?.note;
  }

  get touchedAt(): number {
    return this.record.touchedAt;
  }

  journal(): Promise<Image> {
    return this.record.journal();
  }
}
