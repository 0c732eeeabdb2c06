package logsql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/row"
)

// Ask gives the rows that a LogsQL query finds.
type Ask func(ctx context.Context, query string) ([]map[string]string, error)

// LineID names a line, and its time as the database writes it.
type LineID struct{ SID, Seq, Time string }

// Neighbours are lines that stand around one, the oldest first: those of its host and
// program, which are what a stream of the log database is.
type Neighbours struct {
	IDs []LineID
	Hit int // which of them was asked for
}

// Around gives the line of a UID with up to n lines before and n after it; nil: there
// is no such line. within narrows the time in which the line itself is looked for;
// empty: any time.
func Around(ctx context.Context, ask Ask, uid, within string, n int) (*Neighbours, error) {
	sid, seq, err := handshake.ParseUID(uid[:min(len(uid), handshake.UIDLen)]) // the ID of a gap is longer
	if err != nil {
		return nil, err
	}
	number := row.SeqValue(seq)
	own, err := ask(ctx, fmt.Sprintf(`%s "wsrelay.sid":=%q "wsrelay.seq":=%q | fields _stream_id, _time`, within, sid,
		number))
	if err != nil || len(own) == 0 {
		return nil, err
	}
	stream, at := own[0]["_stream_id"], Exact(own[0]["_time"])
	side := func(sign, order string) (ids []LineID, err error) {
		// Lines of one time have an order, too: that of their sender.
		rows, err := ask(ctx, fmt.Sprintf(`_stream_id:%s (_time:%s%s or _time:[%s, %s] ("wsrelay.sid":%s%q or "wsrelay.sid":=%q "wsrelay.seq":%s%q)) `+
			`| sort by (_time %s, "wsrelay.sid" %s, "wsrelay.seq" %s) limit %d | fields _time, "wsrelay.sid", "wsrelay.seq"`,
			stream, sign, at, at, at, sign, sid, sid, sign, number, order, order, order, n))
		for _, r := range rows {
			ids = append(ids, LineID{r["wsrelay.sid"], r["wsrelay.seq"], Exact(r["_time"])})
		}
		return ids, err
	}
	before, err := side("<", "desc")
	if err != nil {
		return nil, err
	}
	after, err := side(">", "")
	slices.Reverse(before)
	return &Neighbours{append(append(before, LineID{sid, number, at}), after...), len(before)}, err
}

// Exact writes all digits of a time: LogsQL takes 15:09:26Z for the whole second.
func Exact(at string) string {
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return at
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// Filter gives the LogsQL filter for these lines.
func (l *Neighbours) Filter() string {
	terms := make([]string, len(l.IDs))
	for i, id := range l.IDs {
		terms[i] = fmt.Sprintf(`("wsrelay.sid":=%q "wsrelay.seq":=%q)`, id.SID, id.Seq)
	}
	return fmt.Sprintf("_time:[%s, %s] (%s)", l.IDs[0].Time, l.IDs[len(l.IDs)-1].Time, strings.Join(terms, " or "))
}
