import { Command } from 'commander';
import type { AttentionItem, FleetTotals } from '../../shared/protocol/api.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { callJson, controllerOrigin } from './client.ts';
import { fields, show } from './output.ts';

/** `2 reachable, 1 unreachable`. */
const countsText = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .map(([state, count]) => `${count} ${state}`)
    .join(', ') || 'none';

function describe({ version, caller, hosts, pools, jobs }: FleetTotals): string {
  const { capacityBytes, allocationBytes, availableBytes, volumeCount } = pools;
  return fields([
    ['controller', `${controllerOrigin()}, version ${version}`],
    [
      'you are',
      `${caller.name}, ${caller.role}${caller.scopes.length > 0 ? ` of ${caller.scopes.join(', ')}` : ''}`,
    ],
    ['hosts', countsText(hosts.byState)],
    ['pools', countsText(pools.byState)],
    ['volumes', volumeCount],
    [
      'space',
      `${formatBytes(capacityBytes)}, ${formatBytes(allocationBytes)} in use, ${formatBytes(availableBytes)} free`,
    ],
    ['jobs', countsText(jobs.byState)],
  ]);
}

const MOST_ITEMS = 20;

function attentionText(items: readonly AttentionItem[]): string {
  if (items.length === 0) return 'nothing needs attention';
  const more = items.length - MOST_ITEMS;
  return [
    'needs attention:',
    ...items
      .slice(0, MOST_ITEMS)
      .map(
        ({ severity, summary, reason }) => `  ${severity.padEnd(8)}  ${summary}${reason && `: ${reason}`}`,
      ),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ].join('\n');
}

export function statusCommand(): Command {
  return new Command('status')
    .description('the fleet in numbers, what needs attention, and who you are to the controller')
    .action(async () => {
      const [totals, attention] = await Promise.all([
        callJson<FleetTotals>('/fleet'),
        callJson<AttentionItem[]>('/fleet/attention'),
      ]);
      await show({ ...totals, attention }, () => `${describe(totals)}\n\n${attentionText(attention)}`, {
        isRemark: false,
      });
    });
}
