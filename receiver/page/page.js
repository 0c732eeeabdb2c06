// The search page. What is shown follows from the state, and the state stands in
// the address. Every text of a line goes through write(), which makes text nodes
// and never markup.

const $ = id => document.getElementById(id)
const state = { q: '', from: '', to: '', live: true }
const page = 200, most = 5000, kept = 2000 // lines: at first, by "older", by live

let shown = new Map() // the list's entries by UID
let waiting = []      // new lines that wait until the reader is at the top
let limit = page
let current = null    // the entry that the keys are on
let source = null     // of live lines
let loading = null    // aborts what is being loaded
let hist = null
let dirty = false     // the histogram lacks live lines

// ---- state and address

function readAddress() {
  const p = new URLSearchParams(location.search)
  for (const key of ['q', 'from', 'to']) state[key] = p.get(key) || ''
  state.live = p.get('live') !== '0'
}

function go(change, replace) {
  Object.assign(state, change)
  const p = new URLSearchParams()
  for (const key of ['q', 'from', 'to']) if (state[key]) p.set(key, state[key])
  if (!state.live) p.set('live', '0')
  const address = p.size ? '?' + p : location.pathname
  if (replace) history.replaceState(null, '', address)
  else history.pushState(null, '', address)
  load()
}

function showControls() {
  $('q').value = state.q
  const preset = [...$('range').options].find(o => o.value === state.from && !state.to)
  $('range').value = preset ? preset.value : 'custom'
  $('reset').hidden = !state.from && !state.to
  $('live').disabled = Boolean(state.to)
  $('live').setAttribute('aria-pressed', String(state.live && !state.to))
  document.title = (state.q || 'Logs') + ' · wsreceive'
}

// ---- loading

function params(more) {
  const p = new URLSearchParams(more)
  for (const key of ['q', 'from', 'to']) if (state[key]) p.set(key, state[key])
  return p
}

async function ask(path, more, signal) {
  const answer = await fetch(path + '?' + params(more), { signal })
  const body = await answer.json()
  if (!answer.ok) throw Object.assign(new Error(body.error), { position: body.position })
  return body
}

async function load() {
  loading?.abort()
  const { signal } = loading = new AbortController()
  showControls()
  limit = page
  waiting = []
  current = null
  showNew()
  $('status').textContent = 'Searching…'
  const ready = follow(signal)
  loadHistogram(signal)
  await Promise.race([ready, new Promise(done => setTimeout(done, 400))])
  if (!signal.aborted) loadLines(signal, true)
}

async function loadLines(signal, fresh) {
  try {
    const found = await ask('/api/search', { limit }, signal)
    $('problem').hidden = true
    showLines(found, fresh)
    showFacets(found)
  } catch (err) {
    if (!signal.aborted) showProblem(err)
  }
}

async function loadHistogram(signal) {
  dirty = false
  try {
    const bars = Math.max(20, Math.min(120, Math.floor($('bars').clientWidth / 11)))
    hist = await ask('/api/histogram', { bars }, signal)
    showHistogram()
  } catch (err) {
    if (!signal.aborted) { hist = null; $('bars').replaceChildren(); $('axis').replaceChildren() }
  }
}

// follow opens the live view, if it is wanted; what it gives is done when
// nothing that is stored from then on is missed.
function follow(signal) {
  source?.close()
  source = null
  $('live').dataset.state = ''
  if (!state.live || state.to) return Promise.resolve()
  source = new EventSource('/api/tail?' + new URLSearchParams({ q: state.q }))
  signal.addEventListener('abort', () => source?.close(), { once: true })
  let connected = 0
  return new Promise(done => {
    source.addEventListener('ready', () => {
      $('live').dataset.state = 'open'
      if (connected++ || shown.size) loadLines(signal, false) // what came in between
      done()
    })
    source.addEventListener('lines', event => {
      const { lines, skipped } = JSON.parse(event.data)
      dirty = true
      waiting.push(...lines)
      waiting.skipped = (waiting.skipped || 0) + skipped
      if (waiting.length > kept) waiting.splice(0, waiting.length - kept)
      if (!reading()) flush()
      else showNew()
    })
    source.onerror = () => { $('live').dataset.state = ''; done() }
  })
}

// reading: the reader looks at something that must not move.
const reading = () => scrollY > 120 || document.querySelector('.detail') !== null

function flush() {
  const list = $('lines')
  for (const line of waiting) {
    if (shown.has(line.uid)) continue
    const entry = makeEntry(line)
    entry.classList.add('fresh')
    shown.set(line.uid, entry)
    list.prepend(entry)
  }
  waiting = []
  while (shown.size > kept) {
    const [uid, entry] = [...shown].reduce((a, b) => a[1].line.time <= b[1].line.time ? a : b)
    entry.remove()
    shown.delete(uid)
  }
  separateDays()
  showNew()
  $('empty').hidden = shown.size > 0
}

function showNew() {
  const n = waiting.length
  $('new').hidden = n === 0
  $('new').textContent = `↑ ${count(n)} new ${n === 1 ? 'line' : 'lines'}`
}

setInterval(() => {
  if (dirty && !document.hidden && loading) loadHistogram(loading.signal)
}, 3000)

// ---- text of strangers

// What would be invisible, or would do something, is shown as what it is.
const odd = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/u

function write(to, text, className) {
  let plain = ''
  const flushPlain = () => {
    if (!plain) return
    writeMarked(to, plain, className)
    plain = ''
  }
  for (const c of text) {
    if (c === '\t' || !odd.test(c)) { plain += c; continue }
    flushPlain()
    const code = c.codePointAt(0)
    const span = make(to, 'span', 'ctl')
    span.textContent = code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : code.toString(16).toUpperCase()
    span.title = 'U+' + code.toString(16).toUpperCase().padStart(4, '0')
    if (c === '\n' && to.tagName === 'PRE') plain = '\n'
  }
  flushPlain()
}

let wanted = null // what the query looks for, to be marked

function writeMarked(to, text, className) {
  const parent = className ? make(to, 'span', className) : to
  if (!wanted) return void parent.append(text)
  let at = 0
  for (const hit of text.matchAll(wanted)) {
    parent.append(text.slice(at, hit.index))
    make(parent, 'mark').textContent = hit[0]
    at = hit.index + hit[0].length
  }
  parent.append(text.slice(at))
}

function findWanted() {
  const words = []
  for (const [, minus, field, quoted, word] of state.q.matchAll(/(-|NOT\s+)?([\p{L}_@][\p{L}\p{N}_.@-]*:=?)?(?:"((?:[^"\\]|\\.)*)"|([^\s"()]+))/gu)) {
    const text = quoted ?? word
    if (minus || field || /^(AND|OR|NOT)$/.test(text)) continue
    const open = text.endsWith('*')
    const parts = text.replace(/\\(["\\])/g, '$1').match(/[\p{L}\p{N}]+/gu)
    if (parts) words.push(parts.join('[^\\p{L}\\p{N}]+') + (open ? '[\\p{L}\\p{N}]*' : ''))
  }
  wanted = words.length ? new RegExp(`(?<![\\p{L}\\p{N}])(?:${words.join('|')})(?![\\p{L}\\p{N}])`, 'giu') : null
}

// writeLine shows a line; one that is JSON in colours, and in a list without
// what only machines need.
const token = /("(?:[^"\\]|\\.)*"?)(\s*:)?|(-?\d[\d.eE+-]*|true|false|null)|([{}[\],:\s]+)|([^"{}[\],:\s\d-]+|.)/gsu

function writeLine(to, text, inList) {
  if (text[0] !== '{') return write(to, text)
  for (const [, string, colon, number, punctuation, rest] of text.matchAll(token)) {
    if (string) {
      const bare = inList && /^"[^\s"\\]+"$/.test(string) ? string.slice(1, -1) : string
      write(to, bare, colon ? 'k' : 's')
      if (colon) write(to, inList ? '=' : colon, 'p')
    } else if (number) write(to, number, 'n')
    else if (punctuation) write(to, inList ? punctuation.replace(/[{}\s]/g, '').replace(/,/g, ' ') : punctuation, 'p')
    else write(to, rest)
  }
}

function make(parent, tag, className, text) {
  const el = document.createElement(tag)
  if (className) el.className = className
  if (text !== undefined) el.textContent = text
  parent?.append(el)
  return el
}

// ---- the list

const count = n => n.toLocaleString('en')
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 })
const day = new Intl.DateTimeFormat('en-GB', { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' })
const bytes = n => n < 1024 ? `${n} bytes` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`

function makeEntry(line) {
  const entry = make(null, 'li', 'entry')
  entry.line = line
  entry.dataset.uid = line.uid
  if (line.severity) entry.dataset.severity = line.severity
  const row = make(entry, 'div', 'row')
  const time = make(row, 'time', '', clock.format(line.time))
  time.dateTime = time.title = new Date(line.time).toISOString()
  write(make(row, 'span', 'who'), line.host)
  write(make(row, 'span', 'program'), line.program ?? '')
  writeLine(make(row, 'span', 'text'), line.text, true)
  row.addEventListener('click', () => {
    if (getSelection().isCollapsed) { move(entry); toggle(entry) }
  })
  return entry
}

function showLines(found, fresh) {
  findWanted()
  const list = $('lines')
  if (fresh) { list.replaceChildren(); shown = new Map() }
  const had = [...shown.values()]
  for (const line of found.lines) if (!shown.has(line.uid)) shown.set(line.uid, makeEntry(line))
  // The answer's order; what live has brought meanwhile stays before it.
  const order = new Map(found.lines.map((line, i) => [line.uid, i]))
  const newer = had.filter(e => !order.has(e.line.uid) && (!found.lines.length || e.line.time >= found.lines[0].time))
  const older = had.filter(e => !order.has(e.line.uid) && !newer.includes(e))
  list.replaceChildren(...newer, ...found.lines.map(line => shown.get(line.uid)), ...older)
  separateDays()
  $('older').hidden = !found.more || limit >= most
  $('empty').hidden = shown.size > 0
  $('empty').textContent = state.q || state.from || state.to
    ? 'No line matches.'
    : 'Nothing is stored yet. Lines appear here the moment a sender’s are stored.'
  list.dataset.complete = String(found.complete)
  showStatus()
  if (!found.complete) $('status').textContent += ' · the search was cut off: choose a shorter time'
}

function separateDays() {
  const list = $('lines')
  for (const old of list.querySelectorAll('.day')) old.remove()
  let last = shown.size ? day.format(Date.now()) : '' // today needs no title
  for (const entry of [...list.children]) {
    const name = day.format(entry.line.time)
    if (name === last) continue
    const title = make(null, 'li', 'day', name)
    entry.before(title)
    last = name
  }
}

function showStatus() {
  const n = hist ? hist.total : shown.size
  const least = hist && !hist.complete ? 'at least ' : ''
  $('status').textContent = `${least}${count(n)} ${n === 1 ? 'line' : 'lines'}`
}

function showProblem(err) {
  const box = $('problem')
  box.hidden = false
  box.textContent = err.position ? `The query is not understood: ${err.message}` : `It did not work: ${err.message}`
  if (err.position) {
    const before = [...state.q].slice(0, err.position - 1).join('')
    make(box, 'pre', '', `${state.q}\n${before.replace(/[^\t]/g, ' ')}^`)
  }
  $('status').textContent = ''
  $('lines').replaceChildren()
  shown = new Map()
  $('older').hidden = $('empty').hidden = true
}

// ---- a line in full

async function toggle(entry) {
  const open = entry.querySelector('.detail')
  if (open) {
    open.remove()
    if (!reading() && waiting.length) flush()
    return
  }
  const box = make(entry, 'div', 'detail')
  try {
    const answer = await fetch('/api/line?' + new URLSearchParams({ uid: entry.dataset.uid }))
    const line = await answer.json()
    if (!answer.ok) throw new Error(line.error)
    showDetail(box, line)
  } catch (err) {
    box.textContent = err.message
  }
}

function showDetail(box, line) {
  const acts = make(box, 'div', 'acts')
  const around = make(acts, 'a', '', 'Lines around it')
  around.href = '?' + new URLSearchParams({
    q: 'sid:' + line.sid, from: new Date(line.time - 5000).toISOString(), to: new Date(line.time + 5000).toISOString(),
  })
  const copy = make(acts, 'button', '', 'Copy')
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(line.text)
    copy.textContent = 'Copied'
  })
  const raw = make(acts, 'a', '', `Download (${bytes(line.size)})`)
  raw.href = '/api/raw?' + new URLSearchParams({ uid: line.uid })
  raw.download = ''
  const table = make(box, 'table')
  for (const { name, value } of line.fields) addField(table, name, value)
  addField(table, 'host', line.sender, 'sent by')
  addField(table, 'sid', line.sid, 'stream')
  addField(table, 'uid', line.uid, 'UID')
  const stored = make(table, 'tr')
  make(stored, 'td', '', 'queued')
  make(stored, 'td', '', new Date(line.time).toISOString())
  make(stored, 'td')
  writeLine(make(box, 'pre'), line.text)
  if (line.cut) make(box, 'p', '', 'This is the beginning of the line; download it to see all.')
}

function addField(table, name, value, label) {
  const tr = make(table, 'tr')
  write(make(tr, 'td'), label ?? name)
  const cell = make(tr, 'td'), acts = make(tr, 'td')
  if (!/^[\p{L}_@][\p{L}\p{N}_@.-]*$/u.test(name) || value.length > 1000) return write(cell, value)
  const only = make(cell, 'button', 'value')
  write(only, value)
  only.title = 'Only lines with this value'
  for (const [sign, without, title] of [['+', false, 'Only lines with this value'], ['−', true, 'Only lines without this value']]) {
    const button = make(acts, 'button', '', sign)
    button.title = title
    button.setAttribute('aria-label', title)
    button.addEventListener('click', () => filter(name, value, without))
    acts.append(' ')
  }
  only.addEventListener('click', () => filter(name, value, false))
}

// ---- filters

// term is the query for a value: as somebody has typed it, if it is there so.
function term(name, value, without) {
  const whole = makeTerm(name, value, without, ':='), typed = makeTerm(name, value, without, ':')
  return has(typed) ? typed : name === 'sid' || name === 'uid' || name === 'severity' ? typed : whole
}

function makeTerm(name, value, without, operator) {
  const bare = /^[\p{L}\p{N}_./][\p{L}\p{N}_./-]*$/u.test(value)
  const text = bare ? value : '"' + value.replace(/[\\"]/g, '\\$&') + '"'
  return (without ? '-' : '') + name + operator + text
}

// has finds a term of the query as a whole.
const has = t => (' ' + state.q + ' ').includes(' ' + t + ' ')

function filter(name, value, without) {
  const wantedTerm = term(name, value, without), opposite = term(name, value, !without)
  let q = ' ' + state.q + ' '
  const had = has(wantedTerm)
  for (const t of [wantedTerm, opposite]) q = q.replace(' ' + t + ' ', () => ' ')
  q = q.trim()
  if (!had) q = (/\bOR\b/.test(q) && !/^\(.*\)$/.test(q) ? `(${q})` : q) + ' ' + wantedTerm
  scrollTo(0, 0)
  go({ q: q.trim() })
}

function showFacets(found) {
  const box = $('facets')
  box.replaceChildren()
  for (const [name, title] of [['host', 'Host'], ['program', 'Program'], ['severity', 'Severity']]) {
    const values = found.facets[name]
    for (const without of [false, true]) { // what is excluded has no lines, but must be seen
      for (const [, value] of state.q.matchAll(new RegExp(`(?:^| )${without ? '-' : ''}${name}:=?([^\\s"()*]+)`, 'g'))) {
        if (!values.some(f => f.value === value)) values.push({ value, count: 0 })
      }
    }
    if (!values.length) continue
    make(box, 'h3', '', title)
    for (const { value, count: n } of values) {
      const row = make(box, 'div')
      const on = has(term(name, value, false)), off = has(term(name, value, true))
      row.className = on ? 'on' : off ? 'off' : ''
      const pick = make(row, 'button', 'pick')
      pick.setAttribute('aria-pressed', String(on))
      write(make(pick, 'b'), value)
      make(pick, 'small', '', n ? count(n) : '')
      pick.addEventListener('click', () => filter(name, value, off))
      const without = make(row, 'button', 'without', '−')
      without.title = 'Only lines without this value'
      without.setAttribute('aria-label', `Without ${value}`)
      without.addEventListener('click', () => filter(name, value, true))
    }
  }
  if (found.facetsOf >= 1000) make(box, 'p', '', `of the newest ${count(found.facetsOf)} lines`)
}

// ---- the histogram

const short = (ms, width) => new Intl.DateTimeFormat('en-GB', width >= 86400e3
  ? { day: 'numeric', month: 'short' }
  : width >= 1800e3 || span() > 86400e3
    ? { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }
    : { hour: '2-digit', minute: '2-digit', second: width < 60e3 ? '2-digit' : undefined }).format(ms)
const span = () => hist.width * hist.counts.length

function showHistogram() {
  const bars = $('bars'), axis = $('axis')
  bars.replaceChildren()
  axis.replaceChildren()
  const n = hist.counts?.length ?? 0
  $('histogram').hidden = n === 0
  const highest = Math.max(1, ...(hist.counts ?? []))
  for (let i = 0; i < n; i++) {
    const bar = make(bars, 'span')
    if (hist.since && hist.from + (i + 1) * hist.width <= hist.since) bar.className = 'unknown'
    const fill = make(bar, 'i')
    if (hist.counts[i]) fill.style.height = `max(2px, ${hist.counts[i] / highest * 100}%)`
  }
  const labels = innerWidth < 760 ? 2 : 5
  for (let i = 0; i <= labels && n; i++) {
    const label = make(axis, 'span', '', short(hist.from + span() * i / labels, hist.width))
    label.style.left = `${i / labels * 100}%`
  }
  showStatus()
}

function barAt(x) {
  const box = $('bars').getBoundingClientRect()
  return Math.max(0, Math.min(hist.counts.length - 1, Math.floor((x - box.left) / box.width * hist.counts.length)))
}

let dragFrom = null

function point(event) {
  if (!hist?.counts?.length) return
  const at = barAt(event.clientX)
  const [a, b] = dragFrom === null ? [at, at] : [Math.min(at, dragFrom), Math.max(at, dragFrom)]
  ;[...$('bars').children].forEach((bar, i) => bar.classList.toggle('picked', dragFrom !== null && a <= i && i <= b))
  const n = hist.counts.slice(a, b + 1).reduce((x, y) => x + y, 0)
  const exact = ms => new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(ms)
  $('pointed').textContent = `${exact(hist.from + a * hist.width)} – ${exact(hist.from + (b + 1) * hist.width)}: ${count(n)}`
  return [a, b]
}

$('bars').addEventListener('pointerdown', event => {
  if (event.button || !hist?.counts?.length) return
  dragFrom = barAt(event.clientX)
  $('bars').setPointerCapture(event.pointerId)
  point(event)
})
$('bars').addEventListener('pointermove', point)
$('bars').addEventListener('pointerup', event => {
  if (dragFrom === null) return
  const [a, b] = point(event)
  dragFrom = null
  if (hist.width <= 1000 && a === b) return point(event) // no narrower bar
  go({
    from: new Date(hist.from + a * hist.width).toISOString(),
    to: new Date(hist.from + (b + 1) * hist.width).toISOString(),
  })
})
$('bars').addEventListener('pointercancel', () => { dragFrom = null })
$('bars').addEventListener('pointerleave', () => { if (dragFrom === null) $('pointed').textContent = '' })

// ---- controls and keys

$('form').addEventListener('submit', event => {
  event.preventDefault()
  $('q').blur()
  go({ q: $('q').value.trim() })
})
$('q').addEventListener('search', () => { if (!$('q').value && state.q) go({ q: '' }) })
$('range').addEventListener('change', () => { if ($('range').value !== 'custom') go({ from: $('range').value, to: '' }) })
$('live').addEventListener('click', () => go({ live: !state.live }, true))
$('reset').addEventListener('click', () => go({ from: '', to: '' }))
$('new').addEventListener('click', () => {
  for (const open of document.querySelectorAll('.detail')) open.remove()
  scrollTo(0, 0)
  flush()
})
$('older').addEventListener('click', () => {
  limit = Math.min(most, limit + 3 * page)
  loadLines(loading.signal, false)
})
$('filters').addEventListener('click', () => {
  const open = $('facets').classList.toggle('open')
  $('filters').setAttribute('aria-expanded', String(open))
})
$('help').addEventListener('click', () => $('helpbox').showModal())
addEventListener('scroll', () => { if (waiting.length && !reading()) flush() }, { passive: true })
addEventListener('popstate', () => { readAddress(); load() })
addEventListener('resize', () => { if (hist) showHistogram() })

function move(entry) {
  current?.classList.remove('current')
  current = entry
  if (!entry) return
  entry.classList.add('current')
  entry.scrollIntoView({ block: 'nearest' })
}

function step(by) {
  const entries = [...document.querySelectorAll('.entry')]
  const at = entries.indexOf(current)
  if (entries.length) move(entries[Math.max(0, Math.min(entries.length - 1, at < 0 ? 0 : at + by))])
}

const keys = {
  '/': () => { $('q').focus(); $('q').select() },
  j: () => step(1),
  k: () => step(-1),
  Enter: () => current?.isConnected && toggle(current),
  l: () => $('live').click(),
  g: () => { scrollTo(0, 0); move(document.querySelector('.entry')) },
  '?': () => $('helpbox').showModal(),
  Escape: () => move(null),
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('helpbox').open) return
  if (event.target.closest?.('input, select, textarea')) {
    if (event.key === 'Escape') event.target.blur()
    return
  }
  if (event.key === 'Enter' && event.target.closest?.('button, a')) return
  if (!Object.hasOwn(keys, event.key)) return
  event.preventDefault()
  keys[event.key]()
})

readAddress()
load()
