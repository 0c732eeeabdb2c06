package journal

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsrelay/receiver"
)

// One thing is destroyed at a random moment of a random history. What has a receipt and
// is missing is named, but for the last group of the last segment; nothing is doubled.
func TestRecovery_NamesWhatIsDestroyedAtAnyMoment(t *testing.T) {
	silent, total := 0, 0
	for seed := range uint64(1500) {
		root := scratch(t)
		inBubble(t, func() {
			rnd := rand.New(rand.NewPCG(seed, 5))
			w := newWorld(t, root, seed)
			w.damaged, w.faulty = true, true
			defer w.abandon()
			w.mustStart()
			last := map[ID]bool{}
			history := func() {
				for range 3 + rnd.IntN(25) {
					switch rnd.IntN(6) {
					case 0:
						synctest.Wait()
					case 1:
						time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
					case 2:
						w.setFault(nil, func(string) error {
							if w.db.rnd.IntN(3) == 0 {
								return errInjected
							}
							return nil
						})
					case 3:
						w.setFault(nil, nil)
					}
					sid := []string{"a", "b"}[rnd.IntN(2)]
					seq := max(1, w.next[sid])
					var bs []receiver.Batch
					for range 1 + rnd.IntN(3) {
						n := uint64(1 + rnd.IntN(5))
						bs = append(bs, w.batch(sid, seq, n, rnd.IntN(300)))
						seq += n
					}
					first := bs[0].Seq
					if w.commit(bs...) {
						w.next[sid] = seq
						clear(last)
						for ; first < seq; first++ {
							last[ID{sid, first, 0}] = true
						}
					}
				}
			}
			history()
			if rnd.IntN(2) == 0 {
				w.stopped(func() {})
				history()
			}
			what := ""
			newest := ""
			w.setFault(nil, nil)
			w.stopped(func() {
				segs := w.segments()
				if len(segs) == 0 {
					what = "nothing"
					return
				}
				for _, s := range segs { // the one with the highest number
					if i := strings.LastIndexByte(s, '-'); newest == "" || s[i:] > newest {
						newest = s[i:]
					}
				}
				name := strings.TrimPrefix(segs[rnd.IntN(len(segs))], w.fs.dir)
				b := w.read(name)
				used := len(strings.TrimRight(string(b), "\x00"))
				switch rnd.IntN(4) {
				case 0:
					what = "bit"
					b[rnd.IntN(max(1, used))] ^= 1 << rnd.IntN(8)
				case 1:
					what = "cut"
					b = b[:rnd.IntN(max(1, used))]
				case 2:
					what = "sector"
					at := rnd.IntN(max(1, used)) / 512 * 512
					clear(b[at:min(len(b), at+512)])
				case 3:
					what = "database"
					w.db = newFakeDB(seed + 1)
				}
				if strings.HasSuffix(name, newest) {
					what += " of the newest"
				}
				w.put(name, b)
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			for w.j.Wait(ctx) != nil {
				if ctx.Err() != nil {
					t.Fatalf("seed %d %s: Wait never ends: %+v", seed, what, w.j.Stats())
				}
				time.Sleep(time.Second)
			}
			s := w.j.Stats()
			files, _ := os.ReadDir(w.path(damagedDir))
			count, named := map[ID]int{}, map[string]*Spans{"a": {}, "b": {}}
			for _, r := range w.db.all() {
				if count[r.ID]++; count[r.ID] > 1 {
					t.Errorf("seed %d %s: %+v is there %d times", seed, what, r.ID, count[r.ID])
				}
				if r.Gap > 0 {
					named[r.SID].add(r.Seq, r.Seq+r.Gap)
				}
			}
			total++
			var lost []ID
			for id := range w.acked {
				if count[id] == 0 && !named[id.SID].covers(id.Seq, id.Seq+1) && s.Damaged == 0 && len(files) == 0 && s.Restored == 0 {
					promised := false // or a hello of its sender names it
					for _, st := range w.j.Streams() {
						promised = promised || st.SID == id.SID && id.Seq < st.Lines.End()
					}
					if promised || !strings.HasSuffix(what, "newest") || !last[id] && !strings.HasPrefix(what, "cut") && !strings.HasPrefix(what, "sector") {
						lost = append(lost, id)
					}
				}
			}
			if len(lost) > 0 {
				silent++
				if silent < 12 {
					t.Errorf("seed %d %s: %d acknowledged lines are lost and nothing is said, like %v; %+v", seed, what, len(lost), lost[0], s)
				}
			}
			if s.Damaged < 0 || s.Waiting != 0 {
				t.Errorf("seed %d %s: %+v", seed, what, s)
			}
		})
		_ = os.RemoveAll(root)
	}
	t.Logf("%d of %d silent", silent, total)
}
