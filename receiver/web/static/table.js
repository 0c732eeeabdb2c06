// What pipes of a query made of lines.

import { $, make } from './dom.js'
import { write } from './text.js'

// showTable shows a table; without one, none.
export function showTable(found) {
  const box = $('table')
  box.replaceChildren()
  if (!found) return
  const table = make(box, 'table'), head = make(make(table, 'thead'), 'tr'), body = make(table, 'tbody')
  for (const name of found.columns ?? []) write(make(head, 'th'), name)
  for (const row of found.rows) {
    const tr = make(body, 'tr')
    for (const value of row) write(make(tr, 'td'), value)
  }
}
