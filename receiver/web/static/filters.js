// The filters: what there is to choose from, and how a choice becomes part of the
// query.

import { $, make, count } from './dom.js'
import { state, go } from './address.js'
import { write } from './text.js'

// quote writes a string of LogsQL.
const quote = text => JSON.stringify(text)

// term is the query for lines with a value, or without it.
export function term(name, value, without) {
  return (without ? '-' : '') + (/^[a-z_][a-z0-9_.]*$/i.test(name) ? name : quote(name)) + ':=' + quote(value)
}

function unquote(text) {
  try { return JSON.parse(text) } catch { return '' }
}

// split gives the filter of the query, and its pipes: what follows the first | that
// is not quoted.
const split = q => q.match(/^((?:"(?:[^"\\]|\\.)*"|[^"|])*)([^]*)$/).slice(1)

// has finds a term of the query as a whole.
const has = t => (' ' + state.q + ' ').includes(' ' + t + ' ')

export function filter(name, value, without) {
  const wantedTerm = term(name, value, without), opposite = term(name, value, !without)
  const [lines, pipes] = split(state.q)
  let q = ' ' + lines.trim() + ' '
  const had = has(wantedTerm)
  for (const t of [wantedTerm, opposite]) q = q.replace(' ' + t + ' ', () => ' ')
  q = q.trim()
  if (!had) q = (/\bor\b/i.test(q) && !/^\(.*\)$/.test(q) ? `(${q})` : q) + ' ' + wantedTerm
  go({ q: (q.trim() + ' ' + pipes).trim(), by: [], around: '', at: '', n: '' })
  scrollTo(0, 0)
}

// both gives a query for the lines of q that have this value, too.
export function both(q, name, value) {
  const [lines, pipes] = split(q)
  const had = lines.trim()
  return `${/\bor\b/i.test(had) && !/^\(.*\)$/.test(had) ? `(${had})` : had} ${term(name, value)} ${pipes}`.trim()
}

export function showFacets(found, named) {
  const box = $('facets')
  box.replaceChildren()
  for (const [name, title] of [['host', 'Host'], ['program', 'Program'], ['level', 'Level']]) {
    const values = found.facets[name]
    for (const without of [false, true]) { // what is excluded has no lines, but must be seen
      for (const [, value] of state.q.matchAll(new RegExp(`(?:^| )${without ? '-' : ''}${name}:=("(?:[^"\\\\]|\\\\.)*")`, 'g'))) {
        const plain = unquote(value)
        if (plain && !values.some(f => f.value === plain)) values.push({ value: plain, count: 0 })
      }
    }
    if (!values.length) continue
    named(make(box, 'h2'), name, title)
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
  if (found.facetsOf >= 1000) make(box, 'p', '', `Counted in the ${state.order === 'oldest' ? 'oldest' : 'newest'} ${count(found.facetsOf)} lines. Choose a name above to count in all.`)
}
