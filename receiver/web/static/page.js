// The page: loads what the address asks for, and shows it.

import { $, make, plural, count } from './dom.js'
import { state, readAddress, address, go, remember, question, whenChanged, ask } from './address.js'
import { zone } from './time.js'
import { mark, write } from './text.js'
import { showTable } from './table.js'
import { showLines, showHeads, add, clear, forget, lines } from './list.js'
import { showFacets } from './filters.js'
import { named } from './field.js'
import { showAround } from './around.js'
import { showGroups } from './group.js'
import { room, showHistogram } from './histogram.js'
import { showHealth } from './health.js'
import { loadFleet, showHome } from './fleet.js'
import { showRange } from './range.js'
import './keys.js'

const first = 200, most = 5000 // lines: at first, and by "older"
const pause = 3000             // ms, until histogram and health are looked at again

// Whether the store can be searched; if not, there are the newest lines, and how
// the receiver does.
const searches = document.documentElement.dataset.searches !== 'no'

let view = ''       // lines, around or groups
let listed = null   // what the list has been loaded for
let scrolled = 0    // how far the list is
let limit = first
let source = null   // of live lines
let loading = null  // aborts the loading of the list
let looking = null  // and that of another view
let total = null    // of the histogram's answer
let counting = ''   // why there is none
let beats = 0       // of the clock that looks at health
let away = false    // wsreceive does not answer
let stale = 0       // how often the histogram is to be loaded for live lines; a search finds them later than they come

// show shows what the address asks for. Back from another view the list is as it was.
function show(back) {
  looking?.abort()
  looking = new AbortController()
  showControls()
  showHome()
  const before = view, wanted = question() + ' ' + state.live + state.zone
  view = state.around ? 'around' : state.by.length ? 'groups' : 'lines'
  $('list').hidden = $('options').hidden = view !== 'lines'
  $('around').hidden = view !== 'around'
  $('grouped').hidden = view !== 'groups'
  document.body.dataset.view = view
  if (view === 'around') return showAround(looking.signal)
  if (view === 'groups') {
    loadHistogram(looking.signal)
    return showGroups(looking.signal)
  }
  if (wanted === listed) return before === 'lines' || scrollTo(0, scrolled)
  listed = wanted
  load(back)
}

async function load(back) {
  loading?.abort()
  const { signal } = loading = new AbortController()
  limit = back && history.state?.limit || first
  mark(state.q)
  forget()
  $('status').textContent = 'Searching…'
  const ready = follow(signal)
  if (searches) loadHistogram(signal)
  await Promise.race([ready, new Promise(done => setTimeout(done, 400))])
  if (signal.aborted) return
  await loadLines(signal, true)
  if (back && !signal.aborted && view === 'lines') scrollTo(0, history.state?.y ?? 0)
}

// live tells whether new lines are wanted: they are for the top of the newest.
const live = () => state.live && !state.to && state.order !== 'oldest'

function showControls() {
  $('q').value = state.q
  showRange()
  $('reset').hidden = !state.from && !state.to
  $('live').disabled = Boolean(state.to) || state.order === 'oldest'
  $('live').setAttribute('aria-pressed', String(live()))
  $('order').setAttribute('aria-pressed', String(state.order === 'oldest'))
  $('compact').setAttribute('aria-pressed', String(Boolean(state.compact)))
  $('older').textContent = state.order === 'oldest' ? 'Show newer lines' : 'Show older lines'
  document.body.classList.toggle('compact', Boolean(state.compact))
  $('zone').textContent = zone.title()
  for (const format of ['ndjson', 'csv']) $(format).href = '/api/download?' + question({ format })
  showHeads(named, name => go({ column: state.column.filter(other => other !== name) }))
  document.title = (state.q || 'Logs') + ' · wsreceive'
}

async function loadLines(signal, fresh) {
  try {
    const found = await ask('/api/search', question({ limit }), signal)
    away = false
    $('problem').hidden = true
    if (fresh) clear()
    showRan(found.logsql)
    showTable(found.table)
    if (found.table) return showTableStatus(found)
    showLines(found.lines)
    $('lines').dataset.complete = String(found.complete)
    $('older').hidden = !found.more || limit >= most
    showFacets(found, named)
    showStatus()
    showLimits(found)
  } catch (err) {
    if (!signal.aborted) showProblem(err)
  }
}

// showLimits says what is not shown of what was found.
function showLimits({ complete, more }) {
  $('limits').textContent = !complete ? 'These lines are very long: choose a shorter time to see the others.'
    : more && limit >= most ? `Only the ${state.order === 'oldest' ? 'oldest' : 'newest'} ${count(most)} are listed: choose a shorter time, or download all.` : ''
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
  $('limits').textContent = ''
  clear()
  const n = found.table.rows.length
  $('status').textContent = n === 1 ? '1 row' : (found.more ? 'the first ' : '') + `${n} rows`
  if (found.more) $('status').textContent += ' · download them to see all'
}

async function loadHistogram(signal) {
  try {
    const found = await ask('/api/histogram', question({ bars: room() }), signal)
    total = found
    counting = ''
    showHistogram(found)
    showStatus()
  } catch (err) {
    if (signal.aborted) return
    total = null
    counting = err.message
    showHistogram(null)
    showStatus()
  }
}

// follow opens the live view, if it is wanted; what it gives is done when
// nothing that is stored from then on is missed.
function follow(signal) {
  source?.close()
  source = null
  $('live').dataset.state = ''
  $('lost').hidden = true
  if (!live()) return Promise.resolve()
  source = new EventSource('/api/tail?' + question())
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
  const asked = state.q || state.from || state.to
  $('empty').textContent = searches
    ? asked ? 'No line matches.' : 'Nothing is stored yet. Lines appear here the moment a sender’s are stored.'
    : asked ? 'Of the newest lines, which wsreceive keeps in memory, none matches. Older ones can be searched in the store.'
      : 'No line has come since wsreceive began. Lines appear here the moment a sender’s are stored.'
  if (!searches) $('status').textContent = `${plural(lines(), 'line')} of the newest, which wsreceive keeps in memory`
  else if (counting) $('status').textContent = `${plural(lines(), 'line')} listed; they could not be counted: ${counting}`
  else $('status').textContent = plural(total ? total.total : lines(), 'line')
}

// showProblem says why there is no answer. What is listed without one is not an
// answer: it goes, or is called old.
function showProblem(err) {
  const box = $('problem')
  box.hidden = false
  if (away = Boolean(err.away)) {
    box.replaceChildren(err.message, ' What stands here is from before; it is tried again.')
    $('status').textContent = 'not up to date'
    $('empty').hidden = true
    return
  }
  box.replaceChildren(err.logsql ? 'The query is not understood: ' : 'It did not work: ')
  write(box, err.message)
  showRan(err.logsql, err.understood)
  showTable(null)
  $('status').textContent = $('limits').textContent = ''
  clear()
  $('older').hidden = $('empty').hidden = true
}

async function loadHealth() {
  try {
    showHealth(await ask('/api/health', new URLSearchParams()))
  } catch (err) {
    $('health').classList.toggle('unready', err.status !== 404) // there is no receiver here
    $('health').replaceChildren(make(null, 'p', 'bad', err.status === 404 ? '' : 'wsreceive does not answer.'))
    if (err.away) return
  }
  if (away && loading) loadLines(loading.signal, true)
}

setInterval(() => {
  if (document.hidden) return
  loadHealth()
  if (++beats % 3 === 0) loadFleet()
  if (searches && stale && loading && view === 'lines') { stale--; loadHistogram(loading.signal) }
}, pause)

$('form').addEventListener('submit', event => {
  event.preventDefault()
  $('q').blur()
  go({ q: $('q').value.trim(), around: '', at: '', n: '' })
})
$('q').addEventListener('search', () => { if (!$('q').value && state.q) go({ q: '' }) })
$('live').addEventListener('click', () => go({ live: !state.live }, true))
$('reset').addEventListener('click', () => go({ from: '', to: '' }))
$('order').addEventListener('click', () => go({ order: state.order ? '' : 'oldest' }))
$('compact').addEventListener('click', () => go({ compact: state.compact ? '' : '1' }, true))
$('zone').addEventListener('click', () => go({ zone: state.zone ? '' : 'UTC' }, true))
$('older').addEventListener('click', () => {
  limit = Math.min(most, limit + 3 * first)
  remember({ limit })
  loadLines(loading.signal, false)
})
$('filters').addEventListener('click', () => {
  const open = $('facets').classList.toggle('open')
  $('filters').setAttribute('aria-expanded', String(open))
})
$('help').addEventListener('click', () => $('helpbox').showModal())
addEventListener('scroll', () => { if (view === 'lines') scrolled = scrollY }, { passive: true })

history.scrollRestoration = 'manual'
whenChanged(show)
readAddress()
loadHealth()
loadFleet()
show(true)
