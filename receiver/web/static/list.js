// The list of lines. What comes live goes to its top, unless the user reads there.

import { $, make, plural } from './dom.js'
import { state } from './address.js'
import { when, day, exact } from './time.js'
import { write, writeLine } from './text.js'
import { showDetail } from './detail.js'

const kept = 2000      // lines, while new ones come
const pace = 300       // ms between two times that new lines are shown: each draws the page anew
const late = 10_000    // ms that a new line may be older than what stands above it

const shown = new Map() // the entries by UID
let old = []            // those of them that are of the last search
let waiting = []        // new lines that wait until the reader is at the top
let skipped = 0         // that came too fast to be sent, since the last that are shown
let flushed = 0         // when new lines were shown last
let soon = 0            // the timer for the next
let current = null      // the entry that the keys are on

const wholeDay = { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' }
const clock = { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 }

export const lines = () => shown.size

// forget begins a new search: what is shown stays until there is an answer, or
// clear.
export function forget() {
  old = [...shown.values()]
  waiting = []
  clearTimeout(soon)
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

// showLines shows an answer, in its order; what live has brought meanwhile stays
// before it.
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
  reachable()
}

// add takes lines that have come live, and how many others there were.
export function add(more, others) {
  waiting.push(...more.filter(line => !shown.has(line.uid) || old.includes(shown.get(line.uid))))
  skipped += others
  if (waiting.length > kept) skipped += waiting.splice(0, waiting.length - kept).length
  clearTimeout(soon)
  if (reading()) showNew()
  else if (Date.now() - flushed >= pace) flush()
  else soon = setTimeout(() => { if (!reading()) flush() }, pace - (Date.now() - flushed))
}

// reading: the reader looks at something that must not move.
const reading = () => scrollY > 120 || $('list').hidden || $('lines').querySelector('.detail') !== null

function flush() {
  const list = $('lines')
  flushed = Date.now()
  if (skipped) list.prepend(make(null, 'li', 'skipped', `${plural(skipped, 'line')} came too fast to be shown here`))
  for (const line of waiting) {
    const before = shown.get(line.uid)
    if (before && !old.includes(before)) continue
    if (before) { // of the last search; this one marks other words
      before.remove()
      old = old.filter(entry => entry !== before)
    }
    const entry = makeEntry(line)
    if (waiting.length < 5) entry.classList.add('fresh')
    shown.set(line.uid, entry)
    insert(entry)
  }
  waiting = []
  skipped = 0
  prune()
  showNew()
  reachable()
}

// insert puts a new line where it belongs by its time, near the top: senders do not
// deliver at the same moment. A line that is much later than others stands at the
// top, where it is seen.
function insert(entry) {
  const { time } = entry.line
  let next = $('lines').firstElementChild
  for (let e = next; e; e = e.nextElementSibling) {
    if (!e.line) continue
    if (e.line.time <= time || e.line.time >= time + late) break
    next = e.nextElementSibling
  }
  if (next) next.before(entry)
  else $('lines').append(entry)
  if (!entry.previousElementSibling) titleTop(entry, next)
}

// titleTop separates a new top entry from what was there, if that is of another day.
function titleTop(entry, before) {
  const own = day(entry.line.time), of = e => e?.line && day(e.line.time)
  if (before?.classList.contains('day') && of(before.nextElementSibling) === own) return before.after(entry)
  if (before?.line && of(before) !== own) before.before(dayTitle(before))
  if (own !== day(Date.now())) entry.before(dayTitle(entry))
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

const dayTitle = entry => make(null, 'li', 'day', when(entry.line.time, wholeDay))

function separateDays() {
  const list = $('lines')
  for (const old of list.querySelectorAll('.day')) old.remove()
  let last = shown.size ? day(Date.now()) : null // today needs no title
  for (const entry of [...list.children]) {
    if (!entry.line || day(entry.line.time) === last) continue
    entry.before(dayTitle(entry))
    last = day(entry.line.time)
  }
}

// gravity tells levels apart, by whatever names loggers call them.
function gravity(level) {
  if (/^(emerg|alert|crit|fatal|panic|err|severe)/i.test(level)) return 'error'
  return /^warn/i.test(level) ? 'warning' : ''
}

export function makeEntry(line) {
  const entry = make(null, 'li', 'entry')
  entry.line = line
  entry.dataset.uid = line.uid
  const row = make(entry, 'div', 'row')
  row.tabIndex = -1 // one row of the list is 0: reachable
  row.setAttribute('role', 'button')
  row.setAttribute('aria-expanded', 'false')
  const time = make(row, 'time', '', when(line.time, clock))
  time.dateTime = new Date(line.time).toISOString()
  // A sender can write in any name; who it is cannot be made up.
  write(make(row, 'span', 'who'), line.sender ? `${line.host} (from ${line.sender})` : line.host)
  write(make(row, 'span', 'program'), line.program ?? '')
  const level = make(row, 'span', 'level')
  const grave = gravity(line.level ?? '')
  if (grave) {
    entry.dataset.level = grave
    write(level, line.level)
  }
  for (const value of line.columns ?? []) write(make(row, 'span', 'chosen'), value)
  const [first, ...rest] = line.text.replace(/\n+$/, '').split('\n')
  const text = make(row, 'span', 'text')
  writeLine(text, first, true)
  if (rest.length) make(text, 'small', 'rest', ` +${plural(rest.length, 'line')}`)
  return entry
}

// One handler serves all entries of a list.
for (const list of [$('lines'), $('near')]) {
  list.addEventListener('click', event => {
    const row = event.target.closest('.row')
    if (!row || !getSelection().isCollapsed) return
    move(row.parentElement)
    toggle()
  })
  list.addEventListener('focusin', event => {
    if (event.target.classList.contains('row')) mark(event.target.parentElement)
  })
  list.addEventListener('mouseover', event => { // with a zone, which takes time to write
    const time = event.target.closest('time')
    if (time && !time.title) time.title = when(Date.parse(time.dateTime), exact)
  })
}

// toggle opens or closes the current line.
export function toggle() {
  if (!current?.isConnected) return
  const open = current.querySelector('.detail'), row = current.firstElementChild
  row.setAttribute('aria-expanded', String(!open))
  if (!open) return void showDetail(make(current, 'div', 'detail'), current.line)
  open.remove()
  if (!reading() && waiting.length) flush()
}

// closeAll closes all lines of the list.
function closeAll() {
  for (const open of $('lines').querySelectorAll('.detail')) {
    open.previousElementSibling.setAttribute('aria-expanded', 'false')
    open.remove()
  }
}

// mark makes an entry the current one; null: none is.
function mark(entry) {
  current?.classList.remove('current')
  if (current?.firstElementChild) current.firstElementChild.tabIndex = -1
  current = entry
  if (!entry) return reachable()
  entry.classList.add('current')
  for (const other of entry.parentElement.querySelectorAll('.row[tabindex="0"]')) other.tabIndex = -1
  entry.firstElementChild.tabIndex = 0
}

// move makes an entry the current one, and brings it into view.
export function move(entry) {
  mark(entry)
  if (!entry) return
  entry.firstElementChild.focus({ preventScroll: true })
  entry.scrollIntoView({ block: 'nearest' })
}

// reachable has the tabulator reach one row of the list: the others are reached from it.
function reachable() {
  const list = $('lines')
  $('empty').hidden = shown.size > 0
  if (!list.querySelector('.row[tabindex="0"]')) {
    const row = list.querySelector('.row')
    if (row) row.tabIndex = 0
  }
}

const entries = () => [...document.querySelectorAll(`#${$('list').hidden ? 'near' : 'lines'} > .entry`)]

export function step(by) {
  const all = entries(), at = all.indexOf(current)
  if (all.length) move(all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))])
}

export function toTop() {
  scrollTo(0, 0)
  move(entries()[0] ?? null)
}

$('new').addEventListener('click', () => {
  closeAll()
  scrollTo(0, 0)
  flush()
})
addEventListener('scroll', () => { if (waiting.length && !reading()) flush() }, { passive: true })

// showHeads names the columns.
export function showHeads(named, remove) {
  const heads = $('heads')
  heads.hidden = !state.column.length
  heads.replaceChildren()
  for (const name of ['Time', 'Host', 'Program', 'Level']) make(heads, 'span', '', name)
  for (const name of state.column) {
    const head = make(heads, 'span', 'head')
    named(head, name)
    const off = make(head, 'button', 'off', '×')
    off.type = 'button'
    off.setAttribute('aria-label', `Remove the column ${name}`)
    off.addEventListener('click', () => remove(name))
  }
  make(heads, 'span', '', 'Message')
  document.body.style.setProperty('--chosen', state.column.map(() => 'minmax(5em, 11em)').join(' '))
}
