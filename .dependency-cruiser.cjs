/** The doors between the rooms. Checked by `npm run check:boundaries`, which also fails when it looked at nothing. */
module.exports = {
  forbidden: [
    { name: 'shared-imports-neither-side', severity: 'error', from: { path: '^shared/', pathNot: '^shared/setup/' }, to: { path: '^(agent|controller|test)/' } },
    { name: 'the-set-up-stands-above-all', severity: 'error', from: { pathNot: '^shared/setup/' }, to: { path: '^shared/setup/' } },
    { name: 'agent-imports-shared-only', severity: 'error', from: { path: '^agent/' }, to: { path: '^(controller|test)/' } },
    { name: 'controller-imports-shared-only', severity: 'error', from: { path: '^controller/' }, to: { path: '^(agent|test)/' } },
    { name: 'backends-do-not-import-each-other', severity: 'error', from: { path: '^agent/backends/([^/]+)/' }, to: { path: '^agent/backends/[^/]+/', pathNot: '^agent/backends/$1/' } },
    { name: 'only-host-touches-processes', severity: 'error', from: { path: '^agent/', pathNot: '^agent/host/' }, to: { path: '^(node:)?child_process$' } },
    { name: 'formats-know-no-transfers', severity: 'error', from: { path: '^agent/(formats|images)/' }, to: { path: '^agent/(transfer|backends/[^/]+/|volumes|pools|routes)' } },
    { name: 'transfers-know-no-backends', severity: 'error', from: { path: '^agent/transfer/' }, to: { path: '^agent/(backends|volumes)/' } },
    { name: 'only-the-registry-knows-backends', severity: 'error', from: { path: '^agent/', pathNot: '^agent/backends/' }, to: { path: '^agent/backends/[^/]+/' } },
    { name: 'sql-only-in-the-store', severity: 'error', from: { path: '^controller/', pathNot: '^controller/store/' }, to: { path: '^node_modules/(kysely|better-sqlite3|pg)/' } },
    { name: 'the-store-knows-nobody', severity: 'error', from: { path: '^controller/store/' }, to: { path: '^controller/', pathNot: '^controller/store/' } },
    { name: 'nobody-but-doors-knows-actions', severity: 'error', from: { path: '^controller/', pathNot: '^controller/(actions|doors|controller|serve|program)' }, to: { path: '^controller/actions/' } },
    { name: 'nobody-knows-doors', severity: 'error', from: { path: '^controller/', pathNot: '^controller/(doors|controller|serve|program)' }, to: { path: '^controller/doors/' } },
    { name: 'the-command-line-is-a-client', severity: 'error', from: { path: '^controller/cli/' }, to: { path: '^controller/', pathNot: '^controller/cli/' } },
    { name: 'the-page-is-a-client', severity: 'error', from: { path: '^controller/web/' }, to: { path: '^controller/', pathNot: '^controller/web/' } },
    { name: 'nobody-imports-the-page', severity: 'error', from: { path: '^controller/', pathNot: '^controller/web/' }, to: { path: '^controller/web/' } },
    { name: 'no-circles-type-only-included', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-test-tools-in-the-product', severity: 'error', from: { path: '^(shared|agent|controller)/' }, to: { dependencyTypes: ['npm-dev'] } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.tsx', '.mjs', '.js'] },
    parser: 'tsc',
  },
};
