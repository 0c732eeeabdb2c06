// The lines counted by the values of fields.

import { $, make, count, plural } from './dom.js'
import { state, go, question, ask } from './address.js'
import { write } from './text.js'
import { both } from './filters.js'
import { named, share } from './field.js'

// showGroups loads and shows them.
export async function showGroups(signal) {
  const box = $('groups')
  $('groupsum').textContent = 'Counting…'
  box.replaceChildren()
  if (document.documentElement.dataset.searches === 'no') {
    $('groupsum').textContent = 'Here are only the newest lines: count in the store, where all are.'
    return
  }
  try {
    const p = question({ limit: 1000 })
    for (const name of state.by) p.append('by', name)
    const found = await ask('/api/groups', p, signal)
    $('groupsum').textContent = `${plural(found.lines, 'line')}, ${found.more ? 'the 1,000 most frequent values' : plural(found.groups.length, state.by.length > 1 ? 'combination' : 'value')} of `
    state.by.forEach((name, i) => { if (i) $('groupsum').append(', '); named($('groupsum'), name) })
    const table = make(box, 'table'), head = make(make(table, 'thead'), 'tr'), body = make(table, 'tbody')
    for (const name of found.by) write(make(head, 'th'), name)
    make(head, 'th', 'num', 'Lines')
    make(head, 'th', 'num', 'Share')
    make(head, 'th', '', '').append(make(null, 'span', 'sr', 'Show them'))
    const highest = found.groups[0]?.count ?? 1
    for (const group of found.groups) addGroup(body, group, found, highest)
  } catch (err) {
    if (signal.aborted) return
    $('groupsum').replaceChildren()
    write($('groupsum'), err.message)
  }
}

function addGroup(body, { values, count: n }, { by, lines }, highest) {
  const tr = make(body, 'tr')
  for (const value of values) {
    const cell = make(tr, 'td')
    if (value) write(cell, value)
    else make(cell, 'i', '', 'none')
  }
  make(tr, 'td', 'num', count(n))
  const cell = make(tr, 'td', 'num', share(n, lines)), acts = make(tr, 'td')
  make(cell, 'i', 'part').style.width = `${n / highest * 100}%`
  const only = make(acts, 'button', '', 'Lines')
  only.type = 'button'
  only.setAttribute('aria-label', `Lines with ${values.join(', ')}`)
  only.addEventListener('click', () => go({ q: by.reduce((q, name, i) => both(q, name, values[i]), state.q), by: [] }))
}

$('groupmore').addEventListener('click', () => $('fields').click())
$('groupback').addEventListener('click', () => {
  if (history.state?.inside) history.back()
  else go({ by: [] })
})
