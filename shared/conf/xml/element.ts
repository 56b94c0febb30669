import { StowageError } from '../../util/errors.ts';

/** One element of a document. Text is that of the element itself, its children's left out. */
export class XmlElement {
  readonly name: string;
  /** Line in the document, from 1. */
  readonly line: number;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  readonly text: string;

  constructor(
    name: string,
    line: number,
    attributes: ReadonlyMap<string, string>,
    children: readonly XmlElement[],
    text: string,
  ) {
    this.name = name;
    this.line = line;
    this.attributes = attributes;
    this.children = children;
    this.text = text;
  }

  /** An attribute; undefined when it is absent or empty, which libvirt does not tell apart. */
  attribute(name: string): string | undefined {
    return this.attributes.get(name) || undefined;
  }

  /** All that a path such as `source/host` leads to, in the order of the document. */
  all(path: string): XmlElement[] {
    let found: XmlElement[] = [this];
    for (const name of path.split('/'))
      found = found.flatMap((element) => element.children.filter((child) => child.name === name));
    return found;
  }

  /**
   * The one element that a path leads to. A second one is refused, where libvirt takes the first: two tools that read one
   * document must not see two things in it.
   */
  one(path: string): XmlElement | undefined {
    const [element, second] = this.all(path);
    if (second)
      throw new StowageError('invalid-xml', `line ${second.line}: a second element <${second.name}>`);
    return element;
  }

  /** The text of the one element that a path leads to; undefined when there is none or it is empty. */
  textOf(path: string): string | undefined {
    return this.one(path)?.text || undefined;
  }
}
