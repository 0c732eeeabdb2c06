// The fields: which there are, and the values of one over the whole time.

import { $, make, count, plural } from './dom.js'
import { state, go, question, ask } from './address.js'
import { write } from './text.js'
import { filter } from './filters.js'

const searches = document.documentElement.dataset.searches !== 'no'

let asking = null

function open(title) {
  asking?.abort()
  asking = new AbortController()
  const box = $('field')
  box.replaceChildren()
  $('fieldtitle').replaceChildren()
  write($('fieldtitle'), title)
  $('fieldsum').textContent = searches ? 'Searching…' : ''
  if (!$('fieldbox').open) $('fieldbox').showModal()
  return { box, signal: asking.signal }
}

function failed(err, signal) {
  if (signal.aborted) return
  $('fieldsum').replaceChildren()
  write($('fieldsum'), err.message)
}

// showFields lists the fields of all lines that match.
export async function showFields() {
  const { box, signal } = open('Fields')
  try {
    const found = await ask('/api/fields', undefined, signal)
    $('fieldsum').textContent = found.fields.length ? 'Choose one to see its values.' : 'No line matches, so there are no fields.'
    const list = make(box, 'ul', 'names')
    for (const { name, hits } of found.fields) {
      const item = make(make(list, 'li'), 'button', 'pick')
      item.type = 'button'
      write(make(item, 'b'), name)
      make(item, 'small', '', count(hits))
      item.addEventListener('click', () => showField(name))
    }
  } catch (err) { failed(err, signal) }
}

// showField shows the values that most lines have.
export async function showField(name) {
  const { box, signal } = open(name)
  const acts = make(box, 'div', 'acts')
  const act = (text, change) => {
    const button = make(acts, 'button', '', text)
    button.type = 'button'
    button.addEventListener('click', () => { $('fieldbox').close(); go(change) })
  }
  const column = state.column.filter(other => other !== name)
  if (column.length < state.column.length) act('Remove the column', { column })
  else act('Show as a column', { column: [...column, name], by: [] })
  if (!searches) return
  act('Count all values', { by: [name] })
  if (state.by.length && state.by.length < 3 && !state.by.includes(name)) act('Count together with ' + state.by.join(', '), { by: [...state.by, name] })
  try {
    const p = question({ limit: 10 })
    p.append('by', name)
    const found = await ask('/api/groups', p, signal)
    $('fieldsum').textContent = `${plural(found.having, 'line')} of ${count(found.lines)} ${found.having === 1 ? 'has' : 'have'} this field` +
      (state.from || state.to ? ' in the chosen time.' : '.') + (found.more ? ' The ten most frequent values:' : '')
    const table = make(box, 'table')
    for (const { values: [value], count: n } of found.groups) addValue(table, name, value, n, found.lines)
  } catch (err) { failed(err, signal) }
}

function addValue(table, name, value, n, of) {
  const tr = make(table, 'tr'), cell = make(tr, 'td')
  if (value) write(cell, value)
  else make(cell, 'i', '', 'without it')
  make(tr, 'td', 'num', count(n))
  make(tr, 'td', 'num', share(n, of))
  const acts = make(tr, 'td', 'num')
  for (const [sign, without, title] of [['+', false, 'Only lines with this value'], ['−', true, 'Only lines without this value']]) {
    const button = make(acts, 'button', '', sign)
    button.type = 'button'
    button.title = title
    button.setAttribute('aria-label', title)
    button.addEventListener('click', () => { $('fieldbox').close(); filter(name, value, without) })
    acts.append(' ')
  }
}

export const share = (n, of) => of ? (n / of * 100).toFixed(n / of < 0.1 ? 1 : 0) + ' %' : ''

// named gives a button with the name of a field, which shows its values.
export function named(parent, name, label) {
  const button = make(parent, 'button', 'name')
  button.type = 'button'
  button.title = 'Its values'
  write(button, label ?? name)
  button.addEventListener('click', () => showField(name))
  return button
}

$('fields').addEventListener('click', showFields)
$('allfields').addEventListener('click', showFields)
$('fieldbox').addEventListener('close', () => asking?.abort())
