package relay

import (
	"net"
	"net/url"
	"testing"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/internal/retry"
)

// FuzzSession plays what a receiver may say after three batches were sent:
// no text may panic, nor move the cursor beyond what was sent.
func FuzzSession(f *testing.F) {
	uid := &handshake.UIDs{}
	for _, frame := range []handshake.Frame{
		&handshake.Ack{Seq: 11, B: 1, UID: uid}, &handshake.Ack{Seq: 31, B: 3}, &handshake.Ack{Seq: 32, B: 3},
		&handshake.Ack{Seq: 5, B: 1, Win: &handshake.Win{}, Rej: []handshake.Rejected{{
			Seq: 2, Status: 400,
			Error: "\x1b[2J",
		}}},
		&handshake.Nak{B: 2, Code: handshake.NakCRC, Expect: 11},
		&handshake.Nak{B: 2, Code: handshake.NakTooBig, Expect: 15, Max: 1},
		&handshake.Nak{B: 1, Code: handshake.NakDiverged, Expect: 1}, &handshake.Busy{MS: 5, Why: "store"},
		&handshake.Bye{Why: "shutdown", AfterMS: 1 << 40}, &handshake.Err{Code: 4503, Msg: "down", AfterMS: 1 << 40},
	} {
		f.Add(string(handshake.Encode(frame)), string(handshake.Encode(frame)))
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		q := openQueue(t) // what one input does to a queue, another must not find there
		appendLines(t, q, 1, 30)
		here, there := net.Pipe()
		defer there.Close()
		defer here.Close()
		cursor := uint64(1)
		r := New(watched{q, &cursor}, Options{})
		r.report = reporter{log: r.log}
		r.backoff = retry.Connect(usualPace.backoff)
		first, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(r, nil, &wire{Conn: here}, &url.URL{}, first.SID(), nil)
		s.pack.held = first
		s.welcome(&handshake.Welcome{
			Win: handshake.Win{Bytes: 1 << 20, Batches: 16}, Max: headerRoom + 120,
			MaxRaw: 1 << 20,
		}, 1)
		for range 3 {
			b, err := s.pack.next()
			if err != nil || b == nil {
				t.Fatal(b, err)
			}
			s.b++
			s.win.add(flight{seq: b.seq, end: b.end, size: b.size(), raw: b.raw})
		}
		for _, msg := range []string{one, two} {
			sent := s.win.next
			if fault := s.handle(decode(websocket.TextMessage, []byte(msg))); fault != nil {
				_ = fault.Error()
				r.delay(outcome{fault: fault}, 1)
				break
			}
			if cursor > sent || s.win.next > sent {
				t.Fatalf("cursor %d, sent %d, was %d", cursor, s.win.next, sent)
			}
		}
		_ = s.drainResult()
	})
}

// watched is a queue whose cursor is only noted.
type watched struct {
	*buffer.Queue
	cursor *uint64
}

func (w watched) Ack(to uint64, _ buffer.Receipt) error {
	*w.cursor = to
	return nil
}
