// How much room there is, where columns come and go with it.

const matches = (query: string) => {
  const media = matchMedia(query);
  let now = $state(media.matches);
  media.addEventListener('change', () => (now = media.matches));
  return () => now;
};

/** Zoomed in, or a very small screen: one column of everything. */
export const narrow = matches('(max-width: 719px)');
/** Room for all columns of a table. */
export const wide = matches('(min-width: 1100px)');
