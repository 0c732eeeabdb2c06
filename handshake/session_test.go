package handshake

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

type sessionVectors struct {
	SID     string
	Session []struct {
		From, Kind, Message, Note string
		Code                      int
	}
}

// protocol reads the authority.
func protocol(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSession_StandsInTheProtocolDocument(t *testing.T) {
	var want strings.Builder
	for _, m := range load[sessionVectors](t, "session.json").Session {
		fmt.Fprintf(&want, "%s %-6s # %s\n", m.From, m.Kind, m.Note)
		for line := range strings.Lines(m.Message) {
			fmt.Fprintf(&want, "  %s\n", strings.TrimSuffix(line, "\n"))
		}
		if m.Kind == "close" {
			fmt.Fprintf(&want, "  %d\n", m.Code)
		}
	}
	if !strings.Contains(protocol(t), "```text\n"+want.String()+"```\n") {
		t.Errorf("docs/protocol.md must print testdata/session.json as:\n%s", &want)
	}
}

// Both ends of the session, as the document tells them to behave.
func TestSession_KeepsTheRules(t *testing.T) {
	var (
		v             = load[sessionVectors](t, "session.json")
		batch         uint64     // S: the newest
		expect        uint64 = 1 // R: the next number
		refused       uint64     // R: the batch that was refused last
		acked         uint64 = 1 // S: its cursor
		said, covered int        // R: records that it has, records in its receipts
	)
	for i, m := range v.Session {
		switch m.Kind {
		case "binary":
			d, payload, err := DecodeData([]byte(m.Message))
			if err != nil {
				t.Fatal(err)
			}
			if got := AppendData(nil, d, payload); string(got) != m.Message {
				t.Errorf("message %d: got %q, want %q", i, got, m.Message)
			}
			if batch++; d.B != batch || d.Seq != expect {
				t.Errorf("message %d: got batch %d from %d, want %d from %d", i, d.B, d.Seq, batch, expect)
			}
			lines, code := open(d, payload)
			if code != "" {
				refused = d.B
				continue
			}
			expect += uint64(len(lines))
			said += len(lines)
		case "text":
			f, err := Decode([]byte(m.Message))
			if err != nil {
				t.Fatal(err)
			}
			if got := Encode(f); string(got) != m.Message {
				t.Errorf("message %d: got %s, want %s", i, got, m.Message)
			}
			switch f := f.(type) {
			case *Hello:
				if i != 0 || f.SID != v.SID || f.Acked != acked {
					t.Errorf("message %d: %+v", i, f)
				}
			case *Welcome:
				if i != 1 {
					t.Errorf("message %d is welcome", i)
				}
			case *Gap:
				if batch++; f.B != batch || f.Seq != expect {
					t.Errorf("message %d: %+v, want b %d, seq %d", i, f, batch, expect)
				}
				expect += f.N
				said++
			case *Nak:
				if f.B != refused || f.Expect != expect {
					t.Errorf("message %d: %+v, want b %d, expect %d", i, f, refused, expect)
				}
			case *Ack:
				if f.Seq <= acked || f.Seq > expect || !strings.HasPrefix(f.UID.First, UID(v.SID, acked)) {
					t.Errorf("message %d: %+v, cursor %d, expect %d", i, f, acked, expect)
				}
				acked = f.Seq
				covered += f.New + f.Dup
			}
		}
	}
	if acked != expect || covered != said {
		t.Errorf("receipts up to %d for %d documents, want up to %d for %d", acked, covered, expect, said)
	}
}
