package elastic

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/tidwall/gjson"
)

const ownFields = `"wsrelay":{"properties":{` +
	`"sid":{"type":"keyword"},"seq":{"type":"long"},"crc":{"type":"keyword","index":false},` +
	`"at":{"type":"date"},"host":{"type":"keyword"},"raw":{"type":"binary"},"cut":{"type":"boolean"},` +
	`"pin":{"type":"object","dynamic":"strict"},"line":{"type":"text"},"omitted":{"type":"keyword","ignore_above":1024},"why":{"type":"text"},` +
	`"gap":{"properties":{"n":{"type":"long"},"why":{"type":"keyword"},"maybe":{"type":"boolean"},` +
	`"from":{"type":"date"},"to":{"type":"date"}}}}}`

// noGuesses keeps engines from guessing types by what the first value looks like:
// a text that looks like a date is a text, but for the time of the line. Fractions
// are doubles, as in JSON. An administrator's templates go before all of it.
const noGuesses = `"date_detection":false,"numeric_detection":false,"dynamic_templates":[` +
	`{"wsrelay_time":{"match":"@timestamp","mapping":{"type":"date"}}},` +
	`{"wsrelay_strings":{"match_mapping_type":"string","mapping":{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":256}}}}},` +
	`{"wsrelay_fractions":{"match_mapping_type":"double","mapping":{"type":"double"}}}]`

// What indices are made with. It fixes the types of the fields that are ours
// before a line can guess them; templates add the rest.
const (
	Mapping = `{"mappings":{` + noGuesses + `,"properties":{` + ownFields + `}}}`

	proofMapping = `{"settings":{"number_of_shards":1,"auto_expand_replicas":"0-1"},"mappings":{"dynamic":"false","properties":{` + ownFields + `}}}`

	DeadMapping = `{"mappings":{"dynamic":"false","properties":{` + ownFields + `,` +
		`"@timestamp":{"type":"date"},"message":{"type":"text"},` +
		`"error":{"properties":{"code":{"type":"keyword"},"type":{"type":"keyword"},` +
		`"message":{"type":"text"},"index":{"type":"keyword"}}}}}}`
)

// indices remembers which ones are there, as far as we know, and which we cannot
// make.
type indices struct {
	mu    sync.Mutex
	known map[string]bool
}

// ensure creates the indices of the documents that are not known to exist. Of
// refusals only a limit of the cluster is judged here: an engine that makes the
// index automatically once that is raised would guess the types of our fields. What
// the others mean the documents' own answers tell. Who may not make an index
// today may tomorrow, and tries it each time.
func (x *indices) ensure(ctx context.Context, c *Client, ops []*op) *Error {
	var refused []string
	for _, o := range ops {
		if o.inStream() || x.has(o.index) || slices.Contains(refused, o.index) {
			continue
		}
		mapping := Mapping
		if o.dead != nil {
			mapping = DeadMapping
		}
		_, err := c.call(ctx, http.MethodPut, "/"+o.index, "application/json", []byte(mapping))
		e := asError(err)
		switch {
		case err == nil:
			x.add(o.index)
		case e.transient() || e.Type == "validation_exception":
			return e
		case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
			refused = append(refused, o.index)
		default:
			x.add(o.index)
		}
	}
	return nil
}

func (x *indices) has(index string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.known[index]
}

// forget makes every index one that is to be made.
func (x *indices) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.known)
}

func (x *indices) add(index string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known = make(map[string]bool)
	}
	x.known[index] = true
}

// documentsPage is how many documents one request reads or writes.
const documentsPage = 1000

// eachDocument calls f with each document of an index of ours, in the order of the stream
// ids that are their ids, until f returns false. An index that is missing has none.
func (s *Store) eachDocument(ctx context.Context, index string, f func(sid string, source gjson.Result) bool) error {
	if _, err := s.client.Do(ctx, http.MethodPost, "/"+index+"/_refresh", nil); err != nil {
		if asError(err).Status == http.StatusNotFound {
			return nil
		}
		return err
	}
	for after := ""; ; {
		query := fmt.Appendf(nil, `{"size":%d,"sort":[{"sid":"asc"}],"track_total_hits":false`, documentsPage)
		if after != "" {
			query = fmt.Appendf(query, `,"search_after":[%q]`, after)
		}
		answer, err := s.client.Do(ctx, http.MethodPost, "/"+index+"/_search?allow_partial_search_results=false",
			append(query, '}'))
		if err != nil {
			return err
		}
		hits := gjson.GetBytes(answer, "hits.hits").Array()
		for _, hit := range hits {
			if after = hit.Get("_id").Str; !f(after, hit.Get("_source")) {
				return nil
			}
		}
		if len(hits) < documentsPage {
			return nil
		}
	}
}
