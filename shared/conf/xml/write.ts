import { StowageError } from '../../util/errors.ts';
import type { XmlElement } from './element.ts';

const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&apos;',
  '"': '&quot;',
  // Readers turn these into spaces or line feeds when they stand for themselves.
  '\r': '&#13;',
};
const IN_ATTRIBUTES: Record<string, string> = { ...ESCAPES, '\n': '&#10;', '\t': '&#9;' };

function escaped(text: string): string {
  return text.replace(/[&<>'"\r]/g, (character) => ESCAPES[character]!);
}

function escapedAttribute(value: string): string {
  return value.replace(/[&<>'"\r\n\t]/g, (character) => IN_ATTRIBUTES[character]!);
}

/** The type of such a document over HTTP. */
export const XML_TYPE = 'application/xml';

export type Attributes = Record<string, string | number | undefined>;

/** Writes XML as libvirt does: two spaces a level, single quotes, absent attributes left out. */
export class XmlWriter {
  readonly #lines: string[] = [];
  #depth = 0;

  #line(line: string): void {
    this.#lines.push(`${'  '.repeat(this.#depth)}${line}\n`);
  }

  #open(name: string, attributes: Attributes): string {
    const parts = Object.entries(attributes).flatMap(([key, value]) =>
      value === undefined ? [] : [` ${key}='${escapedAttribute(String(value))}'`],
    );
    return `<${name}${parts.join('')}`;
  }

  /** `<name/>` */
  empty(name: string, attributes: Attributes = {}): void {
    this.#line(`${this.#open(name, attributes)}/>`);
  }

  /** `<name>text</name>` */
  leaf(name: string, text: string | number, attributes: Attributes = {}): void {
    this.#line(`${this.#open(name, attributes)}>${escaped(String(text))}</${name}>`);
  }

  /** An element around what `content` writes, also when that is nothing. */
  element(name: string, attributes: Attributes, content: () => void): void {
    this.#line(`${this.#open(name, attributes)}>`);
    this.#depth++;
    content();
    this.#depth--;
    this.#line(`</${name}>`);
  }

  /** As {@link element}, but `<name/>` when there is no content, and nothing at all without attributes too. */
  optional(name: string, attributes: Attributes, content: () => void): void {
    const before = this.#lines.length;
    this.element(name, attributes, content);
    if (this.#lines.length > before + 2) return;
    this.#lines.length = before;
    if (Object.values(attributes).some((value) => value !== undefined)) this.empty(name, attributes);
  }

  /**
   * An element as it was read, but for the attribute `without`. Throws `invalid-xml` where it mixes text with elements:
   * where each was is not known.
   */
  copy(element: XmlElement, without?: string): void {
    const { name, line, children, text } = element;
    const attributes = Object.fromEntries(element.attributes);
    if (without !== undefined) delete attributes[without];
    if (children.length > 0) {
      if (text.trim() !== '')
        throw new StowageError('invalid-xml', `line ${line}: element '${name}' mixes text with elements`);
      this.element(name, attributes, () => {
        for (const child of children) this.copy(child);
      });
    } else if (text.trim() !== '') this.leaf(name, text, attributes);
    else this.empty(name, attributes);
  }

  toString(): string {
    return this.#lines.join('');
  }
}
