package elastic

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/receiver"
)

// The owners of streams are documents of one index, whatever the prefix: the id
// is that of the stream. They are made with op create, and changed only if nobody
// else has changed them since they were read.
const (
	ownersIndex   = "wsrelay-streams"
	ownersMapping = `{"settings":{"number_of_shards":1},"mappings":{"dynamic":"false","properties":{` +
		`"sid":{"type":"keyword"},"owner":{"type":"keyword"}}}}`
	ownerTimeout = 3 * time.Second // of a look-up: a sender waits for its welcome
	ownersAtOnce = 16              // requests
)

var _ receiver.Owners = (*Store)(nil)

// owners remembers what the engine has said, for when it does not answer: senders
// that were connected before can then come back and wait.
type owners struct {
	slots chan struct{} // one for each request

	mu    sync.Mutex // guards said
	known map[string]string
}

func newOwners() owners {
	return owners{slots: make(chan struct{}, ownersAtOnce), known: map[string]string{}}
}

func (o *owners) note(sid, owner string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) >= maxStreams {
		clear(o.known)
	}
	if owner != "" {
		o.known[sid] = owner
	}
}

func (o *owners) remembered(sid string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[sid]
}

// ownerRequest sends one request about owners; body may be nil.
func (s *Store) ownerRequest(ctx context.Context, method, path string, body []byte) (gjson.Result, error) {
	select {
	case s.owners.slots <- struct{}{}:
		defer func() { <-s.owners.slots }()
	case <-ctx.Done():
		return gjson.Result{}, ctx.Err()
	}
	answer, err := s.client.Do(ctx, method, "/"+ownersIndex+path, body)
	return gjson.ParseBytes(answer), err
}

// ownerDocument is the owner of a stream, and what says that nobody has changed it.
func (s *Store) ownerDocument(ctx context.Context, sid string) (owner, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	doc, err := s.ownerRequest(ctx, http.MethodGet, "/_doc/"+sid, nil)
	switch {
	case err != nil && asError(err).Status == http.StatusNotFound: // the document, or the index
		return "", "", nil
	case err != nil:
		return "", "", err
	}
	return doc.Get("_source.owner").Str, fmt.Sprintf("?if_seq_no=%d&if_primary_term=%d", doc.Get("_seq_no").Int(),
		doc.Get("_primary_term").Int()), nil
}

// Owner implements receiver.Owners.
func (s *Store) Owner(ctx context.Context, sid string) (string, error) {
	owner, _, err := s.ownerDocument(ctx, sid)
	if err == nil {
		s.owners.note(sid, owner)
		return owner, nil
	}
	if known := s.owners.remembered(sid); known != "" && asError(err).transient() {
		return known, nil
	}
	return "", fmt.Errorf("look for the owner of stream %s: %w", sid, err)
}

// SetOwner implements receiver.Owners.
func (s *Store) SetOwner(ctx context.Context, sid, from, to string) (string, error) {
	path := "/_create/" + sid
	if from != "" {
		owner, version, err := s.ownerDocument(ctx, sid)
		if err != nil || owner != from {
			return owner, err
		}
		path = "/_doc/" + sid + version
	} else if err := s.makeOwners(ctx); err != nil {
		return "", err
	}
	body, _ := json.Marshal(map[string]string{"sid": sid, "owner": to}) // of strings
	_, err := s.ownerRequest(ctx, http.MethodPut, path, body)
	switch {
	case err == nil:
		s.owners.note(sid, to)
		return to, nil
	case asError(err).Status == http.StatusConflict: // another receiver was faster
		return s.Owner(ctx, sid)
	}
	return "", fmt.Errorf("note the owner of stream %s: %w", sid, err)
}

// makeOwners makes the index, which an engine that makes it automatically would make
// otherwise. Where that is not allowed, the next request tells.
func (s *Store) makeOwners(ctx context.Context) error {
	if s.indices.has(ownersIndex) {
		return nil
	}
	_, err := s.ownerRequest(ctx, http.MethodPut, "", []byte(ownersMapping))
	if err != nil && asError(err).transient() {
		return err
	}
	s.indices.add(ownersIndex)
	return nil
}

// EachOwner implements receiver.Owners.
func (s *Store) EachOwner(ctx context.Context, f func(sid, owner string) bool) error {
	return s.eachDocument(ctx, ownersIndex, func(sid string, source gjson.Result) bool {
		return f(sid, source.Get("owner").Str)
	})
}
