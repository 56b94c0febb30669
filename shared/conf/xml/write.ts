const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&apos;',
  '"': '&quot;',
};

function escaped(text: string): string {
  return text.replace(/[&<>'"]/g, (character) => ESCAPES[character]!);
}

/** The type of such a document over HTTP. */
export const XML_TYPE = 'application/xml';

export type Attributes = Record<string, string | number | undefined>;

/** Writes XML as libvirt does: two spaces a level, single quotes, absent attributes left out. */
export class XmlWriter {
  #text = '';
  #depth = 0;

  #line(line: string): void {
    this.#text += `${'  '.repeat(this.#depth)}${line}\n`;
  }

  #open(name: string, attributes: Attributes): string {
    const parts = Object.entries(attributes).flatMap(([key, value]) =>
      value === undefined ? [] : [` ${key}='${escaped(String(value))}'`],
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

  toString(): string {
    return this.#text;
  }
}
