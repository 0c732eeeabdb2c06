package elastic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const proofIndex = "wsrelay-probe"

// errNotOnce is what Open says of a store that only looks like an engine.
var errNotOnce = errors.New("this server accepts a document twice, or does not find it: each line could be stored more than once. " +
	"Use Elasticsearch or OpenSearch itself; for another database use logs:DIR or file:PATH here, and let it read from there")

// proof remembers whether the engine has shown that it keeps an id once.
type proof struct {
	mu   sync.Mutex
	done bool
}

// verifyEngine writes a document, writes it again, reads and deletes it. All that is
// promised stands on op create refusing an id that is taken, and on _mget
// finding it: a store that only answers like an engine does not do that. An
// engine that is down now proves it before its first document.
func (s *Store) verifyEngine(ctx context.Context) error {
	s.proof.mu.Lock()
	defer s.proof.mu.Unlock()
	if s.proof.done {
		return nil
	}
	if _, err := s.client.Do(ctx, http.MethodPut, "/"+proofIndex, []byte(proofMapping)); err != nil &&
		asError(err).Status != http.StatusBadRequest {
		return fmt.Errorf("make the index %s: %w", proofIndex, err) // 400: it is there
	}
	sid := handshake.NewSID() // so that two receivers do not meet
	batch := receiver.Batch{SID: sid, Seq: 1, Lines: [][]byte{[]byte("proof")}}
	for _, want := range []outcome{stored, exists} {
		o := newOps("", []receiver.Batch{batch})[0]
		o.index, o.asText = proofIndex, true
		s.names.write([]*op{o})
		if err := s.client.send(ctx, []*op{o}); err != nil {
			return proofFailed(err)
		}
		if o.err != nil {
			return fmt.Errorf("write a document to %s: %w", proofIndex, o.err)
		}
		if o.outcome != want {
			return errNotOnce
		}
	}
	id := handshake.UID(sid, 1)
	docs, err := s.client.find(ctx, []place{{proofIndex, id}})
	if err != nil {
		return proofFailed(err)
	}
	if !docs[0].found || docs[0].crc != handshake.CRC(batch.Lines[0]) {
		return errNotOnce
	}
	s.proof.done = true
	if n := s.client.writeThreads(ctx); n > 0 {
		s.bulks.engineThreads(n)
	}
	if _, err := s.client.Do(ctx, http.MethodDelete, "/"+proofIndex+"/_doc/"+id, nil); err != nil {
		s.log.Debug("document of the proof not deleted", "err", err) // who may not delete leaves one at each start
	}
	return nil
}

// proofFailed tells an answer that no engine gives from an engine in trouble.
func proofFailed(err error) error {
	if e := asError(err); e.strange {
		return fmt.Errorf("%w (%w)", errNotOnce, err)
	}
	return err
}
