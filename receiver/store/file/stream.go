package file

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"wsrelay/receiver"
)

// Bounds of what is remembered of one stream. Checksums are there to notice a
// sender that uses numbers a second time; lines that come again are recognised
// without them. When there are too many ranges, the lowest are forgotten: a line
// of them that came again would be new.
const (
	rememberLines  = 1 << 14 // checksums: 64 KiB
	rememberRanges = 1 << 10
)

// run is a range of consecutive numbers of one stream that are committed.
type run struct {
	SID  string `json:"sid"`
	Seq  uint64 `json:"seq"` // of the first
	N    uint64 `json:"n"`
	Sums sums   `json:"crc"` // of the last lines of it
}

func (r *run) end() uint64 { return r.Seq + r.N }

// sums are the CRC-32C of consecutive lines, 4 bytes each: base64 in JSON.
type sums []byte

func (s sums) append(sum uint32) sums { return binary.LittleEndian.AppendUint32(s, sum) }
func (s sums) len() uint64            { return uint64(len(s) / 4) }
func (s sums) at(i uint64) uint32     { return binary.LittleEndian.Uint32(s[4*i:]) }

// stream is what the store knows of one stream. A nil stream is one that is new.
type stream struct {
	owner string // see receiver.Owners
	runs  []run  // ascending, with at least one number between two of them
	lines uint64 // checksums in runs

	// fork is where a sender that was restored from an older copy uses numbers
	// again that are committed. The largest number: no such sender has a session.
	fork uint64
}

const noFork = ^uint64(0)

// begin notes that a session begins whose sender has given no number from head
// on.
func (st *stream) begin(head uint64) {
	st.fork = noFork
	if head < st.end() {
		st.fork = head
	}
}

// end is the number after the highest one that is committed; 0: none is.
func (st *stream) end() uint64 {
	if len(st.runs) == 0 {
		return 0
	}
	return st.runs[len(st.runs)-1].end()
}

// find gives the index of the first run that ends after seq.
func (st *stream) find(seq uint64) int {
	if st == nil {
		return 0
	}
	i, _ := slices.BinarySearchFunc(st.runs, seq, func(r run, seq uint64) int {
		if r.end() <= seq {
			return -1
		}
		return +1
	})
	return i
}

// sort gives the lines of b that are new to add, in pieces, and their number. A
// line that is there must be the same.
func (st *stream) sort(b *receiver.Batch, add func(b *receiver.Batch, from, to int)) (added int, err error) {
	end := b.End()
	for seq := b.Seq; seq < end; {
		i, next := st.find(seq), end
		if st != nil && i < len(st.runs) {
			r := &st.runs[i]
			if r.Seq <= seq {
				for next = min(end, r.end()); seq < next; seq++ {
					if !st.isSame(r, seq, b.Lines[seq-b.Seq]) {
						return 0, &receiver.DivergedError{SID: b.SID, Seq: seq}
					}
				}
				continue
			}
			next = min(end, r.Seq)
		}
		add(b, int(seq-b.Seq), int(next-b.Seq))
		added += int(next - seq)
		seq = next
	}
	return added, nil
}

// isSame reports whether a line can be the one that r has under the number seq.
func (st *stream) isSame(r *run, seq uint64, line []byte) bool {
	if seq >= st.fork {
		return false
	}
	if back := r.end() - seq; back <= r.Sums.len() {
		return r.Sums.at(r.Sums.len()-back) == crc32.Checksum(line, castagnoli)
	}
	return st.fork == noFork // too old to be compared: only a sender that was not restored is believed
}

// add notes that the numbers of r are committed. None of them was.
func (st *stream) add(r run) {
	st.lines += r.Sums.len()
	i := st.find(r.Seq)
	if i > 0 && st.runs[i-1].end() == r.Seq {
		i--
		st.merge(&st.runs[i], &r)
	} else {
		r.Sums = slices.Clone(r.Sums)
		st.runs = slices.Insert(st.runs, i, r)
	}
	if i+1 < len(st.runs) && st.runs[i].end() == st.runs[i+1].Seq {
		st.merge(&st.runs[i], &st.runs[i+1])
		st.runs = slices.Delete(st.runs, i+1, i+2)
	}
	st.forget()
}

// merge appends b to a. Of checksums, those stay that reach the end without a hole.
func (st *stream) merge(a, b *run) {
	a.N += b.N
	if b.Sums.len() < b.N {
		st.lines -= a.Sums.len()
		a.Sums = nil
	}
	a.Sums = append(a.Sums, b.Sums...)
}

// forget drops the checksums of the lowest numbers, and the lowest runs, when
// there are too many.
func (st *stream) forget() {
	for len(st.runs) > rememberRanges {
		st.lines -= st.runs[0].Sums.len()
		st.runs = slices.Delete(st.runs, 0, 1)
	}
	for i := 0; st.lines > rememberLines; i++ {
		r := &st.runs[i]
		n := min(r.Sums.len(), st.lines-rememberLines)
		r.Sums = r.Sums[4*n:]
		st.lines -= n
	}
}
