// The page: loads what the address asks for, and shows it.

import { $, make, plural } from './dom.js'
import { state, readAddress, go, whenChanged, ask } from './address.js'
import { mark, write } from './text.js'
import { showTable } from './table.js'
import { showLines, add, clear, forget, lines } from './list.js'
import { showFacets } from './filters.js'
import { room, showHistogram } from './histogram.js'
import { showHealth } from './health.js'
import { loadFleet, showHome } from './fleet.js'
import './keys.js'

const first = 200, most = 5000 // lines: at first, and by "older"
const pause = 3000             // ms, until histogram and health are looked at again

// Whether the store can be searched; if not, there are the newest lines, and how
// the receiver does.
const searches = document.documentElement.dataset.searches !== 'no'

let limit = first
let source = null   // of live lines
let loading = null  // aborts what is being loaded
let total = null    // of the histogram's answer
let beats = 0       // of the clock that looks at health
let stale = 0       // how often the histogram is to be loaded for live lines; a search finds them later than they come

async function load() {
  loading?.abort()
  const { signal } = loading = new AbortController()
  showControls()
  showHome()
  limit = first
  mark(state.q)
  forget()
  $('status').textContent = 'Searching…'
  const ready = follow(signal)
  if (searches) loadHistogram(signal)
  await Promise.race([ready, new Promise(done => setTimeout(done, 400))])
  if (!signal.aborted) loadLines(signal, true)
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

async function loadLines(signal, fresh) {
  try {
    const found = await ask('/api/search', { limit }, signal)
    $('problem').hidden = true
    if (fresh) clear()
    showRan(found.logsql)
    showTable(found.table)
    if (found.table) return showTableStatus(found)
    showLines(found.lines)
    $('lines').dataset.complete = String(found.complete)
    $('older').hidden = !found.more || limit >= most
    showFacets(found)
    showStatus()
    if (!found.complete) $('status').textContent += ' · these lines are very long: choose a shorter time to see the others'
  } catch (err) {
    if (!signal.aborted) showProblem(err)
  }
}

// showRan shows the LogsQL that was run, if it is not what was typed; of one that
// is wrong, up to where it was understood, and behind a sign the rest.
function showRan(logsql, understood) {
  mark('')
  $('ran').hidden = !logsql || !state.q || (logsql === state.q && understood === undefined)
  $('ran').replaceChildren('LogsQL: ')
  write($('ran'), (logsql ?? '').slice(0, understood))
  if (understood !== undefined) {
    make($('ran'), 'b', 'here', ' ▶ ')
    write($('ran'), logsql.slice(understood))
  }
  mark(state.q)
}

function showTableStatus(found) {
  source?.close() // lines that come are no rows of it
  $('live').dataset.state = ''
  $('facets').replaceChildren()
  $('older').hidden = $('empty').hidden = true
  clear()
  const n = found.table.rows.length
  $('status').textContent = n === 1 ? '1 row' : (found.more ? 'the first ' : '') + `${n} rows`
  if (found.more) $('status').textContent += ' · wsreceive search shows them all'
}

async function loadHistogram(signal) {
  try {
    const found = await ask('/api/histogram', { bars: room() }, signal)
    total = found
    showHistogram(found)
    showStatus()
  } catch {
    if (!signal.aborted) { total = null; showHistogram(null) }
  }
}

// follow opens the live view, if it is wanted; what it gives is done when
// nothing that is stored from then on is missed.
function follow(signal) {
  source?.close()
  source = null
  $('live').dataset.state = ''
  $('lost').hidden = true
  if (!state.live || state.to) return Promise.resolve()
  source = new EventSource('/api/tail?' + new URLSearchParams({ q: state.q }))
  signal.addEventListener('abort', () => source?.close(), { once: true })
  let connected = 0
  return new Promise(done => {
    source.addEventListener('ready', () => {
      $('live').dataset.state = 'open'
      $('lost').hidden = true
      if (connected++ || lines()) loadLines(signal, false) // what came in between
      done()
    })
    source.addEventListener('lines', event => {
      const found = JSON.parse(event.data)
      stale = 2
      add(found.lines, found.skipped)
      if (!searches) showStatus()
    })
    source.onerror = () => { $('live').dataset.state = ''; $('lost').hidden = signal.aborted; done() }
  })
}

function showStatus() {
  $('empty').textContent = state.q || state.from || state.to ? 'No line matches.'
    : `${searches ? 'Nothing is stored yet' : 'No line has come since wsreceive began'}. Lines appear here the moment a sender’s are stored.`
  if (!searches) $('status').textContent = `the newest ${plural(lines(), 'line')}`
  else $('status').textContent = plural(total ? total.total : lines(), 'line')
}

function showProblem(err) {
  const box = $('problem')
  box.hidden = false
  box.replaceChildren(err.logsql ? 'The query is not understood: ' : 'It did not work: ')
  write(box, err.message)
  showRan(err.logsql, err.understood)
  showTable(null)
  $('status').textContent = ''
  clear()
  $('older').hidden = $('empty').hidden = true
}

async function loadHealth() {
  try {
    showHealth(await ask('/api/health'))
  } catch (err) {
    if (err.status === 404) return
    $('health').classList.add('unready')
    $('health').replaceChildren(make(null, 'p', 'bad', 'wsreceive does not answer.'))
  }
}

setInterval(() => {
  if (document.hidden) return
  loadHealth()
  if (++beats % 3 === 0) loadFleet()
  if (searches && stale && loading) { stale--; loadHistogram(loading.signal) }
}, pause)

$('form').addEventListener('submit', event => {
  event.preventDefault()
  $('q').blur()
  go({ q: $('q').value.trim() })
})
$('q').addEventListener('search', () => { if (!$('q').value && state.q) go({ q: '' }) })
$('range').addEventListener('change', () => { if ($('range').value !== 'custom') go({ from: $('range').value, to: '' }) })
$('live').addEventListener('click', () => go({ live: !state.live }, true))
$('reset').addEventListener('click', () => go({ from: '', to: '' }))
$('older').addEventListener('click', () => {
  limit = Math.min(most, limit + 3 * first)
  loadLines(loading.signal, false)
})
$('filters').addEventListener('click', () => {
  const open = $('facets').classList.toggle('open')
  $('filters').setAttribute('aria-expanded', String(open))
})
$('help').addEventListener('click', () => $('helpbox').showModal())

whenChanged(load)
readAddress()
loadHealth()
loadFleet()
load()
