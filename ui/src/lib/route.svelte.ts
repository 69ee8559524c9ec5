// `#/queue?state=needs-attention`: where the window is, so that back and forward work and a link is a link.

import type { Desk, RecordName } from './bindings';

export const VIEWS = ['overview', 'queue', 'conflicts', 'watching', 'locks', 'history', 'audit'] as const;
export type View = (typeof VIEWS)[number];

export const TITLES: Record<View, string> = {
  overview: 'Overview',
  queue: 'Queue',
  conflicts: 'Conflicts',
  watching: 'Watching',
  locks: 'Locks',
  history: 'History',
  audit: 'Audit',
};

/** Those that there is something in: where no EHR is watched, nobody has to wonder what that would be. */
export const shown = (desk: Desk) => VIEWS.filter((view) => view !== 'watching' || desk.watches);

const isView = (name: string): name is View => (VIEWS as readonly string[]).includes(name);

export const link = (view: View, query: Record<string, string> = {}) => {
  const search = new URLSearchParams(query).toString();
  return `#/${view}${search && `?${search}`}`;
};

class Route {
  view = $state<View>('overview');
  query = $state.raw(new URLSearchParams());
  /** The one record that the history is about; its key does not belong into an address. */
  record = $state.raw<RecordName | null>(null);

  start(): () => void {
    const read = () => {
      const [path = '', search = ''] = location.hash.replace(/^#\/?/, '').split('?');
      this.view = isView(path) ? path : 'overview';
      if (this.view !== 'history') this.record = null;
      this.query = new URLSearchParams(search);
    };
    addEventListener('hashchange', read);
    read();
    return () => removeEventListener('hashchange', read);
  }

  go(view: View, query: Record<string, string> = {}) {
    location.hash = link(view, query);
  }

  historyOf(record: RecordName) {
    this.record = record;
    this.go('history');
  }

  /** Changes the query of this view without a step back to it. */
  refine(query: Record<string, string>) {
    history.replaceState(null, '', link(this.view, query));
    this.query = new URLSearchParams(query);
  }

  /** What the tray's menu and the causes call a place. */
  follow(place: string) {
    if (place === 'queue-attention') this.go('queue', { state: 'needs-attention' });
    else if (place === 'queue-waiting') this.go('queue');
    else if (place === 'locks-overdue') this.go('locks');
    else if (isView(place)) this.go(place);
  }
}

export const route = new Route();
