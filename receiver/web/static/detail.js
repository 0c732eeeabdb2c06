// A line in full, with its fields.

import { make, bytes } from './dom.js'
import { write, writeLine } from './text.js'
import { when, exact } from './time.js'
import { filter } from './filters.js'
import { named } from './field.js'
import { go, linkAround } from './address.js'

// showDetail fills box with a line in full.
export async function showDetail(box, { uid, time }) {
  try {
    const answer = await fetch('/api/line?' + new URLSearchParams({ uid, time }))
    const line = await answer.json()
    if (!answer.ok) throw new Error(line.error)
    showLine(box, line)
  } catch (err) {
    box.textContent = err.message
  }
}

function showLine(box, line) {
  const acts = make(box, 'div', 'acts')
  const around = make(acts, 'a', 'around', 'Around it')
  around.href = linkAround(line)
  around.title = 'The lines of this host and program before and after it'
  around.addEventListener('click', event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return
    event.preventDefault()
    go({ around: line.uid, at: line.time, n: '' })
  })
  const copy = make(acts, 'button', '', 'Copy')
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(line.text)
    copy.textContent = 'Copied'
  })
  const raw = make(acts, 'a', '', `Download (${bytes(line.here)})`)
  raw.href = '/api/raw?' + new URLSearchParams({ uid: line.uid, time: line.time })
  raw.download = ''
  const table = make(box, 'table')
  for (const { name, value } of line.fields) addField(table, name, value, name === 'wsrelay.sender' ? 'sent by' : undefined)
  addField(table, 'wsrelay.sid', line.sid, 'stream')
  for (const [name, text] of [['number', line.seq], ['UID', line.uid], ['its time', when(line.time, exact)], ['arrived', when(line.arrived, exact)]]) {
    const row = make(table, 'tr')
    make(row, 'td', '', name)
    make(row, 'td', '', text)
    make(row, 'td')
  }
  const message = line.fields.find(f => f.name === '_msg' && f.value.includes('\n'))
  if (message) writeLines(make(box, 'pre', 'message'), message.value)
  writeLine(make(box, 'pre'), line.text)
  if (line.cut) {
    make(box, 'p', '', `This is the beginning of the line; ${line.here < line.size ? 'all of it is in the store' : 'download it to see all'}.`)
  }
}

// writeLines shows a text of several lines, such as a traceback, as lines.
function writeLines(pre, text) {
  for (const line of text.split('\n')) {
    write(pre, line)
    pre.append('\n')
  }
}

function addField(table, name, value, label) {
  const tr = make(table, 'tr')
  named(make(tr, 'td'), name, label)
  const cell = make(tr, 'td'), acts = make(tr, 'td')
  if (value.length > 1000) return write(cell, value)
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
