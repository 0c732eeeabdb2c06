package buffer

import (
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// paged is as recorded, of blocks that have a page of their own, share one, or
// take several.
func paged(t *testing.T) *world {
	w := newWorld(t, 1, Options{Codec: raw})
	w.mustStart()
	for k := range 12 {
		if k == 6 {
			w.restart()
		}
		w.append(2, []int{100, 1500, 7000}[k%3])
		w.wait()
	}
	w.idle()
	w.stop()
	return w
}

func TestQueue_ABadPageCostsWhatIsOnIt(t *testing.T) {
	inBubble(t, func() {
		w := paged(t)
		for _, name := range append(w.fs.segments(), cursorName, identityName) {
			for page := range int64(len(w.fs.bytes(name))+pageLen-1) / pageLen {
				c := newWorld(t, 1, w.o)
				c.fs, c.lines, c.head, c.proved, c.unsure = w.fs.backup(), w.lines, w.head, w.head, w.head
				c.made, c.scarred, c.beyond = w.made, true, true
				if _, ok := segmentID(name); ok {
					c.hit(name, page*pageLen, (page+1)*pageLen)
				}
				if c.fs.spoil(name, page); len(c.hurt) > 6 {
					t.Fatalf("%s page %d: costs %d lines", name, page, len(c.hurt))
				}
				comesThrough(c, name, page)
			}
		}
	})
}

// comesThrough takes out all that there is, and continues.
func comesThrough(c *world, name string, page int64) {
	rec := c.mustStart()
	defer c.abandon()
	c.resume(rec)
	for range 3 * maxReadFailures {
		for c.next() {
		}
	}
	if c.out != c.head || len(c.gone) != len(c.hurt) {
		c.Fatalf("%s page %d: came to %d of %d, %d lines in gaps, %d on the page", name, page, c.out, c.head,
			len(c.gone), len(c.hurt))
	}
	for range 2 { // both slots of CURSOR are written
		c.ack(len(c.ranges))
		c.append(2, 100)
		c.drain()
		c.idle()
		if s := c.q.Stats(); s.Trouble != nil {
			c.Fatalf("%s page %d: %s", name, page, s.Trouble)
		}
	}
	c.restart()
	c.drain()
}

// What is after the page stays where it is, and is not looked for that long
// again.
func TestQueue_DropsAPageOnce(t *testing.T) {
	for name, ends := range map[string][]uint64{
		"lines":  {4, 2000, 2003, 2006},
		"header": {449, 2500, 2503, 2506}, // the second block begins where the page does
	} {
		inBubble(t, func() {
			fs := newStrictFS(1)
			var blocks []*Block
			first := uint64(1)
			for _, end := range ends {
				blocks = append(blocks, lineBlock(first, end))
				first = end
			}
			segmentOfBlocks(t, fs, 1, 1, blocks...)
			segmentOfBlocks(t, fs, 2, first)
			fs.spoil(segmentName(1), 2)
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			defer closeIn(t, q)
			for _, want := range []int{maxReadFailures - 1, 0} {
				if failed := throughBadPage(t, q, blocks); failed != want {
					t.Errorf("%s: failed %d times, want %d", name, failed, want)
				}
				if err := q.Rewind(1); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// throughBadPage takes the blocks, of which the second is a gap, and tells how
// often that failed.
func throughBadPage(t *testing.T, q *Queue, blocks []*Block) (failed int) {
	t.Helper()
	for k, want := range blocks {
		b, err := q.Next(context.Background())
		for ; errors.Is(err, unix.EIO); failed++ {
			b, err = q.Next(context.Background())
		}
		if err != nil || b.Range() != want.Range() || (b.Gap() != nil) != (k == 1) {
			t.Fatalf("got %v, %v, want %v", b.Range(), err, want.Range())
		}
	}
	return failed
}

func TestOpen_TriesAgainWhatCannotBeRead(t *testing.T) {
	inBubble(t, func() {
		w := paged(t)
		newest := w.fs.segments()[1]
		for _, name := range []string{newest, cursorName, identityName} {
			failed := 0
			w.setFault(func(_ int, call, file string) error {
				if call == "read" && file == name && failed < 2 {
					failed++
					return errInjected
				}
				return nil
			})
			rec := w.mustStart()
			if rec.NewSID || len(rec.Gaps)+len(rec.Quarantined) > 0 || failed != 2 {
				t.Errorf("%s: %+v after %d failures", name, rec, failed)
			}
			w.resume(rec)
			w.stop()
		}
	})
}

// A disk of which nothing can be read is no damage: all stays as it is.
func TestOpen_ChangesNothingOnADiskThatCannotBeRead(t *testing.T) {
	inBubble(t, func() {
		w := paged(t)
		names := w.fs.segments()
		for _, cached := range []int{0, 1, 2} { // nothing; the newest segment's header; its blocks' headers
			reads := 0
			w.setFault(func(_ int, call, name string) error {
				if call == "read" && name == names[1] {
					reads++
				}
				if call == "read" && (cached == 0 || reads > cached) {
					return errInjected
				}
				return nil
			})
			if _, _, err := open(w.fs, w.o); !errors.Is(err, unix.EIO) {
				t.Fatalf("%d: got %v", cached, err)
			}
		}
		w.setFault(nil)
		rec := w.mustStart()
		defer w.abandon()
		if now := w.fs.segments(); !slices.Equal(now, names) || rec.NewSID || len(rec.Quarantined)+len(rec.Gaps) > 0 {
			t.Errorf("%v, were %v; %+v", now, names, rec)
		}
		w.resume(rec)
		w.drain()
	})
}

func TestWriter_ContinuesWithoutASpareThatCannotBeWritten(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		_, w, _, err := load(fs, Options{Limit: modelLimit})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, fs, spareName, make([]byte, modelLimit/10))
		fs.spoil(spareName, 1) // where the first block goes, which is smaller than a page
		first := w.rotate([]*Block{newSeal(1)})
		if err := w.rotate([]*Block{newSeal(1)}); !errors.Is(first, unix.EIO) || err != nil {
			t.Errorf("got %v, then %v; want an error and then none", first, err)
		}
	})
}

// The last lines were promised, and no header says so. Nobody can tell how many
// there were, so their numbers must not be used again in this stream.
func TestRecovery_StartsANewStreamBehindAnEndThatCannotBeRead(t *testing.T) {
	inBubble(t, func() {
		w := newWorld(t, 1, Options{Codec: raw})
		w.mustStart()
		w.append(1, 7000)
		w.wait()
		w.idle()
		for range 2 {
			w.append(1, 7000) // CURSOR, once a second, knows of the first
			w.wait()
		}
		w.end1((*strictFS).kill)
		name := w.fs.segments()[0]
		w.fs.spoil(name, int64(len(w.fs.bytes(name))-1)/pageLen)
		w.scarred, w.moved, w.unsure = true, true, 3
		rec := w.mustStart()
		defer w.abandon()
		if s := w.q.Stats(); !rec.NewSID || s.Head != 3 {
			t.Errorf("head %d, new stream: %v", s.Head, rec.NewSID)
		}
		w.resume(rec)
		w.append(5, 100)
		w.drain()
	})
}

// halfBad is a file of which one half of the first page cannot be read.
type halfBad struct {
	page []byte
	half int64
}

func (f halfBad) ReadAt(b []byte, off int64) (int, error) {
	if off < (f.half+1)*halfLen && off+int64(len(b)) > f.half*halfLen {
		return 0, errBadPage
	}
	return copy(b, f.page[off:]), nil
}

func TestReadSegment_NeedsOneHalfOfTheHeader(t *testing.T) {
	inBubble(t, func() {
		seg := &segment{id: 1, base: 10, sid: "aaaaaaaaaaaaaaaa", nonce: 5}
		for half := range int64(2) {
			if s, err := readSegment(halfBad{seg.page(), half}, 1); err != nil || s.base != 10 {
				t.Errorf("without half %d: %+v, %v", half, s, err)
			}
		}
	})
}
