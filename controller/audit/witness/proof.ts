import { type Frontier, parentOf } from '../stowage-verify.ts';

/** The largest power of two that is smaller. */
function splitOf(count: number): number {
  let split = 1;
  while (split * 2 < count) split *= 2;
  return split;
}

/**
 * That a tree which has grown by these leaves begins as it was: a consistency proof of RFC 6962 (2.1.2). `old` is not empty; there is at
 * least one leaf.
 */
export function consistencyProof(old: Frontier, leaves: readonly Buffer[]): Buffer[] {
  const whole = new Map<number, Buffer>();
  let place = 0;
  for (const [index, size] of subtreesOf(old.size).entries()) {
    whole.set(place, old.nodes[index]!);
    place += size;
  }

  /** The root of a part, which lies on one side of what is old and what is new. */
  const rootOf = (from: number, to: number): Buffer => {
    if (from < old.size) return whole.get(from)!;
    if (to - from === 1) return leaves[from - old.size]!;
    const split = from + splitOf(to - from);
    return parentOf(rootOf(from, split), rootOf(split, to));
  };

  const proofOf = (from: number, to: number, isRootKnown: boolean): Buffer[] => {
    if (to === old.size) return isRootKnown ? [] : [rootOf(from, to)];
    const split = from + splitOf(to - from);
    return old.size <= split
      ? [...proofOf(from, split, isRootKnown), rootOf(split, to)]
      : [...proofOf(split, to, false), rootOf(from, split)];
  };
  return proofOf(0, old.size + leaves.length, true);
}

/** Sizes of the whole subtrees of a tree, from left to right. */
function subtreesOf(size: number): number[] {
  const sizes: number[] = [];
  for (let rest = size, power = 1; rest > 0; rest = Math.floor(rest / 2), power *= 2)
    if (rest % 2 === 1) sizes.unshift(power);
  return sizes;
}

/** A tree, by its size and its root. */
interface Tree {
  size: number;
  root: Buffer;
}

/** Whether a proof shows that one tree is the beginning of another, larger one (RFC 9162, 2.1.4.2). `old` is not empty. */
export function isConsistent(old: Tree, tree: Tree, proof: readonly Buffer[]): boolean {
  if (old.size <= 0 || old.size >= tree.size) return false;
  const isPower = subtreesOf(old.size).length === 1;
  const [first, ...path] = isPower ? [old.root, ...proof] : proof;
  if (!first || proof.length === 0) return false;
  let [at, end] = [old.size - 1, tree.size - 1];
  const up = (): void => {
    at = Math.floor(at / 2);
    end = Math.floor(end / 2);
  };
  while (at % 2 === 1) up();
  let [ofOld, ofTree] = [first, first];
  for (const node of path) {
    if (end === 0) return false;
    if (at % 2 === 1 || at === end) {
      ofOld = parentOf(node, ofOld);
      ofTree = parentOf(node, ofTree);
      while (at % 2 === 0 && at !== 0) up();
    } else ofTree = parentOf(ofTree, node);
    up();
  }
  return end === 0 && ofOld.equals(old.root) && ofTree.equals(tree.root);
}
