package elastic

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"wsrelay/internal/fsutil"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	replayPage  = 200 // dead letters in one round; fewer where they are long
	deadIndices = "/wsrelay-dead-*"
)

// Replayed is what became of dead letters.
type Replayed struct {
	Stored int            // documents made now
	There  int            // were documents already, from a replay that did not end
	Left   map[string]int // still dead letters, by the kind of error
}

// letter is a dead letter, as the engine or the file has it.
type letter struct {
	id     string
	source gjson.Result
}

// Replay tries all dead letters of the engine again, each in the index that
// has refused it. One that is taken becomes the document that its line would
// have been, under its UID, and is then no dead letter any more. So a replay
// that ends early is simply run again; receivers may work meanwhile. What
// Replayed says has been done, also with an error.
func (s *Store) Replay(ctx context.Context) (r Replayed, err error) {
	if _, err := s.client.Do(ctx, http.MethodPost, deadIndices+"/_refresh", nil); err != nil {
		return r, err
	}
	after, page := "", replayPage
	for {
		answer, err := s.client.Do(ctx, http.MethodPost, deadIndices+"/_search?seq_no_primary_term=true&allow_partial_search_results=false",
			fmt.Appendf(nil, `{"size":%d,"sort":[{"wsrelay.sid":"asc"},{"wsrelay.seq":"asc"}]%s}`, page, after))
		if errors.Is(err, errTooLong) && page > 1 {
			page /= 2
			continue
		}
		if err != nil {
			return r, err
		}
		hits := gjson.GetBytes(answer, "hits.hits").Array()
		if len(hits) == 0 {
			return r, nil
		}
		letters := make([]letter, len(hits))
		for i, hit := range hits {
			letters[i] = letter{hit.Get("_id").Str, hit.Get("_source")}
		}
		back, err := s.tryAgain(ctx, &r, letters)
		if err != nil {
			return r, err
		}
		if err := s.deleteLetters(ctx, hits, back); err != nil {
			return r, err
		}
		after = `,"search_after":` + hits[len(hits)-1].Get("sort").Raw
	}
}

// deleteLetters deletes those that came back.
func (s *Store) deleteLetters(ctx context.Context, hits []gjson.Result, back []bool) error {
	var body []byte
	for i, hit := range hits {
		if back[i] {
			body = fmt.Appendf(body, `{"delete":{"_index":%q,"_id":%q,"if_seq_no":%d,"if_primary_term":%d}}`+"\n",
				hit.Get("_index").Str, hit.Get("_id").Str, hit.Get("_seq_no").Int(), hit.Get("_primary_term").Int())
		}
	}
	if body == nil {
		return nil
	}
	answer, err := s.client.call(ctx, http.MethodPost, "/_bulk?filter_path=items.*.error", ndjson, body)
	if err != nil {
		return err
	}
	if e := gjson.GetBytes(answer, "items.0.delete.error"); e.Exists() {
		return fmt.Errorf("delete a dead letter that came back: %w", newError(http.StatusConflict, e))
	}
	return nil
}

// ReplayFile does the same with the letters of a file that no receiver has
// open. What comes back goes from the file when all of it has been tried.
func (s *Store) ReplayFile(ctx context.Context, path string) (r Replayed, err error) {
	d, err := openDeadFile(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }() // the lock
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	var rest []byte
	lines := bytes.SplitAfter(text, []byte{'\n'})
	for page := range slices.Chunk(lines[:len(lines)-1], replayPage) {
		letters := make([]letter, len(page))
		for i, line := range page {
			source := gjson.ParseBytes(line)
			letters[i] = letter{source.Get("_id").Str, source}
		}
		back, err := s.tryAgain(ctx, &r, letters)
		if err != nil {
			return r, err
		}
		for i, line := range page {
			if !back[i] {
				rest = append(rest, line...)
			}
		}
	}
	return r, fsutil.ReplaceFile(path, rest)
}

// tryAgain creates the documents, counts what becomes of them, and says which
// letters are documents now.
func (s *Store) tryAgain(ctx context.Context, r *Replayed, letters []letter) (back []bool, err error) {
	ops := make([]*op, 0, len(letters))
	of := make(map[*op]int)
	for i, l := range letters {
		o, err := s.revive(l.id, l.source)
		if err != nil {
			s.countLeft(r, l.id, "unreadable", err)
			continue
		}
		of[o], ops = i, append(ops, o)
	}
	if err := s.retry(ctx, ops); err != nil {
		return nil, err
	}
	back = make([]bool, len(letters))
	for _, o := range ops {
		switch o.outcome {
		case stored:
			r.Stored++
		case same:
			r.There++
		default:
			s.countLeft(r, o.id, o.err.Type, o.err)
			continue
		}
		back[of[o]] = true
	}
	return back, nil
}

// retry brings each document to an outcome: stored, same or refused.
func (s *Store) retry(ctx context.Context, ops []*op) error {
	ops, err := s.missingInStream(ctx, ops)
	if err != nil {
		return err
	}
	for try := 0; len(ops) > 0; {
		if err := s.ready(ctx, ops); err != nil {
			if err := s.wait(ctx, &try, err); err != nil {
				return err
			}
			continue
		}
		if err := s.bulks.do(ctx, ops, false); err != nil {
			return err
		}
		moved, rest, err := s.follow(ctx, ops)
		if err != nil {
			return err
		}
		if err := s.tryAll(ctx, rest); err != nil {
			return err
		}
		var again []*op
		for _, o := range rest {
			switch o.outcome {
			case exists:
				gone, err := s.compare(ctx, []*op{o})
				if err := o.keepIfDiverged(err); err != nil {
					return err
				}
				again = append(again, gone...)
			case unknown:
				if o.err.isIndexBlock() {
					o.outcome = refused
					continue
				}
				again = append(again, o)
			}
		}
		if len(again) > 0 {
			if err := s.wait(ctx, &try, again[0].err); err != nil {
				return err
			}
		}
		ops = slices.Concat(again, moved)
	}
	return nil
}

// missingInStream pins the documents of a data stream, and gives those that are
// not there, and all that are not for it.
func (s *Store) missingInStream(ctx context.Context, ops []*op) (missing []*op, err error) {
	var own []*op
	for _, o := range ops {
		if o.inStream() {
			own = append(own, o)
		} else {
			missing = append(missing, o)
		}
	}
	if len(own) == 0 {
		return missing, nil
	}
	if err := s.pinGeneration(ctx, own); err != nil {
		return nil, err
	}
	docs, err := s.lookUp(ctx, own)
	if err != nil {
		return nil, err
	}
	for i, o := range own {
		if !docs[i].found {
			missing = append(missing, o)
		} else if err := o.keepIfDiverged(s.match(o, docs[i])); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// keepIfDiverged leaves a dead letter one whose id another line has.
func (o *op) keepIfDiverged(err error) error {
	if d := (*receiver.DivergedError)(nil); errors.As(err, &d) {
		o.outcome, o.err = refused, &Error{Status: http.StatusConflict, Type: "diverged", Reason: d.Error()}
		return nil
	}
	return err
}

// tryAll finds out about the documents that were refused. What is the engine's
// trouble leaves them refused.
func (s *Store) tryAll(ctx context.Context, ops []*op) error {
	var suspects []*op
	for _, o := range ops {
		if o.outcome == refused {
			suspects = append(suspects, o)
		}
	}
	err := s.try(ctx, suspects, make(map[string]bool))
	if e := (*receiver.DocumentError)(nil); errors.As(err, &e) {
		return nil
	}
	return err
}

func (s *Store) countLeft(r *Replayed, id, kind string, err error) {
	s.log.Debug("dead letter stays", "id", id, "err", err)
	if r.Left == nil {
		r.Left = make(map[string]int)
	}
	r.Left[kind]++
}

// revive makes of a dead letter the document that was refused.
func (s *Store) revive(id string, letter gjson.Result) (*op, error) {
	own, index := letter.Get("wsrelay"), letter.Get("error.index").Str
	isStream := s.stream != nil && index == s.stream.name
	at, err := time.Parse(timeFormat, own.Get("at").Str)
	switch {
	case err != nil:
		return nil, fmt.Errorf("wsrelay.at: %w", err)
	case !strings.HasPrefix(index, "wsrelay-") && !isStream:
		return nil, fmt.Errorf("error.index is %q: a data stream is replayed with --data-stream", index)
	case !handshake.ValidSID(own.Get("sid").Str):
		return nil, errors.New("wsrelay.sid is none")
	}
	b := receiver.Batch{SID: own.Get("sid").Str, Host: own.Get("host").Str, Seq: own.Get("seq").Uint(), At: at}
	if g := own.Get("gap"); g.Exists() {
		b.Gap = &handshake.Gap{Seq: b.Seq, N: g.Get("n").Uint(), Why: g.Get("why").Str, Maybe: g.Get("maybe").Bool()}
		if g.Get("from").Exists() {
			from, _ := time.Parse(timeFormat, g.Get("from").Str)
			to, _ := time.Parse(timeFormat, g.Get("to").Str)
			b.Gap.From, b.Gap.To = from.UnixMilli(), to.UnixMilli()
		}
	} else {
		line := []byte(letter.Get("message").Str)
		if raw := own.Get("raw"); raw.Exists() {
			if line, err = base64.StdEncoding.DecodeString(raw.Str); err != nil {
				return nil, fmt.Errorf("wsrelay.raw: %w", err)
			}
		}
		if handshake.CRC(line) != own.Get("crc").Str {
			return nil, errors.New("the line is not the one that was sent: its checksum differs")
		}
		b.Lines = [][]byte{line}
	}
	o := newOps("", []receiver.Batch{b})[0]
	if o.id != id {
		return nil, fmt.Errorf("the id is %s, that of the line is %s", id, o.id)
	}
	o.index, o.pipeline = index, s.pipeline
	if isStream {
		o.stream = index
	}
	return o, nil
}
