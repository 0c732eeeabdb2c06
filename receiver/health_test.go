package receiver

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/metrics"
)

// A stream whose line the store does not take must not hide behind others whose
// lines it takes: it is named until it continues, and the store counts as up.
func TestHealth_ABlockedStreamDoesNotHide(t *testing.T) {
	const other, uid = "fedcba9876543210", sid + "0000000000001"
	var blocked, refusals atomic.Int64
	blocked.Store(1)
	store := &memStore{hook: func(_ context.Context, batches []Batch) error {
		if batches[0].SID == sid && blocked.Load() == 1 {
			refusals.Add(1)
			return &DocumentError{ID: uid, Err: errors.New("create document " + uid + ": refused")}
		}
		return nil
	}}
	var text lockedBuffer
	r, url := serve(t, store, Options{
		Log:        slog.New(slog.NewTextHandler(&text, nil)),
		AckTimeout: 300 * time.Millisecond,
	})
	r.health.blockedAfter = 0
	a := connect(t, url)
	a.lines(1, "poison")
	b := dial(t, url)
	hello := hello(1)
	hello.SID = other
	b.control(hello)
	want[*handshake.Welcome](b)
	for seq := uint64(1); refusals.Load() < 6; seq++ {
		b.lines(seq, "good")
		b.wantAck(seq + 1)
		time.Sleep(10 * time.Millisecond)
	}
	if n := count(&text, "store failed"); n > 1 {
		t.Errorf("the log says %d times that the store failed, in\n%s", n, text.String())
	}
	if n := count(&text, "stream blocked.*"+uid); n != 1 {
		t.Errorf("the log names the document %d times, want once, in\n%s", n, text.String())
	}
	var m metrics.Text
	r.Metrics(&m)
	if got := string(m.Bytes()); !strings.Contains(got, "wsreceive_store_up 1\n") ||
		!regexp.MustCompile(`sender_refused_seconds\{host="web1",sid="`+sid+`"\} 0*\.?0*[1-9]`).MatchString(got) ||
		strings.Contains(got, `wsreceive_sender_refused_seconds{host="web1",sid="`+other) {
		t.Errorf("metrics:\n%s", got)
	}
	for _, s := range r.Senders() {
		if (s.Why != "") != (s.SID == sid) || s.Refused.IsZero() != (s.SID != sid) {
			t.Errorf("sender %+v", s)
		}
	}
	busy := want[*handshake.Busy](a)
	for range 20 {
		if strings.Contains(busy.Why, uid) {
			break
		}
		busy = want[*handshake.Busy](a)
	}
	if !strings.Contains(busy.Why, uid) {
		t.Errorf("the sender gets %q, want the document", busy.Why)
	}
	blocked.Store(0)
	for {
		frame, err := a.read()
		if err != nil {
			t.Fatal(err)
		}
		if ack, ok := frame.(*handshake.Ack); ok && ack.Seq == 2 {
			break
		}
	}
	if count(&text, "stream continues") != 1 {
		t.Errorf("the log does not say that the stream continues:\n%s", text.String())
	}
	if _, err := r.health.blocked(sid); err != nil {
		t.Errorf("still blocked: %v", err)
	}
}

// A store that answers nobody is down, whichever document its errors name.
func TestHealth_AStoreThatAnswersNobodyIsDown(t *testing.T) {
	h := &health{log: slog.New(slog.DiscardHandler)}
	h.works("a")
	time.Sleep(time.Millisecond)
	h.failed("a", "web1", &DocumentError{ID: "x", Err: errors.New("no")})
	h.failed("b", "web2", errors.New("no"))
	if _, _, err := h.state(); err == nil {
		t.Error("the store counts as up")
	}
	if _, err := h.blocked("a"); err != nil {
		t.Error("the stream counts as blocked")
	}
	h.works("b")
	if _, _, err := h.state(); err != nil {
		t.Error("the store counts as down")
	}
	h.failed("a", "web1", errors.New("no"))
	if _, err := h.blocked("a"); err == nil {
		t.Error("the stream does not count as blocked")
	}
}

func count(log *lockedBuffer, pattern string) int {
	return len(regexp.MustCompile(pattern).FindAllString(log.String(), -1))
}
