// The lines around one: those of its host and program, before and after it.

import { $, make, plural } from './dom.js'
import { state, go, ask } from './address.js'
import { zone } from './time.js'
import { write } from './text.js'
import { makeEntry, move } from './list.js'

const few = 20, most = 500 // lines before and after it

// showAround loads and shows it.
export async function showAround(signal) {
  const list = $('near'), n = Math.min(most, Number(state.n) || few)
  $('nearsum').textContent = 'Searching…'
  list.replaceChildren()
  try {
    const p = new URLSearchParams({ uid: state.around, time: state.at, n })
    for (const name of state.column) p.append('column', name)
    const found = await ask('/api/around', p, signal)
    if (state.order !== 'oldest') found.lines.reverse()
    list.replaceChildren(...found.lines.map(makeEntry))
    const hit = [...list.children].find(entry => entry.line.uid === found.hit)
    hit.classList.add('hit')
    hit.setAttribute('aria-current', 'true')
    showSum(hit.line, found, n)
    move(hit)
    hit.scrollIntoView({ block: 'center' })
  } catch (err) {
    if (!signal.aborted) { $('nearsum').replaceChildren(); write($('nearsum'), err.message); $('nearmore').hidden = true }
  }
}

function showSum(line, found, n) {
  const sum = $('nearsum')
  sum.replaceChildren('Lines of ')
  write(make(sum, 'b'), line.host)
  if (line.program) { sum.append(', '); write(make(sum, 'b'), line.program) }
  sum.append(` around the marked one: ${plural(found.lines.length - 1, 'other')}, the ${state.order === 'oldest' ? 'oldest' : 'newest'} first, times in ${zone.title()}`)
  if (!found.complete) sum.append('. The lines are very long: only the next ones are shown')
  $('nearmore').hidden = !found.complete || n >= most || !(found.moreBefore || found.moreAfter)
}

$('nearmore').addEventListener('click', () => go({ n: Math.min(most, (Number(state.n) || few) * 5) }, true))
$('nearback').addEventListener('click', () => {
  if (history.state?.inside) history.back()
  else go({ around: '', at: '', n: '' })
})
