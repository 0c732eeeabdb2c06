package elastic

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/gjson"
)

// An id is unique in one backing index of a data stream only, and a rollover may
// come between any two requests, or under one that the engine is working on. So
// each attempt to create a document is for one backing index, and the engine
// itself holds it to that: the document has a pin, a field of the name of that
// generation, and only the mapping of that backing index has such a field, in an
// object whose mapping is strict. A request that meets another backing index,
// however late, is refused there.
//
// Before a document that may have been sent earlier is pinned to a backing index,
// all older ones are sealed, and its id is searched for in them. Sealed is an
// index with a write block: the engine sets one only when all writes under way in
// the index have ended. So an id that is not there then never will be. By
// induction, a document is in one backing index at most, whatever was rolled
// over, killed or left under way, and with any number of receivers.

var validStream = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// CheckDataStream says why the name is none that Options takes.
func CheckDataStream(name string) error {
	if !validStream.MatchString(name) || strings.HasPrefix(name, "wsrelay-") {
		return fmt.Errorf(`data stream %q: want up to 100 lower-case letters, digits, ".", "_" and "-", not beginning with "wsrelay-", such as logs-wsrelay-default`, name)
	}
	return nil
}

const (
	sealAtOnce  = 20   // indices in the path of one request
	searchSpan  = 5000 // numbers that one search looks for
	searchLimit = 10_000
)

// dataStream is where documents go, instead of indices of days.
type dataStream struct {
	name string

	mu     sync.Mutex
	known  *generation       // nil: the engine is to be asked
	probes map[string]string // ids, by backing index and shard

	// A seal waits for writes under way, and must not hold up those who need none.
	sealing sync.Mutex
	sealed  map[string]bool // backing indices that take no more, and can be searched
}

// generation is the stream between two rollovers.
type generation struct {
	writes string   // the backing index that documents are created in
	older  []string // the others
}

// current gives the generation, which may be over by the time it is used.
func (d *dataStream) current(ctx context.Context, c *Client) (*generation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known != nil {
		return d.known, nil
	}
	g, err := d.resolve(ctx, c)
	if err == nil && g == nil {
		if _, err = c.Do(ctx, http.MethodPut, "/_data_stream/"+d.name, nil); err == nil {
			g, err = d.resolve(ctx, c)
		}
	}
	if err != nil {
		return nil, err
	}
	if g == nil {
		return nil, &Error{Status: http.StatusNotFound, Reason: "there is no data stream " + d.name}
	}
	if err := d.admit(ctx, c, g.writes); err != nil {
		return nil, err
	}
	d.known = g
	return g, nil
}

// forget makes the generation one to be asked for.
func (d *dataStream) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = nil
}

// resolve asks for the backing indices; none: there is no such stream.
func (d *dataStream) resolve(ctx context.Context, c *Client) (*generation, error) {
	answer, err := c.Do(ctx, http.MethodGet, "/_resolve/index/"+d.name, nil)
	if err != nil && asError(err).Status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, index := range gjson.GetBytes(answer, "data_streams.0.backing_indices").Array() {
		all = append(all, index.Str)
	}
	last := len(all) - 1
	switch {
	case gjson.GetBytes(answer, "indices.0").Exists(), gjson.GetBytes(answer, "aliases.0").Exists():
		return nil, &Error{Status: http.StatusOK, Reason: d.name + " is an index or an alias, not a data stream"}
	case last < 0:
		return nil, nil
	}
	return &generation{writes: all[last], older: all[:last]}, nil
}

// pinOf is the field that only this backing index has.
func pinOf(index string) string {
	return strings.ReplaceAll(index[strings.LastIndexByte(index, '-')+1:], ".", "_")
}

// admit makes the backing index take documents that are pinned to it. That it
// refuses others has to come from the template, which makes the next one as well.
func (d *dataStream) admit(ctx context.Context, c *Client, index string) error {
	answer, err := c.Do(ctx, http.MethodGet, "/"+index+"/_mapping", nil)
	if err != nil {
		return err
	}
	mapping := gjson.GetBytes(answer, gjsonKey(index)+".mappings.properties.wsrelay.properties.pin")
	switch {
	case mapping.Get("dynamic").String() != "strict":
		return &Error{
			Status: http.StatusOK, Type: "no_template",
			Reason: fmt.Sprintf("the backing index %s was not made by the template of wsreceive setup --data-stream %s: run that, then POST /%[2]s/_rollover", index, d.name),
		}
	case mapping.Get("properties." + pinOf(index)).Exists():
		return nil
	}
	_, err = c.Do(ctx, http.MethodPut, "/"+index+"/_mapping", fmt.Appendf(nil,
		`{"properties":{"wsrelay":{"properties":{"pin":{"dynamic":"strict","properties":{%q:{"type":"boolean","index":false,"doc_values":false}}}}}}}`, pinOf(index)))
	return err
}

func gjsonKey(name string) string { return strings.ReplaceAll(name, ".", `\.`) }

// seal makes sure that the backing indices take no more documents, and that those
// they have can be searched.
func (d *dataStream) seal(ctx context.Context, c *Client, indices []string) error {
	d.sealing.Lock()
	defer d.sealing.Unlock()
	open := slices.DeleteFunc(slices.Clone(indices), func(index string) bool { return d.sealed[index] })
	for some := range slices.Chunk(open, sealAtOnce) {
		written, err := withoutBlock(ctx, c, some)
		if err == nil && len(written) > 0 {
			if _, err = c.Do(ctx, http.MethodPut, "/"+strings.Join(written, ",")+"/_block/write", nil); err == nil {
				written, err = withoutBlock(ctx, c, some)
			}
		}
		if err == nil && len(written) > 0 {
			err = &Error{
				Status: http.StatusServiceUnavailable,
				Reason: "writes to the backing index " + written[0] + " have not ended",
			}
		}
		if err == nil {
			err = refresh(ctx, c, some)
		}
		if err != nil {
			return err
		}
		for _, index := range some {
			d.sealed[index] = true
		}
	}
	return nil
}

// withoutBlock gives those of the indices that may be written.
func withoutBlock(ctx context.Context, c *Client, indices []string) ([]string, error) {
	answer, err := c.Do(ctx, http.MethodGet, "/"+strings.Join(indices,
		",")+"/_settings/index.blocks.*?flat_settings=true", nil)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(indices), func(index string) bool {
		settings := gjson.GetBytes(answer, gjsonKey(index)+".settings")
		return settings.Get(`index\.blocks\.write`).String() == "true" ||
			settings.Get(`index\.blocks\.read_only`).String() == "true"
	}), nil
}

func refresh(ctx context.Context, c *Client, indices []string) error {
	answer, err := c.Do(ctx, http.MethodPost, "/"+strings.Join(indices, ",")+"/_refresh", nil)
	if err != nil {
		return err
	}
	if n := gjson.GetBytes(answer, "_shards.failed").Int(); n > 0 {
		return &Error{Status: http.StatusServiceUnavailable, Reason: fmt.Sprintf("%d shards of backing indices cannot be refreshed", n)}
	}
	return nil
}

// pinGeneration pins the documents to the generation that is known.
func (s *Store) pinGeneration(ctx context.Context, ops []*op) error {
	for try := 0; ; {
		g, err := s.stream.current(ctx, s.client)
		if err == nil {
			for _, o := range ops {
				o.pin(s.stream.name, g.writes)
			}
			return nil
		}
		if err := s.wait(ctx, &try, asError(err)); err != nil {
			return err
		}
	}
}

// pin makes the document one for this backing index.
func (o *op) pin(stream, index string) {
	o.stream, o.index, o.body, o.less = stream, index, nil, nil
	o.probeID, o.probed = "", false
}

// inStream reports whether the document is for a data stream.
func (o *op) inStream() bool { return o.stream != "" && o.dead == nil }

// follow finds out whether the stream was rolled over under documents that were
// not taken. These are pinned to the new backing index and looked up; moved are
// those that are to be created there, rest all that was not rolled over.
func (s *Store) follow(ctx context.Context, ops []*op) (moved, rest []*op, err error) {
	isLeft := func(o *op) bool { return o.inStream() && (o.outcome == unknown || o.outcome == refused) }
	if !slices.ContainsFunc(ops, isLeft) {
		return nil, ops, nil
	}
	s.stream.forget()
	g, err := s.stream.current(ctx, s.client)
	if err != nil {
		if asError(err).transient() {
			return nil, ops, nil // waiting is the next thing
		}
		return nil, nil, err
	}
	var late []*op
	for _, o := range ops {
		if isLeft(o) && o.index != g.writes {
			o.pin(s.stream.name, g.writes)
			o.outcome, o.asText, o.omit, o.why = unknown, false, nil, ""
			late = append(late, o)
		} else {
			rest = append(rest, o)
		}
	}
	docs, err := s.lookUp(ctx, late)
	for i, o := range late {
		if err == nil && docs[i].found {
			err = s.match(o, docs[i])
		} else {
			moved = append(moved, o)
		}
	}
	return moved, rest, err
}

// lookUp finds documents in their index, or anywhere in their data stream.
func (s *Store) lookUp(ctx context.Context, ops []*op) ([]document, error) {
	places := make([]place, len(ops))
	for i, o := range ops {
		places[i] = place{o.index, o.id}
	}
	docs, err := s.find(ctx, places)
	if err != nil || s.stream == nil {
		return docs, err
	}
	for try := 0; ; {
		err := s.findOlder(ctx, ops, docs)
		if err == nil {
			return docs, nil
		}
		s.stream.forget()
		if err := s.wait(ctx, &try, asError(err)); err != nil {
			return nil, err
		}
	}
}

// findOlder searches for the documents in the backing indices that are older than
// the one that they are pinned to.
func (s *Store) findOlder(ctx context.Context, ops []*op, docs []document) error {
	g, err := s.stream.current(ctx, s.client)
	if err != nil || len(g.older) == 0 {
		return err
	}
	if err := s.stream.seal(ctx, s.client, g.older); err != nil {
		return err
	}
	of := make(map[string]int, len(ops))
	for i, o := range ops {
		if o.inStream() {
			of[o.id] = i
		}
	}
	for i := 0; i < len(ops); {
		first := ops[i]
		last := first.seq
		for ; i < len(ops) && ops[i].batch.SID == first.batch.SID && ops[i].seq-first.seq < searchSpan; i++ {
			last = ops[i].seq
		}
		hits, err := s.search(ctx, first.batch.SID, first.seq, last)
		if err != nil {
			return err
		}
		for _, hit := range hits {
			if at, ok := of[hit.Get("_id").Str]; ok {
				docs[at] = sourceOf(hit.Get("_source"))
			}
		}
	}
	return nil
}

// search gives what the data stream has of a stream of lines, from one number up
// to another.
func (s *Store) search(ctx context.Context, sid string, first, last uint64) ([]gjson.Result, error) {
	answer, err := s.client.Do(ctx, http.MethodPost, "/"+s.stream.name+"/_search?allow_partial_search_results=false",
		fmt.Appendf(nil,
			`{"size":%d,"track_total_hits":false,"_source":["wsrelay.crc"],"query":{"bool":{"filter":[{"term":{"wsrelay.sid":%q}},{"range":{"wsrelay.seq":{"gte":%d,"lte":%d}}}]}}}`,
			searchLimit, sid, first, last))
	if err != nil {
		return nil, err
	}
	hits := gjson.GetBytes(answer, "hits.hits").Array()
	if len(hits) >= searchLimit {
		return nil, &Error{
			Err:     fmt.Errorf("stream %s has too many documents from %d to %d", sid, first, last),
			strange: true,
		}
	}
	return hits, nil
}

// nameProbe chooses an id for the probe of the document's shard: data streams
// take no routing.
func (s *Store) nameProbe(ctx context.Context, o *op) error {
	if !o.inStream() || o.probeID != "" {
		return nil
	}
	want, shards, err := s.shardOf(ctx, o.index, o.id)
	if err != nil {
		return err
	}
	d := s.stream
	d.mu.Lock()
	defer d.mu.Unlock()
	key := o.index + " " + want
	for i := 0; d.probes[key] == ""; i++ {
		id := fmt.Sprintf("%s-%d", probeID, i)
		is := want
		if shards > 1 {
			if is, _, err = s.shardOf(ctx, o.index, id); err != nil {
				return err
			}
		}
		if len(d.probes) > maxIndices {
			clear(d.probes)
		}
		d.probes[o.index+" "+is] = id
	}
	o.probeID = d.probes[key]
	return nil
}

// shardOf tells which shard of the index has the id, and how many there are.
func (s *Store) shardOf(ctx context.Context, index, id string) (shard string, shards int, err error) {
	answer, err := s.client.Do(ctx, http.MethodGet, "/"+index+"/_search_shards?routing="+url.QueryEscape(id), nil)
	if err != nil {
		return "", 0, err
	}
	all, err := s.client.Do(ctx, http.MethodGet, "/"+index+"/_search_shards", nil)
	if err != nil {
		return "", 0, err
	}
	return gjson.GetBytes(answer, "shards.0.0.shard").Raw, len(gjson.GetBytes(all, "shards").Array()), nil
}

// checkStream looks at the data stream when the store is opened.
func (s *Store) checkStream(ctx context.Context) error {
	if s.stream == nil {
		return nil
	}
	_, err := s.stream.current(ctx, s.client)
	if err != nil {
		return fmt.Errorf("data stream %s: %w", s.stream.name, err)
	}
	return nil
}

// newDataStream gives the stream of the name, or nil for none.
func newDataStream(name string) (*dataStream, error) {
	if name == "" {
		return nil, nil
	}
	return &dataStream{name: name, sealed: make(map[string]bool), probes: make(map[string]string)},
		CheckDataStream(name)
}
