/** No chain of images is longer; one that leads back to itself is. */
export const LONGEST_CHAIN = 64;
