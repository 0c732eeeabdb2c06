// How the receiver does: always to be seen where lines cannot be searched here, else
// only when something is wrong.

import { $, make, plural, count } from './dom.js'
import { when, second, dayAndSecond } from './time.js'
import { write } from './text.js'

// showHealth shows an answer of /api/health.
export function showHealth(now) {
  const box = $('health')
  box.replaceChildren()
  const where = make(box, 'p', '', now.where ? now.where + ' ' : '')
  if (now.link) {
    const link = make(where, 'a', '', 'Search them there')
    link.href = now.link
    link.rel = 'noreferrer'
  }
  const store = make(box, 'p', now.down ? 'bad' : 'good')
  make(store, 'b', '', now.down ? `The store has not answered since ${when(now.down, second)}.` : 'The store works.')
  store.append(now.down
    ? ' No line is lost: the senders keep what is not stored, and send it again. '
    : ` ${plural(now.stored, 'line')} stored since ${when(now.since, dayAndSecond)}` +
      (now.dead ? `, ${count(now.dead)} of them as dead letters` : '') + (now.lost ? `; ${plural(now.lost, 'line')} will never come` : '') + '.')
  if (now.down) write(make(store, 'code'), now.error)
  if (now.unready && !now.down) {
    const ready = make(box, 'p', 'bad')
    make(ready, 'b', '', 'No line would be stored now. ')
    write(make(ready, 'code'), now.unready)
  }
  box.classList.toggle('unready', Boolean(now.down || now.unready))
}
