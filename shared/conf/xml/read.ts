import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { StowageError } from '../../util/errors.ts';
import { XmlElement } from './element.ts';

/** The longest document, in UTF-16 units, and the deepest: far above any that a person or libvirt writes. */
const MOST_LENGTH = 4 << 20;
const MOST_DEPTH = 64;

type Node = Record<string, unknown>;

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  // Left as they are written, so that a reference that means nothing is seen.
  processEntities: false,
  cdataPropName: '#cdata',
  commentPropName: '#comment',
  captureMetaData: true,
  maxNestedTags: MOST_DEPTH,
});
const META = XMLParser.getMetaDataSymbol() as unknown as symbol;

const PREDEFINED: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

const invalid = (line: number, why: string): StowageError =>
  new StowageError('invalid-xml', `line ${line}: ${why}`);

/** Characters that turn the direction of the text: what is read by people is not what is there. */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** What XML 1.0 allows in a document. */
function isXmlCharacter(code: number): boolean {
  return (
    code === 9 ||
    code === 10 ||
    code === 13 ||
    (code >= 0x20 && code <= 0xd7ff) ||
    (code >= 0xe000 && code <= 0xfffd) ||
    (code >= 0x10000 && code <= 0x10ffff)
  );
}

function decode(raw: string, line: number): string {
  return raw.replace(/&([^;]{0,12};?)?/g, (_all, body: string = '') => {
    const name = body.endsWith(';') ? body.slice(0, -1) : '';
    const known = Object.hasOwn(PREDEFINED, name) ? PREDEFINED[name] : undefined;
    if (known !== undefined) return known;
    const number = /^#(?:x([0-9a-f]{1,6})|(\d{1,7}))$/i.exec(name);
    const code = number ? Number.parseInt(number[1] ?? number[2]!, number[1] ? 16 : 10) : 0;
    if (!isXmlCharacter(code) || BIDI.test(String.fromCodePoint(code)))
      throw invalid(line, `'&${body}' is not a reference that XML or we know`);
    return String.fromCodePoint(code);
  });
}

/** Line numbers by position, for positions that only grow. */
class Lines {
  readonly #text: string;
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  at(position: number): number {
    for (; this.#at < position; this.#at++) if (this.#text.charCodeAt(this.#at) === 10) this.#line++;
    return this.#line;
  }
}

/** Refuses what is dangerous before any of it is parsed. */
function refuse(text: string): void {
  if (text.length > MOST_LENGTH)
    throw new StowageError('too-large', `the document is longer than ${MOST_LENGTH >> 20} MiB`);
  const lines = new Lines(text);
  for (let position = 0; position < text.length; position++) {
    const code = text.codePointAt(position)!;
    if (!isXmlCharacter(code))
      throw invalid(lines.at(position), `the character U+${code.toString(16).padStart(4, '0')} is not XML`);
    if (BIDI.test(String.fromCodePoint(code)))
      throw invalid(lines.at(position), `the character U+${code.toString(16)} hides what is written`);
    if (code > 0xffff) position++;
  }
  const declaration = text.search(/<!(?:DOCTYPE|ENTITY)/i);
  if (declaration >= 0)
    throw invalid(lines.at(declaration), 'a document type or an entity declaration is refused');
}

function convert(name: string, node: Node, lines: Lines): XmlElement {
  const line = lines.at((node[META as never] as { startIndex: number }).startIndex);
  const attributes = new Map<string, string>();
  for (const [key, value] of Object.entries((node[':@'] as Record<string, unknown> | undefined) ?? {})) {
    if (typeof value !== 'string' || value.includes('<'))
      throw invalid(line, `element '${name}': the value of attribute '${key}' is not well-formed`);
    attributes.set(key, decode(value, line));
  }
  const children: XmlElement[] = [];
  let text = '';
  for (const child of node[name] as Node[]) {
    const [childName = ''] = Object.keys(child);
    if (childName === '#comment' || childName.startsWith('?')) continue;
    if (childName === '#text') text += decode(String(child['#text']), line);
    else if (childName === '#cdata') text += (child['#cdata'] as { '#text': string }[])[0]?.['#text'] ?? '';
    else children.push(convert(childName, child, lines));
  }
  return new XmlElement(name, line, attributes, children, text);
}

/**
 * Reads a document whose root has the given name, or any. No document type, no entities but the five, bounded length and depth.
 * Throws `invalid-xml`, naming line and element, and `too-large`.
 */
export function readXml(text: string, root?: string): XmlElement {
  refuse(text);
  let nodes: Node[];
  try {
    nodes = parser.parse(text) as Node[];
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new StowageError('invalid-xml', why.slice(0, 200), { cause: error });
  }
  const valid = XMLValidator.validate(text);
  if (valid !== true) throw invalid(valid.err.line, valid.err.msg.slice(0, 200));
  const elements = nodes.filter((node) => !/^[?#]/.test(Object.keys(node)[0] ?? '#'));
  const stray = nodes.find((node) => typeof node['#text'] === 'string' && node['#text'].trim() !== '');
  const [element] = elements;
  // The parser drops text behind the last tag.
  const tail = text.slice(text.lastIndexOf('>') + 1).trim();
  if (!element || elements.length > 1 || stray || tail)
    throw new StowageError('invalid-xml', 'a document is one element, with nothing beside it');
  const [name = ''] = Object.keys(element);
  const document = convert(name, element, new Lines(text));
  if (root !== undefined && name !== root)
    throw invalid(document.line, `unexpected root element <${name.slice(0, 80)}>, expecting <${root}>`);
  return document;
}
