import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { AttentionItem, AuditVerdict, AuditWitnesses } from '../../shared/protocol/api.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { scratch } from '../support/scratch.ts';

const ORIGIN = 'storage.example/audit';

describe('the trail of a controller, with a witness, a file of checkpoints and archives', () => {
  const room = scratch();
  const at = (name: string): string => join(room.path, name);
  let witness: ChildProcess | undefined;
  after(async () => {
    witness?.kill();
    await room[Symbol.asyncDispose]();
  });

  /** Starts the program as its owner does. Gives the key that it tells. */
  async function startWitness(port: number, log: string): Promise<string> {
    const program = [
      'controller/audit/witness/stowage-witness.ts',
      '--name',
      'witness.example/w1',
      '--log',
      log,
    ];
    witness = spawn(process.execPath, [...program, '--data', at('witness'), '--listen', `127.0.0.1:${port}`]);
    let said = '';
    witness.stdout!.on('data', (data) => {
      said += data;
    });
    return until('the witness tells its key', () => /^witness\.example\/w1\+\S+$/m.exec(said)?.[0]);
  }
  const configuration = (more: string): string =>
    room.file(
      'controller.yaml',
      `audit:\n  origin: ${ORIGIN}\n  keep: 400d\n  archives: ${at('archives')}\n  checkpoints: ${at('checkpoints.jsonl')}\n${more}`,
    );

  test('whoever has the store and the keys of the controller changes nothing unseen', async () => {
    const args = ['--no-local-agent', '--config', configuration('')];
    await using controller = await TestController.start(at('data'), args);
    const log = (await controller.cliOk('audit', 'witnesses', '--key')).trim();
    assert.match(log, /^storage\.example\/audit\+[0-9a-f]{8}\+\S+$/);
    const port = await freePort();
    const key = await startWitness(port, log);
    await controller.kill('SIGTERM');
    cpSync(join(at('data'), 'stowage.db'), at('old.db'));
    configuration(`  witnesses: [{ url: 'http://127.0.0.1:${port}', key: '${key}' }]\n`);
    await controller.restart();
    const seen = (): Promise<AuditWitnesses> => controller.api('/audit/witnesses');
    await until('both have seen it', async () => (await seen()).witnesses.every(({ seq }) => seq > 0));
    assert.match(await controller.cliOk('audit', 'witnesses'), /witness\.example\/w1 +\d+ +20\d\d/);
    const verified = await controller.cliOk('audit', 'verify');
    assert.match(
      verified,
      /whole: \d+ records, signed .*\nwitness\.example\/w1 has seen it up to record \d+, at/,
    );
    assert.match(verified, /its own checkpoints in a file go up to record \d+/);

    writeFileSync(at('trail'), await controller.cliOk('audit', 'export'));
    writeFileSync(at('key.pem'), (await controller.api<AuditVerdict>('/audit/verify')).publicKey);
    const verifier = [
      'controller/audit/stowage-verify.ts',
      '--origin',
      ORIGIN,
      '--witness',
      key,
      '--witness',
      log,
    ];
    const files = ['--checkpoints', at('checkpoints.jsonl'), at('trail'), at('key.pem')];
    const whole = await execute(process.execPath, [...verifier, ...files]);
    assert.equal(whole.status, 0, whole.stdout + whole.stderr);

    // More is seen at the next start, at the latest.
    await controller.kill('SIGTERM');
    await controller.restart();
    await until('both have seen more', async () => (await seen()).witnesses.every(({ seq }) => seq > 1));

    // An older state of everything, as whoever has the machine can put back.
    await controller.kill('SIGTERM');
    for (const name of ['stowage.db', 'stowage.db-wal', 'stowage.db-shm'])
      rmSync(join(at('data'), name), { force: true });
    cpSync(at('old.db'), join(at('data'), 'stowage.db'));
    await controller.restart();
    const items = (): Promise<AttentionItem[]> => controller.api('/fleet/attention');
    await until('both dispute it', async () => {
      const disputed = (await items()).filter(({ kind }) => kind === 'trail-disputed');
      return disputed.length === 2 && disputed.every(({ severity }) => severity === 'critical');
    });
    assert.match(await controller.cliOk('status'), /witness\.example\/w1 has seen another audit trail/);
    const verdict = await controller.cli('audit', 'verify');
    assert.equal(verdict.status, 1);
    assert.match(verdict.stdout, /(NOT THE ONE THAT WAS WITNESSED|TAMPERED WITH at record \d+): .*has seen/);
  });
});
