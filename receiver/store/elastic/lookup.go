package elastic

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	lookupPath = "/_mget?_source_includes=wsrelay.crc" // but of a dead letter also why it is one
	maxLookup  = 5000                                  // ids in one request
)

// place is where a document is or would be.
type place struct{ index, id string }

// document is what a lookup found.
type document struct {
	found   bool
	noIndex bool // its index is not there
	crc     string
	error   *Error // of a dead letter: why it is one
}

// absent gives the documents that are not there, neither in their index nor
// among the dead letters of the engine and of the local file. If one is there
// that differs, it is a *receiver.DivergedError, and nothing has been written.
//
// A stream is stored in the order of its numbers: where none of the first batch
// is there, its index is not asked for those behind it. If a Commit that failed
// has stored some, creating them tells. Of dead letters it would not: each is
// looked for. With lettersOnly, nothing else is.
func (s *Store) absent(ctx context.Context, ops []*op, lettersOnly bool) ([]*op, error) {
	dead := make([]place, len(ops))
	for i, o := range ops {
		dead[i] = place{o.deadIndex(), o.id}
	}
	letters, err := s.find(ctx, dead)
	if err != nil {
		return nil, err
	}
	switch {
	case s.stream != nil: // creating them would not tell: the id may be in an older backing index
		return s.missing(ctx, ops, letters, true)
	case lettersOnly:
		return s.missing(ctx, ops, letters, false)
	}
	first := slices.IndexFunc(ops, func(o *op) bool { return o.of != ops[0].of })
	if first < 0 {
		first = len(ops)
	}
	absent, err := s.missing(ctx, ops[:first], letters[:first], true)
	if err != nil {
		return nil, err
	}
	rest, err := s.missing(ctx, ops[first:], letters[first:], len(absent) < first)
	return append(absent, rest...), err
}

// missing is absent for some of the documents, of whose dead letters it is known
// which are there. Their own index is asked, or held not to have them.
func (s *Store) missing(ctx context.Context, ops []*op, letters []document, ask bool) (missing []*op, err error) {
	docs := make([]document, len(ops))
	if ask {
		if docs, err = s.lookUp(ctx, ops); err != nil {
			return nil, err
		}
	}
	for i, o := range ops {
		letter := letters[i]
		if !letter.found && s.deadFile != nil {
			letter = s.deadFile.find(o.id)
		}
		switch {
		case docs[i].found:
			err = s.match(o, docs[i])
		case letter.found:
			o.dead = letter.error
			err = s.match(o, letter)
		default:
			missing = append(missing, o)
		}
		if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// compare looks at what holds the ids of documents that could not be created,
// and gives those whose id is free after all.
func (s *Store) compare(ctx context.Context, ops []*op) (gone []*op, err error) {
	places := make([]place, len(ops))
	for i, o := range ops {
		places[i] = place{cmp.Or(o.takenIn, o.index), o.id}
	}
	docs, err := s.find(ctx, places)
	if err != nil {
		return nil, err
	}
	for i, o := range ops {
		if !docs[i].found {
			o.outcome = unknown
			o.err = &Error{Err: fmt.Errorf("the id of document %s is taken and free at once", o.id)}
			gone = append(gone, o)
			continue
		}
		if err := s.match(o, docs[i]); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// buryRefused makes dead letters of the documents that their index does not
// take. An earlier try whose answer was lost may have stored some of them: these
// are there, and not returned.
func (s *Store) buryRefused(ctx context.Context, ops []*op) (buried []*op, err error) {
	why := make([]*Error, len(ops))
	for i, o := range ops {
		why[i] = o.err
	}
	if len(ops) == 0 {
		return nil, nil
	}
	buried, err = s.compare(ctx, ops)
	for i, o := range ops {
		if o.outcome == unknown {
			o.bury(why[i])
		}
	}
	return buried, err
}

// match notes on o that doc holds its id, or says that doc is another line.
func (s *Store) match(o *op, doc document) error {
	switch {
	case doc.crc != o.crc && doc.crc != "" && o.crc != "":
		return &receiver.DivergedError{SID: o.batch.SID, Seq: o.seq}
	case doc.crc == "" && o.crc != "":
		s.log.Warn("stored document has no checksum", "id", o.id, "index", o.index,
			"effect", "it is taken for the line with this id",
			"hint", "something other than wsreceive writes to this index")
	}
	o.outcome = same
	if o.dead != nil {
		o.outcome = rejected
	}
	return nil
}

// find looks documents up, at once visible after their receipt: no refresh is
// needed. The answer stands in the order of places.
//
// Of each index one document is looked up first: where the index is not there,
// as that of dead letters is not while all is well, an engine makes an error of
// each.
func (s *Store) find(ctx context.Context, places []place) ([]document, error) {
	docs := make([]document, len(places))
	var first, others []int // indices of places
	seen := make(map[string]bool)
	for i, p := range places {
		if !seen[p.index] {
			seen[p.index] = true
			first = append(first, i)
		} else {
			others = append(others, i)
		}
	}
	if err := s.fill(ctx, docs, places, first); err != nil {
		return nil, err
	}
	for _, i := range first {
		seen[places[i].index] = !docs[i].noIndex
	}
	others = slices.DeleteFunc(others, func(i int) bool { return !seen[places[i].index] })
	for some := range slices.Chunk(others, maxLookup) {
		if err := s.fill(ctx, docs, places, some); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// fill looks up the documents at some of the places.
func (s *Store) fill(ctx context.Context, docs []document, places []place, some []int) error {
	if len(some) == 0 {
		return nil
	}
	wanted := make([]place, len(some))
	for n, i := range some {
		wanted[n] = places[i]
	}
	for try := 0; ; {
		found, err := s.client.find(ctx, wanted)
		if err == nil {
			for n, i := range some {
				docs[i] = found[n]
			}
			return nil
		}
		if err := s.wait(ctx, &try, asError(err)); err != nil {
			return err
		}
	}
}

func (c *Client) find(ctx context.Context, places []place) ([]document, error) {
	body := []byte(`{"docs":[`)
	for i, p := range places {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"_index":"`+p.index+`","_id":"`+p.id+`"`...)
		if strings.HasPrefix(p.index, "wsrelay-dead-") {
			body = append(body, `,"_source":["wsrelay.crc","error"]`...)
		}
		body = append(body, '}')
	}
	answer, err := c.call(ctx, http.MethodPost, lookupPath, "application/json", append(body, "]}"...))
	if err != nil {
		return nil, err
	}
	items := gjson.GetBytes(answer, "docs").Array()
	if len(items) != len(places) {
		return nil, &Error{Err: fmt.Errorf("%d documents were looked up, the answer is about %d", len(places),
			len(items)), strange: true}
	}
	docs := make([]document, len(items))
	for i, item := range items {
		if item.Get("_id").Str != places[i].id {
			return nil, &Error{
				Err:     fmt.Errorf("document %s was looked up, the answer is about another", places[i].id),
				strange: true,
			}
		}
		if docs[i], err = readDocument(item); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func readDocument(item gjson.Result) (document, error) {
	if e := item.Get("error"); e.Exists() {
		switch kind := e.Get("type").Str; kind {
		case "index_not_found_exception":
			return document{noIndex: true}, nil
		case "index_closed_exception":
			return document{}, newError(http.StatusBadRequest, e)
		default: // such as a shard that is moving
			return document{}, newError(http.StatusServiceUnavailable, e)
		}
	}
	if !item.Get("found").Bool() {
		return document{}, nil
	}
	return sourceOf(item.Get("_source")), nil
}

func sourceOf(source gjson.Result) document {
	status, _ := strconv.Atoi(source.Get("error.code").Str)
	return document{
		found: true,
		crc:   source.Get("wsrelay.crc").Str,
		error: &Error{Status: status, Type: source.Get("error.type").Str, Reason: source.Get("error.message").Str},
	}
}

// streams remembers up to where each stream was found to be new: none of the
// ids that were looked up, or created since, was there. As long as a stream
// continues from there its ids are not looked up before they are created; but
// those that an earlier session may have had under way, among the dead letters.
type streams struct {
	mu  sync.Mutex
	new map[string]progress
}

type progress struct {
	next    uint64 // none of the ids below it was there
	settled uint64 // no earlier session has had any from here on
}

const (
	maxStreams = 100_000 // beyond it all are forgotten: that costs one look-up each
	underWay   = 80_000  // lines that a session can have under way: 16 batches of 5000
)

// lookupsFor says what to look for before the ids from seq on are created.
func (s *streams) lookupsFor(sid string, seq uint64) (documents, letters bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.new[sid]
	known := ok && p.next == seq
	return !known, !known || seq < p.settled
}

// passed notes that everything from first up to end is final; fresh says that
// none of it was there before.
func (s *streams) passed(sid string, first, end uint64, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.new[sid]
	switch {
	case !fresh:
		delete(s.new, sid)
		return
	case !ok || p.next != first:
		p.settled = first + underWay
	}
	if s.new == nil || len(s.new) >= maxStreams {
		s.new = make(map[string]progress)
	}
	p.next = end
	s.new[sid] = p
}

// forget makes the stream one that is looked up again.
func (s *streams) forget(sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.new, sid)
}

// Begin implements receiver.Store. The first ids of the session are looked up
// before any is created, so that a stream that was restored from a copy, and has
// diverged, writes nothing. Indices are made again that a user
// has deleted meanwhile.
func (s *Store) Begin(hello *handshake.Hello) {
	s.streams.forget(hello.SID)
	s.indices.forget()
	if s.stream != nil {
		s.stream.forget()
	}
}
