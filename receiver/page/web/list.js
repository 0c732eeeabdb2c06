// The list of lines. What comes live goes to its top, unless somebody reads there.

import { $, make, plural, when } from './dom.js'
import { write, writeLine } from './text.js'
import { showDetail } from './detail.js'

const kept = 2000 // lines, while new ones come

const shown = new Map() // the entries by UID
let old = []            // those of them that are of the last search
let waiting = []        // new lines that wait until the reader is at the top
let skipped = 0         // that came too fast to be sent, since the last that are shown
let current = null      // the entry that the keys are on

const dayOf = ms => when(ms, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })

export const lines = () => shown.size

// forget begins a new search: what is shown stays until there is an answer, or
// clear.
export function forget() {
  old = [...shown.values()]
  waiting = []
  skipped = 0
  current = null
  showNew()
}

// clear takes away what was there before the search began, and not what has come
// live since then.
export function clear() {
  for (const entry of old) {
    entry.remove()
    shown.delete(entry.line.uid)
  }
  old = []
  separateDays()
}

// showLines shows an answer, the newest line first; what live has brought
// meanwhile stays before it.
export function showLines(found) {
  const had = [...shown.values()]
  const asked = new Set(found.map(line => line.uid))
  waiting = waiting.filter(line => !asked.has(line.uid))
  showNew()
  for (const line of found) if (!shown.has(line.uid)) shown.set(line.uid, makeEntry(line))
  const others = had.filter(e => !asked.has(e.line.uid))
  const newer = others.filter(e => !found.length || e.line.time >= found[0].time)
  const older = others.filter(e => !newer.includes(e))
  $('lines').replaceChildren(...newer, ...found.map(line => shown.get(line.uid)), ...older)
  separateDays()
  $('empty').hidden = shown.size > 0
}

// add takes lines that have come live, and how many others there were.
export function add(more, others) {
  waiting.push(...more.filter(line => !shown.has(line.uid) || old.includes(shown.get(line.uid))))
  skipped += others
  if (waiting.length > kept) skipped += waiting.splice(0, waiting.length - kept).length
  if (reading()) showNew()
  else flush()
}

// reading: the reader looks at something that must not move.
const reading = () => scrollY > 120 || document.querySelector('.detail') !== null

function flush() {
  const list = $('lines')
  if (skipped) list.prepend(make(null, 'li', 'skipped', `${plural(skipped, 'line')} came too fast to be shown here`))
  for (const line of waiting) {
    const before = shown.get(line.uid)
    if (before && !old.includes(before)) continue
    before?.remove() // of the last search; this one marks other words
    old = old.filter(entry => entry !== before)
    const entry = makeEntry(line)
    entry.classList.add('fresh')
    shown.set(line.uid, entry)
    list.prepend(entry)
  }
  waiting = []
  skipped = 0
  prune()
  separateDays()
  showNew()
  $('empty').hidden = shown.size > 0
}

// prune takes the lowest entries off a list that has become too long.
function prune() {
  for (let last = $('lines').lastElementChild; last && shown.size > kept; last = $('lines').lastElementChild) {
    last.remove()
    if (last.line) shown.delete(last.line.uid)
  }
}

function showNew() {
  $('new').hidden = waiting.length === 0
  $('new').textContent = `↑ ${plural(waiting.length, 'new line')}`
}

function separateDays() {
  const list = $('lines')
  for (const old of list.querySelectorAll('.day')) old.remove()
  let last = shown.size ? dayOf(Date.now()) : '' // today needs no title
  for (const entry of [...list.children]) {
    const name = entry.line && dayOf(entry.line.time)
    if (!name || name === last) continue
    entry.before(make(null, 'li', 'day', name))
    last = name
  }
}

// gravity tells levels apart in colour, by whatever names loggers call them.
function gravity(level) {
  if (/^(emerg|alert|crit|fatal|panic|err|severe)/i.test(level)) return 'error'
  return /^warn/i.test(level) ? 'warning' : ''
}

function makeEntry(line) {
  const entry = make(null, 'li', 'entry')
  entry.line = line
  entry.dataset.uid = line.uid
  entry.dataset.level = gravity(line.level ?? '')
  const row = make(entry, 'div', 'row')
  const time = make(row, 'time', '', when(line.time, { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 }))
  time.dateTime = time.title = new Date(line.time).toISOString()
  // A sender can write in any name; who it is cannot be made up.
  write(make(row, 'span', 'who'), line.sender ? `${line.host} (from ${line.sender})` : line.host)
  write(make(row, 'span', 'program'), line.program ?? '')
  const [first, ...rest] = line.text.replace(/\n+$/, '').split('\n')
  const text = make(row, 'span', 'text')
  writeLine(text, first, true)
  if (rest.length) make(text, 'small', 'rest', ` +${plural(rest.length, 'line')}`)
  row.addEventListener('click', () => {
    if (getSelection().isCollapsed) { move(entry); toggle() }
  })
  return entry
}

// toggle opens or closes the current line.
export function toggle() {
  if (!current?.isConnected) return
  const open = current.querySelector('.detail')
  if (!open) return void showDetail(make(current, 'div', 'detail'), current.line)
  open.remove()
  if (!reading() && waiting.length) flush()
}

// move makes an entry the current one; null: none is.
export function move(entry) {
  current?.classList.remove('current')
  current = entry
  if (!entry) return
  entry.classList.add('current')
  entry.scrollIntoView({ block: 'nearest' })
}

export function step(by) {
  const entries = [...document.querySelectorAll('.entry')]
  const at = entries.indexOf(current)
  if (entries.length) move(entries[Math.max(0, Math.min(entries.length - 1, at < 0 ? 0 : at + by))])
}

export function toTop() {
  scrollTo(0, 0)
  move(document.querySelector('.entry'))
}

$('new').addEventListener('click', () => {
  for (const open of document.querySelectorAll('.detail')) open.remove()
  scrollTo(0, 0)
  flush()
})
addEventListener('scroll', () => { if (waiting.length && !reading()) flush() }, { passive: true })
