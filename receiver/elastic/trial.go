package elastic

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"wsrelay/receiver"
)

const (
	probeID     = "wsrelay-probe"
	maxTrials   = 2    // at once, so that odd lines never hold all of the engine's threads
	trialDocs   = 2000 // documents in one request of a trial
	maxRefusals = 4    // of a document, before no member of its line is a field any more
	maxWhy      = 500  // bytes of a refusal that a document quotes
)

// try finds out whose fault it is that documents were refused, again and again
// if waiting might have helped. No status and no word of a refusal tells: what
// the engine takes in the same request does.
//
// A document is sent again, and right behind it, under the same id and so to the
// same shard, the same with less: without the members that the refusal mentions,
// then with the line as text only. If the engine takes the second one, the first
// was at fault, and its line is stored. If it refuses both, it is asked for an
// empty document for the same shard: where that is taken, the line cannot be
// stored there in any form, and its outcome stays refused. Where it is not, the
// engine is in trouble: that is an error, and the lines stay with their senders.
//
// It does not matter which of the forms is stored: each has the id and the
// checksum of the line. Took has the indices that have taken documents meanwhile.
func (s *Store) try(ctx context.Context, suspects []*op, took map[string]bool) error {
	if len(suspects) == 0 {
		return nil
	}
	select {
	case s.trials <- struct{}{}:
		defer func() { <-s.trials }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, o := range suspects {
		if took[o.index] {
			continue
		}
		took[o.index] = true
		if err := s.probe(ctx, o); err != nil { // is it the engine?
			return refusal(o, o.err)
		}
	}
	for left := suspects; len(left) > 0; {
		pairs := make([]pair, len(left))
		for i, o := range left {
			o.first = cmp.Or(o.first, o.err)
			pairs[i] = pair{o, s.less(o)}
		}
		s.names.write(flat(pairs))
		if err := s.sendPairs(ctx, pairs); err != nil {
			return err
		}
		left = left[:0:0]
		for _, p := range pairs {
			switch more, err := p.judge(); {
			case err != nil:
				return err
			case more:
				left = append(left, p.full)
			}
		}
	}
	return s.sweep(ctx, suspects)
}

// pair is a document, and what is sent behind it.
type pair struct{ full, less *op }

func flat(pairs []pair) []*op {
	ops := make([]*op, 0, 2*len(pairs))
	for _, p := range pairs {
		ops = append(ops, p.full, p.less)
	}
	return ops
}

// less is the document with less of its line, or an empty one for its shard.
func (s *Store) less(o *op) *op {
	l := *o
	l.body, l.refusals = nil, o.refusals+1
	l.why = cut(o.err.Type+": "+o.err.Reason, maxWhy)
	if l.asText || l.line == nil {
		o.probed = true
		return probeOf(o)
	}
	l.omit = append(slices.Clone(o.omit), mentioned(o.err.Reason)...)
	if l.refusals < maxRefusals && len(l.omit) > len(o.omit) {
		if s.names.write([]*op{&l}); l.hit {
			return &l
		}
	}
	l.asText, l.omit, l.body = true, nil, nil
	return &l
}

func probeOf(o *op) *op {
	p := &op{batch: o.batch, index: o.index, id: probeID, probes: true}
	p.body = fmt.Appendf(nil, `{"create":{"_index":%q,"_id":%q,"routing":%q}}`+"\n{}\n", p.index, p.id, o.id)
	return p
}

// mentioned gives what a refusal has in brackets or quotes. Among it are the
// names of the members that it is about, if it is about any.
func mentioned(reason string) (names []string) {
	for _, quotes := range []string{"[]", "''", `""`} {
		for rest, ok := reason, true; ok && len(names) < 8; {
			var name string
			if _, rest, ok = strings.Cut(rest, quotes[:1]); ok {
				if name, rest, ok = strings.Cut(rest, quotes[1:]); ok && name != "" {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// judge says what the answers to both mean, on p.full. More says that there is
// less to be tried.
func (p *pair) judge() (more bool, err error) {
	o, l := p.full, p.less
	switch {
	case o.outcome == stored || o.outcome == exists:
		return false, nil
	case l.probes && (l.outcome == stored || l.outcome == exists):
		o.outcome, o.err = refused, o.first
		return false, nil
	case l.probes:
		return false, refusal(o, l.err)
	}
	call := o.call
	*o = *l // what there is of the line now
	o.call = call
	return o.outcome != stored && o.outcome != exists, nil
}

// refusal is the error of a document that the engine does not take.
func refusal(o *op, err *Error) error {
	if err.whole {
		return err
	}
	return &receiver.DocumentError{ID: o.id, Err: fmt.Errorf("create document %s in %s: %w", o.id, o.index, err)}
}

// probe asks whether the engine takes an empty document for o's shard.
func (s *Store) probe(ctx context.Context, o *op) error {
	p := probeOf(o)
	o.probed = true
	if err := s.client.send(ctx, []*op{p}); err != nil {
		return err
	}
	if p.outcome != stored && p.outcome != exists {
		return p.err
	}
	return s.sweep(ctx, []*op{o})
}

// sweep deletes the probes for the documents' shards. Who may not delete leaves
// them: one empty document in a shard.
func (s *Store) sweep(ctx context.Context, ops []*op) error {
	var body []byte
	for _, o := range ops {
		if o.probed {
			body = fmt.Appendf(body, `{"delete":{"_index":%q,"_id":%q,"routing":%q}}`+"\n", o.index, probeID, o.id)
		}
	}
	if body == nil {
		return nil
	}
	if _, err := s.client.call(ctx, http.MethodPost, "/_bulk?filter_path=errors", ndjson, body); err != nil {
		s.log.Debug("probe not deleted", "err", err)
	}
	return context.Cause(ctx)
}

// sendPairs sends the pairs in requests of a limited size.
func (s *Store) sendPairs(ctx context.Context, pairs []pair) error {
	for len(pairs) > 0 {
		n, size := 0, 0
		for n < len(pairs) && n < trialDocs/2 && (n == 0 || size+len(pairs[n].full.body)+len(pairs[n].less.body) <= maxBulkBytes) {
			size += len(pairs[n].full.body) + len(pairs[n].less.body)
			n++
		}
		if err := s.sendSome(ctx, pairs[:n]); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

// sendSome sends pairs in one request. One that is refused as a whole, or not
// answered, is sent in halves, in the end each document by itself.
func (s *Store) sendSome(ctx context.Context, pairs []pair) error {
	ops := flat(pairs)
	err := s.client.send(ctx, ops)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		return nil
	case len(pairs) > 1:
		if err := s.sendSome(ctx, pairs[:len(pairs)/2]); err != nil {
			return err
		}
		return s.sendSome(ctx, pairs[len(pairs)/2:])
	}
	for _, o := range ops {
		if err := s.client.send(ctx, []*op{o}); err != nil {
			o.judge(asError(err))
		}
		if o.outcome == stored || o.outcome == exists {
			break
		}
	}
	return context.Cause(ctx)
}
