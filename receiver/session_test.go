package receiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"wsrelay/handshake"
)

func TestEndpoint_RefusesWithoutSubprotocol(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{})
	status, body := get(t, url, nil)
	if status != http.StatusUpgradeRequired || !strings.Contains(body, handshake.Subprotocol) {
		t.Errorf("got %d %q, want 426 and words that name %s", status, body, handshake.Subprotocol)
	}
}

func TestEndpoint_RefusesOrigin(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{})
	status, _ := get(t, url, http.Header{"Origin": {url}, "Sec-Websocket-Protocol": {handshake.Subprotocol}})
	if status != http.StatusForbidden {
		t.Errorf("got %d, want 403", status)
	}
}

func TestSession_WelcomesWithItsLimits(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{})
	s := dial(t, url)
	s.control(hello(1))
	w := want[*handshake.Welcome](s)
	if w.Win != (handshake.Win{Bytes: 8 << 20, Batches: 16}) || w.Max != 17<<20 || w.MaxRaw != 17<<20 ||
		w.HB != 20000 || w.AckTo != 30000 || w.Guarantee != handshake.ExactlyOnce || w.Store != "memory" ||
		w.Session == "" {
		t.Errorf("got welcome %+v", w)
	}
}

func TestSession_ReceiptsWhatItStored(t *testing.T) {
	store := &memStore{}
	_, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "one", "two", "")
	ack := want[*handshake.Ack](s)
	if ack.Seq != 4 || ack.B != 1 || ack.New != 3 || ack.Dup != 0 ||
		ack.UID.First != handshake.UID(sid, 1) || ack.UID.Last != handshake.UID(sid, 3) {
		t.Errorf("got ack %+v, uid %+v", ack, ack.UID)
	}
	if got := []string{store.get(1), store.get(2), store.get(3)}; strings.Join(got, ",") != "one,two," {
		t.Errorf("stored %q", got)
	}
	s.control(&handshake.Bye{Why: "idle"})
	s.wantClose(websocket.CloseNormalClosure)
}

func TestSession_CountsWhatIsThereAlreadyAsDup(t *testing.T) {
	_, url := serve(t, &memStore{}, Options{})
	s := connect(t, url)
	s.lines(1, "one", "two")
	s.wantAck(3)
	s.conn.Close()

	s = connect(t, url)
	s.lines(1, "one", "two")
	s.lines(3, "three")
	dup := 0
	for ack := want[*handshake.Ack](s); ; ack = want[*handshake.Ack](s) {
		if dup += ack.Dup; ack.Seq == 4 {
			break
		}
	}
	if dup != 2 {
		t.Errorf("got dup %d, want 2", dup)
	}
}

func TestSession_TakesEveryEncoding(t *testing.T) {
	enc, _ := zstd.NewWriter(nil)
	encode := map[string]func([]byte) []byte{
		handshake.EncRaw: func(b []byte) []byte { return b },
		"s2":             func(b []byte) []byte { return s2.Encode(nil, b) },
		"zstd":           func(b []byte) []byte { return enc.EncodeAll(b, nil) },
	}
	store := &memStore{}
	_, url := serve(t, store, Options{})
	s := connect(t, url)
	seq := uint64(1)
	for name, f := range encode {
		d, payload := batch(seq, strings.Repeat(name, 1000), name)
		payload = f(payload)
		d.Enc, d.C = name, handshake.CRC(payload)
		s.data(d, payload)
		s.wantAck(seq + 2)
		if got := store.get(seq + 1); got != name {
			t.Errorf("%s: stored %q", name, got)
		}
		seq += 2
	}
}

func TestSession_TakesALineOf16MiB(t *testing.T) {
	store := &memStore{}
	_, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, strings.Repeat("x", handshake.MaxLine))
	s.wantAck(2)
	if got := len(store.get(1)); got != handshake.MaxLine {
		t.Errorf("stored %d bytes", got)
	}
}

// Invariant 3.
func TestSession_RefusesBadBatchesAndContinues(t *testing.T) {
	zeros, _ := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	block := func(n int) []byte { return zeros.EncodeAll(make([]byte, n), nil) }
	encoded := func(enc string, raw int, payload []byte) func(*handshake.Data, *[]byte) {
		return func(d *handshake.Data, p *[]byte) {
			d.Enc, d.Raw, *p, d.C = enc, raw, payload, handshake.CRC(payload)
		}
	}
	tests := map[string]struct {
		code  string
		spoil func(d *handshake.Data, payload *[]byte)
	}{
		"checksum": {handshake.NakCRC, func(d *handshake.Data, _ *[]byte) { d.C = "00000000" }},
		"checksum, encoded": {handshake.NakCRC, func(d *handshake.Data, p *[]byte) {
			d.Enc, *p, d.C = "s2", s2.Encode(nil, *p), "00000000"
		}},
		"encoding":           {handshake.NakDecode, func(d *handshake.Data, _ *[]byte) { d.Enc = "lz4" }},
		"fewer lines":        {handshake.NakDecode, func(d *handshake.Data, _ *[]byte) { d.N++ }},
		"more lines":         {handshake.NakDecode, func(d *handshake.Data, _ *[]byte) { d.N-- }},
		"short":              {handshake.NakDecode, func(d *handshake.Data, _ *[]byte) { d.Raw++ }},
		"empty":              {handshake.NakDecode, encoded(handshake.EncRaw, 8, nil)},
		"no newline":         {handshake.NakDecode, encoded(handshake.EncRaw, 8, []byte("one\ntwo3"))},
		"too long":           {handshake.NakTooBig, func(d *handshake.Data, _ *[]byte) { d.Raw = maxRaw + 1 }},
		"too many lines":     {handshake.NakTooBig, func(d *handshake.Data, _ *[]byte) { d.Raw, d.N = maxRaw, maxRaw }},
		"s2 of another size": {handshake.NakDecode, encoded("s2", 8, s2.Encode(nil, make([]byte, 9)))},
		"s2 garbage":         {handshake.NakDecode, encoded("s2", 8, []byte{8, 0xff, 0xff})},
		"zstd of more":       {handshake.NakDecode, encoded("zstd", 8, block(1<<20))},
		"zstd of less":       {handshake.NakDecode, encoded("zstd", 1<<20, block(8))},
		"zstd that lies":     {handshake.NakDecode, encoded("zstd", 100_000, lying(block(1<<20), 100_000))},
		"two zstd frames":    {handshake.NakDecode, encoded("zstd", 1<<20, append(block(1<<20), block(1<<20)...))},
		"zstd garbage":       {handshake.NakDecode, encoded("zstd", 8, []byte("garbage"))},
		"overlong payload":   {handshake.NakDecode, encoded("s2", 8, make([]byte, 1<<20))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := &memStore{}
			r, url := serve(t, store, Options{})
			s := connect(t, url)
			s.lines(1, "zero")
			s.wantAck(2)

			d, payload := batch(2, "one", "two")
			test.spoil(&d, &payload)
			s.data(d, payload)
			s.wantNak(test.code, 2)
			s.lines(4, "ignored") // was on its way
			s.lines(2, "one", "two")
			s.wantAck(4)
			if got := store.count(); got != 3 {
				t.Errorf("stored %d lines, want 3", got)
			}
			waitFree(t, r)
		})
	}
}

func TestSession_RefusesZstdBombInBoundedMemory(t *testing.T) {
	bomb := bombOf(t, 256<<20) // a stream: the frame does not state its size
	_, url := serve(t, &memStore{}, Options{})
	s := connect(t, url)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		s.data(handshake.Data{Seq: 1, N: 1, Enc: "zstd", Raw: 8 << 20, C: handshake.CRC(bomb)}, bomb)
		s.wantNak(handshake.NakDecode, 1)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
		t.Errorf("20 bombs of %d bytes made the receiver allocate %d MiB", len(bomb), got>>20)
	}
}

// lying patches the content size of a single-segment frame (RFC 8878, 3.1.1.1.4).
func lying(frame []byte, size uint32) []byte {
	binary.LittleEndian.PutUint32(frame[5:], size)
	return frame
}

func bombOf(t testing.TB, n int) []byte {
	t.Helper()
	var b strings.Builder
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range n / len(zeros) {
		_, _ = w.Write(zeros)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

// Invariant 2.
func TestSession_KeepsOrder(t *testing.T) {
	store := &memStore{}
	_, url := serve(t, store, Options{})
	s := dial(t, url)
	s.control(hello(10))
	want[*handshake.Welcome](s)
	s.lines(9, "below what is acked")
	s.wantNak(handshake.NakOrder, 10)
	s.lines(15, "the first may leave a hole")
	s.wantAck(16)
	s.lines(17, "a later one must not")
	s.wantNak(handshake.NakOrder, 16)
	s.lines(18, "ignored")
	s.lines(16, "sixteen", "seventeen")
	s.wantAck(18)
	s.lines(17, "an overlap")
	s.wantNak(handshake.NakOrder, 18)
	if got := store.count(); got != 3 {
		t.Errorf("stored %d lines, want 3", got)
	}
}

func TestSession_StoresGapsInOrder(t *testing.T) {
	store := &memStore{}
	_, url := serve(t, store, Options{})
	s := connect(t, url)
	gap := &handshake.Gap{B: 1, Seq: 1, N: 1 << 40, Why: handshake.GapOverflow, At: 1_700_000_000_000}
	s.control(gap)
	ack := want[*handshake.Ack](s)
	if id := handshake.GapID(sid, 1, 1<<40); ack.Seq != 1+1<<40 || ack.UID.First != id || ack.UID.Last != id {
		t.Errorf("got ack %+v, uid %+v", ack, ack.UID)
	}
	s.lines(1+1<<40, "after")
	s.wantAck(2 + 1<<40)
	gaps := []handshake.Gap{*gap}
	for i, why := range []string{handshake.GapOversize, handshake.GapDamaged, "a reason of a later version"} { // each of one line
		s.b++
		one := handshake.Gap{B: s.b, Seq: 2 + 1<<40 + uint64(i), N: 1, Why: why, Maybe: i == 1}
		s.control(&one)
		s.wantAck(one.Seq + 1)
		gaps = append(gaps, one)
	}
	s.b++
	s.control(&handshake.Gap{B: s.b, Seq: 7, N: 1, Why: handshake.GapDamaged})
	s.wantNak(handshake.NakOrder, 5+1<<40)
	if !slices.Equal(store.gaps, gaps) {
		t.Errorf("stored gaps %+v, want %+v", store.gaps, gaps)
	}
}

// Invariant 7.
func TestSession_EndsOnBadFrames(t *testing.T) {
	huge := handshake.Data{B: 1, Seq: 1, N: 1, Enc: handshake.EncRaw, Raw: maxRaw, C: "00000000"}
	tests := map[string]struct {
		kind int
		msg  string
		code int
	}{
		"no header":      {websocket.BinaryMessage, "no header", handshake.CloseBadFrame},
		"endless header": {websocket.BinaryMessage, strings.Repeat("x", 1<<20), handshake.CloseBadFrame},
		"bad header":     {websocket.BinaryMessage, `{"b":1,"seq":0}` + "\nx\n", handshake.CloseBadFrame},
		"not JSON":       {websocket.TextMessage, "hello?", handshake.CloseBadFrame},
		"unknown frame":  {websocket.TextMessage, `{"t":"what"}`, handshake.CloseBadFrame},
		"a second hello": {websocket.TextMessage, string(handshake.Encode(hello(1))), handshake.CloseBadFrame},
		"a huge message": {
			websocket.BinaryMessage, string(handshake.AppendData(nil, huge, make([]byte, maxMessage))),
			websocket.CloseMessageTooBig,
		},
		"a huge control":   {websocket.TextMessage, strings.Repeat(" ", 1<<20), handshake.CloseBadFrame},
		"an ack, reversed": {websocket.TextMessage, string(handshake.Encode(&handshake.Ack{Seq: 1})), handshake.CloseBadFrame},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, url := serve(t, &memStore{}, Options{})
			s := connect(t, url)
			_ = s.conn.WriteMessage(test.kind, []byte(test.msg)) // fails when the receiver closes early
			s.wantClose(test.code)
		})
	}
}

func TestHandshake_RefusesWithItsReason(t *testing.T) {
	old := hello(1)
	old.V = 2
	long := hello(1)
	long.Host = strings.Repeat("h", 256)
	tests := map[string]struct {
		kind int
		msg  []byte
		code int
	}{
		"nothing":     {0, nil, handshake.CloseHandshakeTimeout},
		"data":        {websocket.BinaryMessage, []byte("{}\n"), handshake.CloseBadFrame},
		"bye":         {websocket.TextMessage, handshake.Encode(&handshake.Bye{}), handshake.CloseBadFrame},
		"garbage":     {websocket.TextMessage, []byte("{"), handshake.CloseBadFrame},
		"too big":     {websocket.TextMessage, make([]byte, 1<<20), websocket.CloseMessageTooBig},
		"new version": {websocket.TextMessage, handshake.Encode(old), handshake.CloseVersion},
		"long host":   {websocket.TextMessage, handshake.Encode(long), handshake.CloseBadFrame},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := Options{}
			if test.msg == nil {
				o.HandshakeTimeout = 20 * time.Millisecond
			}
			_, url := serve(t, &memStore{}, o)
			s := dial(t, url)
			if test.msg != nil {
				_ = s.conn.WriteMessage(test.kind, test.msg)
			}
			s.wantClose(test.code)
		})
	}
}

func TestSession_SaysBusyWhileTheStoreFails(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	store := &memStore{hook: func(context.Context, []Batch) error {
		if down.Load() {
			return errors.New("no space left")
		}
		return nil
	}}
	_, url := serve(t, store, Options{AckTimeout: 60 * time.Millisecond})
	s := connect(t, url)
	s.lines(1, "one")
	for range 2 {
		if busy := want[*handshake.Busy](s); busy.Why != "store" {
			t.Errorf("got busy %+v", busy)
		}
	}
	down.Store(false)
	for {
		f, err := s.read()
		if err != nil {
			t.Fatal(err)
		}
		if ack, ok := f.(*handshake.Ack); ok {
			if ack.Seq != 2 || ack.New != 1 {
				t.Errorf("got ack %+v", ack)
			}
			return
		}
	}
}

func TestSession_SendsAwayWhenTheStoreStaysDown(t *testing.T) {
	tests := map[string]func(context.Context, []Batch) error{
		"it fails": func(context.Context, []Batch) error { return errors.New("refused") },
		"it hangs": func(ctx context.Context, _ []Batch) error { <-ctx.Done(); return ctx.Err() },
	}
	for name, hook := range tests {
		t.Run(name, func(t *testing.T) {
			_, url := serve(t, &memStore{hook: hook}, Options{
				AckTimeout:   60 * time.Millisecond,
				StoreTimeout: 100 * time.Millisecond,
			})
			s := connect(t, url)
			s.lines(1, "one")
			s.wantClose(handshake.CloseStoreDown)
		})
	}
}

func TestSession_DivergedStoresWhatIsBelowAndNothingElse(t *testing.T) {
	entered := map[uint64]*gate{1: newGate(t), 2: newGate(t)}
	leave := map[uint64]*gate{1: newGate(t), 2: newGate(t)}
	store := &memStore{lines: map[string]map[uint64]string{sid: {4: "FOUR"}}}
	store.hook = func(_ context.Context, batches []Batch) error {
		if seq := batches[0].Seq; entered[seq] != nil {
			entered[seq].open()
			leave[seq].wait()
		}
		return nil
	}
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "one")
	entered[1].wait()
	s.lines(2, "two") // from here on one group
	s.lines(3, "three", "four", "five")
	s.lines(6, "six")
	waitQueued(t, r, 3)
	leave[1].open()
	entered[2].wait()
	s.lines(7, "verified, and void when the group turns out to differ")
	waitQueued(t, r, 1)
	leave[2].open()
	s.wantAck(2)
	s.wantAck(4)
	nak := want[*handshake.Nak](s)
	if nak.Code != handshake.NakDiverged || nak.Expect != 4 || nak.B != 3 {
		t.Errorf("got nak %+v, want diverged at 4 in batch 3", nak)
	}
	s.lines(8, "ignored")
	s.lines(4, "FOUR", "five")
	s.wantAck(6)
	for seq := uint64(6); seq <= 8; seq++ {
		if got := store.get(seq); got != "" {
			t.Errorf("line %d is stored: %q", seq, got)
		}
	}
}

// waitQueued waits until n batches of the only session wait for its committer.
func waitQueued(t *testing.T, r *Receiver, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		r.mu.Lock()
		for s := range r.sessions {
			if len(s.queue) == n {
				r.mu.Unlock()
				return
			}
		}
		r.mu.Unlock()
	}
	t.Fatalf("never %d batches in the queue", n)
}

// standing is a store whose first Commit has entered, and which waits until it
// is let go.
func standing(t *testing.T) (store *memStore, entered, letGo *gate) {
	entered, letGo = newGate(t), newGate(t)
	return &memStore{hook: func(context.Context, []Batch) error {
		entered.open()
		letGo.wait()
		return nil
	}}, entered, letGo
}

func TestSession_CommitsTogetherWhatWaits(t *testing.T) {
	store, entered, block := standing(t)
	r, url := serve(t, store, Options{})
	s := connect(t, url)
	s.lines(1, "one")
	entered.wait()
	for seq := uint64(2); seq < 10; seq++ {
		s.lines(seq, "more")
	}
	waitQueued(t, r, 8)
	block.open()
	s.wantAck(2)
	if ack := want[*handshake.Ack](s); ack.Seq != 10 || ack.B != 9 || ack.New != 8 {
		t.Errorf("got ack %+v, want one for all of the eight that waited", ack)
	}
}

func TestSequence_AdmitsNothingCheckedBeforeARewind(t *testing.T) {
	q := sequence{expect: 1}
	epoch, _, v := q.check(5)
	if v != next {
		t.Fatalf("got result %v for the first", v)
	}
	q.rewind(3)
	if q.advance(epoch, 9) {
		t.Error("advanced past a rewind")
	}
	if _, expect, v := q.check(9); v != ignored || expect != 3 {
		t.Errorf("got result %v, expect %d; want ignored, 3", v, expect)
	}
}

func ExampleBatch_End() {
	b := Batch{Seq: 7, Lines: [][]byte{[]byte("a"), []byte("b")}}
	fmt.Println(b.End())
	// Output: 9
}
