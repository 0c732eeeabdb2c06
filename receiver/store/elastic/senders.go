package elastic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
)

// What is known of senders are documents of one index, whatever the prefix, so that
// all receivers of an engine share it; the id is that of the stream. A document's
// version is when the sender was last seen: the newest wins.
const (
	sendersIndex   = "wsrelay-senders"
	sendersMapping = `{"settings":{"number_of_shards":1},"mappings":{"dynamic":"false","properties":{"sid":{"type":"keyword"},"host":{"type":"keyword"},` +
		`"seen":{"type":"date"},"line":{"type":"date"}}}}`
)

var _ receiver.SenderKeeper = (*Store)(nil)

// Senders implements receiver.SenderKeeper.
func (s *Store) Senders(ctx context.Context) (all []receiver.Sender, err error) {
	err = s.eachDocument(ctx, sendersIndex, func(sid string, source gjson.Result) bool {
		var one receiver.Sender
		if json.Unmarshal([]byte(source.Raw), &one) == nil && one.SID == sid {
			all = append(all, one)
		}
		return true
	})
	return all, err
}

// KeepSenders implements receiver.SenderKeeper: it writes what has changed.
func (s *Store) KeepSenders(ctx context.Context, _, changed []receiver.Sender, removed []string) error {
	if !s.indices.has(sendersIndex) {
		if _, err := s.client.Do(ctx, http.MethodPut, "/"+sendersIndex, []byte(sendersMapping)); err != nil &&
			asError(err).transient() {
			return err
		}
		s.indices.add(sendersIndex)
	}
	for part := range slices.Chunk(changed, documentsPage) {
		var b bytes.Buffer
		for i := range part {
			fmt.Fprintf(&b, `{"index":{"_id":%q,"version":%d,"version_type":"external_gte"}}`+"\n", part[i].SID,
				part[i].Seen.UnixMilli())
			_ = json.NewEncoder(&b).Encode(&part[i]) // of strings and numbers
		}
		if err := s.writeSenders(ctx, b.Bytes()); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(removed, documentsPage) {
		var b strings.Builder
		for _, sid := range part {
			fmt.Fprintf(&b, `{"delete":{"_id":%q}}`+"\n", sid)
		}
		if err := s.writeSenders(ctx, []byte(b.String())); err != nil {
			return err
		}
	}
	return nil
}

// writeSenders sends a bulk. That another receiver has written something newer, or
// deleted it, is no fault.
func (s *Store) writeSenders(ctx context.Context, body []byte) error {
	answer, err := s.client.call(ctx, http.MethodPost, "/"+sendersIndex+"/_bulk", ndjson, body)
	if err != nil {
		return err
	}
	for _, item := range gjson.GetBytes(answer, "items").Array() {
		for _, action := range item.Map() {
			if status := int(action.Get("status").Int()); status >= 300 && status != http.StatusConflict &&
				status != http.StatusNotFound {
				return fmt.Errorf("keep sender %s: HTTP %d: %s", action.Get("_id").Str, status,
					action.Get("error.reason").Str)
			}
		}
	}
	return nil
}
