import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { type AgentPayload, loadPayload } from './install-agent.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Parts of libraries that the agent never calls: its validation is zod's, its answers are plain JSON, and messages are
 * in one language. Leaving them out halves the bundle.
 */
const UNUSED: [RegExp, string][] = [
  [/^@fastify\/ajv-compiler$/, 'module.exports = () => () => { throw new Error("no ajv in the agent"); };'],
  [
    /^@fastify\/fast-json-stringify-compiler$/,
    'module.exports = () => () => JSON.stringify; module.exports.SerializerSelector = module.exports; module.exports.StandaloneSerializer = module.exports;',
  ],
  [/^light-my-request$/, 'module.exports = () => { throw new Error("no injection in the agent"); };'],
  [/\/locales\/index\.js$/, 'export {};'],
];

const leaveOut: Plugin = {
  name: 'leave-out',
  setup(bundler) {
    for (const [filter, contents] of UNUSED) {
      bundler.onResolve({ filter }, (args) => ({
        path: args.path,
        namespace: 'left-out',
        pluginData: contents,
      }));
    }
    bundler.onLoad({ filter: /.*/, namespace: 'left-out' }, (args) => ({
      contents: args.pluginData as string,
      loader: 'js',
    }));
  },
};

/** Bundles the agent into one file. Gives the files that it is made of. */
export async function bundleAgent(outfile: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    metafile: true,
    entryPoints: [join(root, 'agent/main.ts')],
    outfile,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    plugins: [leaveOut],
    logLevel: 'error',
    banner: {
      js: "import{createRequire as bundleRequire}from'node:module';const require=bundleRequire(import.meta.url);",
    },
  });
  return Object.keys(metafile.inputs);
}

/** The path of the addon that lies beside a bundled agent; there is none for some machines. */
export const nativeHelper = (): string =>
  join(root, `node_modules/@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`);

let payload: Promise<AgentPayload> | undefined;

/** What goes onto hosts: bundled once a process from the sources beside us. */
export function agentPayload(cacheDirectory: string): Promise<AgentPayload> {
  payload ??= (async () => {
    const bundle = join(cacheDirectory, `agent-${process.pid}.mjs`);
    await bundleAgent(bundle);
    if (!existsSync(bundle)) throw new Error('the agent was not bundled');
    return loadPayload(bundle, nativeHelper(), cacheDirectory);
  })();
  return payload;
}
