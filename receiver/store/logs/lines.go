package logs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Found is a line of the store as it came, or a gap, whose Text says what is
// missing.
type Found struct {
	UID   string    `json:"uid"`
	Time  time.Time `json:"time"` // the line's own, or that of its arrival
	Host  string    `json:"host"` // that sent it, or that it names
	Text  []byte    `json:"line"`
	Error string    `json:"error,omitempty"` // why there is no Text: what it is made of is damaged
}

// MostSorted is the largest number of lines that Lines sorts.
const MostSorted = 10_000

// Lines calls f with up to limit lines that match a LogsQL filter. Up to MostSorted
// they are the newest, in the order of their times; more come in any order.
func (s *Store) Lines(ctx context.Context, filter string, limit int, f func(*Found) error) error {
	return s.linesWithin(ctx, filter, limit, math.MaxInt, f)
}

// maxHeld is how many bytes of lines that are to be sorted a user of the network
// may have this process hold.
const maxHeld = 64 << 20

var errTooLarge = fmt.Errorf("these lines are larger than %d MiB together: ask for fewer of them with a smaller limit",
	maxHeld>>20)

func (s *Store) linesWithin(ctx context.Context, filter string, limit, held int, f func(*Found) error) error {
	if len(filter) > maxQuery {
		return errors.New("the query is too long")
	}
	if _, err := logstorage.ParseFilter(filter); err != nil {
		return err
	}
	if limit > MostSorted {
		return s.eachLine(ctx, filter, func(l *Found) error {
			if limit--; limit < 0 {
				return errEnough
			}
			return f(l)
		})
	}
	var all []Found
	err := s.eachLine(ctx, fmt.Sprintf("%s\n| sort by (_time desc, %q desc, %q desc) limit %d", filter, row.FieldSID,
		row.FieldSeq, limit), func(l *Found) error {
		if held -= len(l.Text); held < 0 {
			return errTooLarge
		}
		all = append(all, *l)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b Found) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return cmp.Compare(a.UID, b.UID)
	})
	for i := range all {
		if err := f(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) eachLine(ctx context.Context, query string, f func(*Found) error) error {
	// A day whose index was quarantined has no _stream, and its rows come only without it.
	err := s.db.rows(ctx, query+"\n| delete _stream, _stream_id", func(fields []logstorage.Field) error {
		l, err := s.found(fields)
		if err != nil {
			return err
		}
		return f(l)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

func (s *Store) found(fields []logstorage.Field) (*Found, error) {
	l, sid, message := &Found{}, "", ""
	var seq, gap uint64
	var err error
	for _, f := range fields {
		switch f.Name {
		case "_time":
			l.Time, err = time.Parse(time.RFC3339Nano, f.Value)
		case "host":
			l.Host = f.Value
		case row.FieldSID:
			sid = f.Value
		case row.FieldSeq:
			seq, err = row.Seq(f.Value)
		case row.FieldGap:
			gap, err = strconv.ParseUint(f.Value, 10, 64)
		case "_msg":
			message = f.Value
		}
		if err != nil {
			return nil, fmt.Errorf("a row has a bad %s: %w", f.Name, err)
		}
	}
	l.UID = handshake.UID(sid, seq)
	if gap > 0 {
		l.UID, l.Text = handshake.GapID(sid, seq, gap), []byte(message)
		return l, nil
	}
	if l.Text, err = s.Text(fields); err != nil { // it must not keep the others from being found
		l.Text, l.Error = nil, err.Error()
	}
	return l, nil
}

// rows calls f with the fields of each row that a query gives, one row at a time.
func (d *database) rows(ctx context.Context, q string, f func([]logstorage.Field) error) error {
	if err := d.see(); err != nil {
		return err
	}
	var fields []logstorage.Field
	return d.library.query(ctx, q, func(b *logstorage.DataBlock) error {
		cols := b.GetColumns(false)
		for i := range b.RowsCount() {
			fields = fields[:0]
			for _, c := range cols {
				if c.Values[i] != "" {
					fields = append(fields, logstorage.Field{Name: c.Name, Value: c.Values[i]})
				}
			}
			if err := f(fields); err != nil {
				return err
			}
		}
		return nil
	})
}

// lines answers with lines, one Found in JSON a line: query, a LogsQL filter; limit;
// follow=true: and then with those that come.
func (s *Store) lines(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit < 1 {
		http.Error(w, "limit must be a number of at least 1", http.StatusBadRequest)
		return
	}
	ctx, filter := r.Context(), r.FormValue("query")
	var follower *follower
	if r.FormValue("follow") == "true" {
		follower = s.followers.subscribe()
		defer s.followers.unsubscribe(follower)
	}
	s.applied(ctx)
	out, sent := json.NewEncoder(w), map[string]bool{}
	err = s.Lines(ctx, filter, limit, func(l *Found) error {
		if follower != nil || len(sent) == 0 {
			sent[l.UID] = true
		}
		return out.Encode(l)
	})
	if err == nil && follower != nil {
		flush := http.NewResponseController(w).Flush
		err = flush()
		if err == nil {
			err = s.follow(ctx, follower, filter, func(l *Found) error {
				if sent[l.UID] {
					return nil
				}
				return errors.Join(out.Encode(l), flush())
			})
		}
	}
	switch {
	case err != nil && len(sent) > 0:
		panic(http.ErrAbortHandler) // the client must not take it for complete
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// newest answers users of the network with lines, in one answer: as lines does,
// but in a bounded time and memory, and without those that come later.
func (s *Store) newest(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit < 1 {
		http.Error(w, "limit must be a number of at least 1", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.QueryTime)
	defer cancel()
	select {
	case s.queries <- struct{}{}:
		defer func() { <-s.queries }()
	case <-ctx.Done():
		http.Error(w, "too many queries at the same time; try again later", http.StatusServiceUnavailable)
		return
	}
	s.applied(ctx)
	out := json.NewEncoder(w)
	err = s.linesWithin(ctx, r.FormValue("query"), limit, maxHeld, func(l *Found) error { return out.Encode(l) })
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, fmt.Sprintf("the query took longer than %s; narrow its time range or add a filter",
			s.opts.QueryTime), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// applied waits a little until what is final can be found, too.
func (s *Store) applied(ctx context.Context) {
	for range 100 {
		if s.Stats().Waiting == 0 || ctx.Err() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
