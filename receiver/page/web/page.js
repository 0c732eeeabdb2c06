// The page: loads what the address asks for, and shows it.

import { $, make, plural } from './dom.js'
import { state, readAddress, go, whenChanged, ask } from './address.js'
import { mark } from './text.js'
import { showLines, add, clear, forget, lines } from './list.js'
import { showFacets } from './filters.js'
import { room, showHistogram } from './histogram.js'
import { showHealth } from './health.js'
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
let stale = false   // the histogram lacks live lines

async function load() {
  loading?.abort()
  const { signal } = loading = new AbortController()
  showControls()
  limit = first
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
    mark(state.q)
    if (fresh) clear()
    showLines(found.lines)
    $('lines').dataset.complete = String(found.complete)
    $('older').hidden = !found.more || limit >= most
    showFacets(found)
    showStatus()
    if (!found.complete) $('status').textContent += ' · the search was cut off: choose a shorter time'
  } catch (err) {
    if (!signal.aborted) showProblem(err)
  }
}

async function loadHistogram(signal) {
  stale = false
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
  if (!state.live || state.to) return Promise.resolve()
  source = new EventSource('/api/tail?' + new URLSearchParams({ q: state.q }))
  signal.addEventListener('abort', () => source?.close(), { once: true })
  let connected = 0
  return new Promise(done => {
    source.addEventListener('ready', () => {
      $('live').dataset.state = 'open'
      if (connected++ || lines()) loadLines(signal, false) // what came in between
      done()
    })
    source.addEventListener('lines', event => {
      const found = JSON.parse(event.data)
      stale = true
      add(found.lines, found.skipped)
      if (!searches) showStatus()
    })
    source.onerror = () => { $('live').dataset.state = ''; done() }
  })
}

function showStatus() {
  $('empty').textContent = state.q || state.from || state.to ? 'No line matches.'
    : `${searches ? 'Nothing is stored yet' : 'No line has come since wsreceive began'}. Lines appear here the moment a sender’s are stored.`
  if (!searches) $('status').textContent = `the newest ${plural(lines(), 'line')}`
  else $('status').textContent = (total && !total.complete ? 'at least ' : '') + plural(total ? total.total : lines(), 'line')
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
  clear()
  $('older').hidden = $('empty').hidden = true
}

async function loadHealth() {
  try {
    showHealth(await ask('/api/health'))
  } catch {
    $('health').replaceChildren(make(null, 'p', 'bad', 'wsreceive does not answer.'))
  }
}

setInterval(() => {
  if (document.hidden) return
  if (!searches) loadHealth()
  else if (stale && loading) loadHistogram(loading.signal)
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
if (!searches) loadHealth()
load()
