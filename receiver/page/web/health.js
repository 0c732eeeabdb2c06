// How the receiver does: what there is to see beside the lines where they cannot be
// searched here.

import { $, make, plural, count, when } from './dom.js'
import { write } from './text.js'

const second = { hour: '2-digit', minute: '2-digit', second: '2-digit' }
const ago = ms => ms < 1000 ? 'at once' : ms < 120e3 ? `after ${Math.round(ms / 1000)} s` : `after ${Math.round(ms / 60e3)} min`

// showHealth shows an answer of /api/health.
export function showHealth(now) {
  const box = $('health')
  box.replaceChildren()
  const where = make(box, 'p', '', now.where + ' ')
  if (now.link) {
    const link = make(where, 'a', '', 'Search them there')
    link.href = now.link
    link.rel = 'noreferrer'
  }
  const store = make(box, 'p', now.down ? 'bad' : 'good')
  make(store, 'b', '', now.down ? `The store has not answered since ${when(now.down, second)}.` : 'The store works.')
  store.append(now.down
    ? ' No line is lost: the senders keep what is not stored, and send it again. '
    : ` ${plural(now.stored, 'line')} stored since ${when(now.since, { day: 'numeric', month: 'short', ...second })}` +
      (now.dead ? `, ${count(now.dead)} of them as dead letters` : '') + (now.lost ? `; ${plural(now.lost, 'line')} will never come` : '') + '.')
  if (now.down) write(make(store, 'code'), now.error)
  showSenders(make(box, 'ul'), now)
}

function showSenders(list, { senders, connected }) {
  if (!connected) return void make(list, 'li', 'none', 'No sender is connected. A relay connects when it has a line to send.')
  for (const s of senders) {
    const item = make(list, 'li')
    write(make(item, 'b'), s.host)
    item.append(` ${plural(s.lines, 'line')}` + (s.lines ? `, the newest here ${ago(s.lag)}` : ''))
    if (s.blocked) {
      make(item, 'b', 'bad', ` blocked since ${when(s.blocked, second)}: the store works, but not for this sender. `)
      write(make(item, 'code'), s.error)
    }
    item.title = `stream ${s.sid}, connected since ${when(s.since, second)}`
  }
  if (connected > senders.length) make(list, 'li', 'none', `and ${count(connected - senders.length)} more`)
}
