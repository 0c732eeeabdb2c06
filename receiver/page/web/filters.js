// The filters: what there is to choose from, and how a choice becomes part of the
// query.

import { $, make, count } from './dom.js'
import { state, go } from './address.js'
import { write } from './text.js'

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

export function filter(name, value, without) {
  const wantedTerm = term(name, value, without), opposite = term(name, value, !without)
  let q = ' ' + state.q + ' '
  const had = has(wantedTerm)
  for (const t of [wantedTerm, opposite]) q = q.replace(' ' + t + ' ', () => ' ')
  q = q.trim()
  if (!had) q = (/\bOR\b/.test(q) && !/^\(.*\)$/.test(q) ? `(${q})` : q) + ' ' + wantedTerm
  scrollTo(0, 0)
  go({ q: q.trim() })
}

export function showFacets(found) {
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
