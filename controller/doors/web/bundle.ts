import { basename, extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';
import { build } from 'esbuild';

const compress = promisify(brotliCompress);
const ENTRY = fileURLToPath(new URL('../../web/main.tsx', import.meta.url));
const TYPES: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/** A file of the page; its name changes with its bytes, so that browsers keep it for ever. */
export interface Asset {
  type: string;
  bytes: Buffer;
  brotli: Buffer;
}

export interface PageBundle {
  assets: ReadonlyMap<string, Asset>;
  /** Names of the script and of the style sheet that the page begins with. */
  script: string;
  style: string;
}

/** Bundles the page from the sources beside us: nothing of it comes from elsewhere when it runs. */
export async function bundlePage(): Promise<PageBundle> {
  const { outputFiles } = await build({
    entryPoints: [ENTRY],
    outdir: '/assets',
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    entryNames: '[name]-[hash]',
    define: { 'process.env.NODE_ENV': '"production"' },
    // React Aria speaks some thirty languages; the page speaks one.
    plugins: [
      {
        name: 'one-language',
        setup(bundler) {
          bundler.onLoad({ filter: /[/\\]intl[/\\].*[a-z]{2}-[A-Z]{2}\.(m?js|cjs)$/ }, ({ path }) =>
            path.includes('en-US') ? undefined : { contents: 'export default {};', loader: 'js' },
          );
        },
      },
    ],
    logLevel: 'error',
  });
  const assets = new Map<string, Asset>();
  for (const { path, contents } of outputFiles) {
    const bytes = Buffer.from(contents);
    const brotli = await compress(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    });
    assets.set(basename(path), { type: TYPES[extname(path)] ?? 'application/octet-stream', bytes, brotli });
  }
  const named = (extension: string): string => [...assets.keys()].find((name) => name.endsWith(extension))!;
  return { assets, script: named('.js'), style: named('.css') };
}
