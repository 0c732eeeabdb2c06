// What every part of the page uses.

export const $ = id => document.getElementById(id)

// make adds an element to parent, which may be null.
export function make(parent, tag, className, text) {
  const el = document.createElement(tag)
  if (className) el.className = className
  if (text !== undefined) el.textContent = text
  parent?.append(el)
  return el
}

export const count = n => n.toLocaleString('en')
export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? '' : 's'}`
export const bytes = n => n < 1024 ? `${n} bytes` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`
