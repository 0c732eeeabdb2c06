// The senders: how each one does, those in trouble first.

import { $, make, plural, count } from './dom.js'
import { when, exact } from './time.js'
import { state } from './address.js'
import { write } from './text.js'
import { filter } from './filters.js'

const signs = { refused: '✖', diverged: '≠', silent: '○', late: '◔', delivering: '●' }
const few = 12 // rows, until all are asked for

let all = false // whether all are shown, or only some
let asking = null

const minute = 60, hour = 3600, day = 86400
export function span(s) {
  if (s < 1) return '0 s'
  if (s < minute) return `${Math.floor(s)} s`
  if (s < hour) return `${Math.floor(s / minute)} min`
  if (s < day) return `${Math.floor(s / hour)} h ${Math.floor(s % hour / minute)} min`
  return plural(Math.floor(s / day), 'day')
}

// atHome tells whether the address asks for nothing: then the page opens with the
// senders.
const atHome = () => !state.q && !state.from && !state.to && !state.around && !state.by.length

// loadFleet asks for the senders and shows them.
export async function loadFleet() {
  asking?.abort()
  asking = new AbortController()
  const p = new URLSearchParams()
  if (all) p.set('all', '1')
  const q = $('whose').value.trim()
  if (q) p.set('q', q)
  try {
    const answer = await fetch('/api/senders?' + p, { signal: asking.signal })
    if (!answer.ok) throw new Error(await answer.text())
    showFleet(await answer.json(), q)
  } catch (err) {
    if (err.name === 'AbortError') return
    $('fleetsum').replaceChildren(make(null, 'b', 'bad', 'wsreceive does not answer: what stands here may be old.'))
  }
}

function showFleet(found, q) {
  const trouble = found.total - (found.counts.delivering ?? 0)
  const badge = $('troubled')
  badge.hidden = !trouble
  badge.textContent = count(trouble)
  badge.title = `${plural(trouble, 'sender')} in trouble`
  $('fleet').hidden = !atHome()
  showSum(found, trouble)
  $('whose').hidden = found.total <= few && !q
  const rows = all || q ? found.senders : found.senders.filter(s => s.state !== 'delivering').slice(0, few)
  const table = $('senders')
  table.hidden = !rows.length
  table.tBodies[0].replaceChildren(...rows.map(row))
  $('allsenders').hidden = !found.total || (!all && rows.length === found.total)
  $('allsenders').textContent = all ? 'Show fewer' : `Show all ${count(found.total)} senders`
  $('allsenders').setAttribute('aria-expanded', String(all))
  const left = found.matching - rows.length
  $('fleetmore').textContent = (all || q) && left > 0 ? `and ${plural(left, 'other')}` : ''
}

function showSum({ total, counts, silent_after, late_after }, trouble) {
  const sum = $('fleetsum')
  sum.replaceChildren()
  if (!total) return sum.append('No sender has been seen yet. A relay connects when it has a line to send.')
  const head = make(sum, 'b', trouble ? 'bad' : 'good', trouble ? `${count(trouble)} of ${plural(total, 'sender')} ${trouble === 1 ? 'is' : 'are'} in trouble` : `All ${plural(total, 'sender')} deliver`)
  head.title = `silent: no line for ${span(silent_after)}; late: lines are more than ${span(late_after)} old when they are stored`
  if (!trouble) return
  for (const name of Object.keys(signs)) {
    if (!counts[name]) continue
    const part = make(sum, 'button', `state ${name}`, `${signs[name]} ${count(counts[name])} ${name}`)
    part.type = 'button'
    part.addEventListener('click', () => { $('whose').hidden = false; $('whose').value = name; loadFleet() })
  }
}

function row(s) {
  const tr = make(null, 'tr')
  const state = make(tr, 'td')
  make(state, 'span', `state ${s.state}`, `${signs[s.state]} ${s.state}`)
  if (s.since) state.append(` for ${span((Date.now() - Date.parse(s.since)) / 1000)}`)
  const host = make(tr, 'td')
  const only = make(host, 'button', 'value')
  only.type = 'button'
  only.title = 'Lines of this host'
  write(only, s.host)
  only.addEventListener('click', () => filter('host', s.host, false))
  if (s.why) write(make(host, 'small', 'why'), s.why)
  write(make(tr, 'td'), s.name ?? '')
  const last = make(tr, 'td', '', s.last_line ? `${span((Date.now() - Date.parse(s.last_line)) / 1000)} ago` : 'never')
  if (s.last_line) last.title = when(Date.parse(s.last_line), exact)
  make(tr, 'td', 'num', span(s.lag_seconds))
  make(tr, 'td', 'num', count(s.backlog_lines))
  make(tr, 'td', 'num', `${s.lines_per_second < 10 ? s.lines_per_second.toFixed(1) : count(Math.round(s.lines_per_second))}/s`)
  write(make(tr, 'td'), s.version ?? '')
  tr.title = `stream ${s.sid}, ${s.connected ? '' : 'not '}connected`
  return tr
}

$('allsenders').addEventListener('click', () => { all = !all; if (!all) $('whose').value = ''; loadFleet() })
let typing = 0
$('whose').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(loadFleet, 200) })

// showHome shows or hides the senders as the address is.
export function showHome() { $('fleet').hidden = !atHome() || !$('fleetsum').hasChildNodes() }
