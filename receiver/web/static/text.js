// The text of strangers. Every text of a line goes through write(), which makes
// text nodes and never markup.

import { make } from './dom.js'

// What would be invisible, or would do something, is shown as what it is.
const odd = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/u

export function write(to, text, className) {
  if (!odd.test(text)) return void (text && writeMarked(to, text, className))
  let plain = ''
  const flushPlain = () => {
    if (!plain) return
    writeMarked(to, plain, className)
    plain = ''
  }
  for (const c of text) {
    if (c === '\t' || !odd.test(c)) { plain += c; continue }
    flushPlain()
    const code = c.codePointAt(0)
    const span = make(to, 'span', 'ctl')
    span.textContent = code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : code.toString(16).toUpperCase()
    span.title = 'U+' + code.toString(16).toUpperCase().padStart(4, '0')
    if (c === '\n' && to.tagName === 'PRE') plain = '\n'
  }
  flushPlain()
}

let wanted = null // what the query looks for, to be marked

function writeMarked(to, text, className) {
  const parent = className ? make(to, 'span', className) : to
  if (!wanted) return void parent.append(text)
  let at = 0
  for (const hit of text.matchAll(wanted)) {
    parent.append(text.slice(at, hit.index))
    make(parent, 'mark').textContent = hit[0]
    at = hit.index + hit[0].length
  }
  parent.append(text.slice(at))
}

// mark has the words of a query marked in what is written from now on.
export function mark(q) {
  const words = []
  const terms = /(-|!|NOT\s+)?((?:[\p{L}_@][\p{L}\p{N}_.@-]*|"(?:[^"\\]|\\.)*"):[=!~<>]*)?(?:"((?:[^"\\]|\\.)*)"|([^\s"()|]+)|(\|))/giu
  for (const [, minus, field, quoted, word, pipe] of q.matchAll(terms)) {
    if (pipe) break
    const text = quoted ?? word
    if (minus || field || /^(and|or|not|i)$/i.test(text)) continue
    const open = text.endsWith('*')
    const parts = text.replace(/\\(["\\])/g, '$1').match(/[\p{L}\p{N}]+/gu)
    if (parts) words.push(parts.join('[^\\p{L}\\p{N}]+') + (open ? '[\\p{L}\\p{N}]*' : ''))
  }
  wanted = words.length ? new RegExp(`(?<![\\p{L}\\p{N}])(?:${words.join('|')})(?![\\p{L}\\p{N}])`, 'giu') : null
}

// writeLine shows a line; one that is JSON in colours, and in a list without
// what only machines need.
const token = /("(?:[^"\\]|\\.)*"?)(\s*:)?|(-?\d[\d.eE+-]*|true|false|null)|([{}[\],:\s]+)|([^"{}[\],:\s\d-]+|.)/gsu

export function writeLine(to, text, inList) {
  if (text[0] !== '{') return write(to, text)
  for (const [, string, colon, number, punctuation, rest] of text.matchAll(token)) {
    if (string) {
      const bare = inList && /^"[^\s"\\]+"$/.test(string) ? string.slice(1, -1) : string
      write(to, bare, colon ? 'k' : 's')
      if (colon) write(to, inList ? '=' : colon, 'p')
    } else if (number) write(to, number, 'n')
    else if (punctuation) write(to, inList ? punctuation.replace(/[{}\s]/g, '').replace(/,/g, ' ') : punctuation, 'p')
    else write(to, rest)
  }
}
