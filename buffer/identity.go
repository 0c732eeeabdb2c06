package buffer

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

const (
	identityName = "IDENTITY"
	identityTmp  = identityName + tmpSuffix
)

// identity is which stream a number belongs to. What was in the queue keeps
// its sid forever: same bytes, same id.
type identity struct {
	home  string // where the directory was when this was written
	pairs []pair // ascending; never empty once the queue is open
}

// pair is a stream and its first number: it has the numbers up to the next pair.
type pair struct {
	from uint64
	sid  string
}

// sid is the stream of number seq.
func (i *identity) sid(seq uint64) string {
	sid := ""
	for _, p := range i.pairs {
		if p.from <= seq || sid == "" {
			sid = p.sid
		}
	}
	return sid
}

// until is the number where the stream of number seq ends.
func (i *identity) until(seq uint64) uint64 {
	for _, p := range i.pairs {
		if p.from > seq {
			return p.from
		}
	}
	return ^uint64(0)
}

// split cuts r where the stream changes.
func (i *identity) split(r Range) (parts []Range) {
	for r.First < r.End {
		end := min(r.End, i.until(r.First))
		parts = append(parts, Range{r.First, end})
		r.First = end
	}
	return parts
}

func (i *identity) has(sid string) bool {
	return slices.ContainsFunc(i.pairs, func(p pair) bool { return p.sid == sid })
}

// renew gives the numbers from here on a new sid.
func (i *identity) renew(from uint64) {
	i.pairs = slices.DeleteFunc(i.pairs, func(p pair) bool { return p.from > from })
	i.pairs = append(i.pairs, pair{from, newSID()})
}

// diverge gives the numbers from here up to the next pair a new sid. A pair that
// begins here as well stays: segments may name its sid.
func (i *identity) diverge(from uint64) {
	k := slices.IndexFunc(i.pairs, func(p pair) bool { return p.from > from })
	if k < 0 {
		k = len(i.pairs)
	}
	i.pairs = slices.Insert(i.pairs, k, pair{from, newSID()})
}

// prune forgets the pairs whose numbers are all below the cursor, unless a
// segment still names them.
func (i *identity) prune(acked uint64, segs []*segment) {
	for len(i.pairs) > 1 && i.pairs[1].from <= acked &&
		!slices.ContainsFunc(segs, func(s *segment) bool { return s.sid == i.pairs[0].sid }) {
		i.pairs = i.pairs[1:]
	}
}

// newSID draws 80 random bits: 16 lower-case base32hex characters.
func newSID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return strings.ToLower(base32.HexEncoding.EncodeToString(b[:]))
}

func (i *identity) text() []byte {
	b := fmt.Appendf(nil, "wsrelay identity 1\nhome %s\n", i.home)
	for _, p := range i.pairs {
		b = fmt.Appendf(b, "from %d sid %s\n", p.from, p.sid)
	}
	return fmt.Appendf(b, "crc %08x\n", crc32.Checksum(b, castagnoli))
}

// readIdentity gives the zero identity for a file that is missing, or damaged,
// or cannot be read: the segments name their sids themselves.
func readIdentity(fsys fileSystem) (identity, error) {
	f, err := openIfUsable(fsys, identityName)
	if f == nil {
		return identity{}, err
	}
	b, _ := io.ReadAll(io.NewSectionReader(withRetry(f), 0, 1<<20)) // the checksum reports whether it is whole
	if err := f.Close(); err != nil {
		return identity{}, fmt.Errorf("read %s: %w", identityName, err)
	}
	var i identity
	for line := range strings.Lines(string(b)) {
		var p pair
		if home, ok := strings.CutPrefix(line, "home "); ok {
			i.home = strings.TrimSuffix(home, "\n")
		} else if n, _ := fmt.Sscanf(line, "from %d sid %s\n", &p.from, &p.sid); n == 2 {
			i.pairs = append(i.pairs, p)
		}
	}
	if string(i.text()) != string(b) {
		return identity{}, nil
	}
	return i, nil
}

func (i *identity) write(fsys fileSystem) error {
	err := replaceFile(fsys, identityName, i.text(), true)
	if err == nil {
		err = fsys.syncDir(".")
	}
	return err
}
