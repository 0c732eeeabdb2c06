package elastic

import (
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
// same shard, the same with less: without the members that the refusal mentions
// (or first with their integers as fractions, where they have both), then with the
// line as text only. If the engine takes the second one, the first was at fault,
// and its line is stored. If it refuses all of them, it is asked for an empty
// document behind them: where that is taken, the line cannot be stored there in any
// form, and its outcome stays refused. Where it is not, the engine is in trouble:
// that is an error, and the lines stay with their senders. The document as it is
// comes first each time, so that a trouble that passes costs it nothing.
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
	err := s.tryForms(ctx, suspects, took)
	if swept := s.sweep(ctx, suspects); err == nil {
		return swept
	}
	return err
}

// tryForms is try without its bounds.
func (s *Store) tryForms(ctx context.Context, suspects []*op, took map[string]bool) error {
	for _, o := range suspects {
		if err := s.nameProbe(ctx, o); err != nil {
			return err
		}
		if took[o.index] {
			continue
		}
		took[o.index] = true
		if err := s.probe(ctx, o); err != nil { // is it the engine?
			return refusal(o, o.err)
		}
	}
	for left := suspects; len(left) > 0; {
		attempts := make([]attempt, len(left))
		for i, o := range left {
			attempts[i] = s.attempt(o)
		}
		if err := s.sendAttempts(ctx, attempts); err != nil {
			return err
		}
		left = nil
		for _, a := range attempts {
			switch more, err := a.classify(); {
			case err != nil:
				return err
			case more:
				left = append(left, a[0])
			}
		}
	}
	return nil
}

// attempt is a document, and what is sent behind it.
type attempt []*op

func (s *Store) attempt(o *op) attempt {
	a := attempt{o}
	switch less := o.less; {
	case o.asText || o.line == nil:
		a = append(a, probeOf(o))
	case less == nil:
		a = append(a, s.lessOf(o))
	case less.asText:
		a = append(a, less, probeOf(o))
	default:
		a = append(a, s.lessOf(less))
	}
	s.names.write(a)
	return a
}

// lessOf is the document with less of its line, or with numbers that the engine may
// take beside each other.
func (s *Store) lessOf(o *op) *op {
	l := *o
	l.body, l.less, l.refusals = nil, nil, o.refusals+1
	names := mentioned(o.err.Reason)
	if o.refusals == 0 && len(names) > 0 {
		l.widen = names
		if s.names.write([]*op{&l}); l.hit {
			return &l
		}
		l.body, l.widen = nil, nil
	}
	l.why = cut(o.err.Type+": "+o.err.Reason, maxWhy)
	l.omit = append(slices.Clone(o.omit), names...)
	if l.refusals < maxRefusals && len(l.omit) > len(o.omit) {
		if s.names.write([]*op{&l}); l.hit {
			return &l
		}
	}
	l.asText, l.omit, l.body = true, nil, nil
	return &l
}

// probeOf is an empty document for o's shard.
func probeOf(o *op) *op {
	o.probed = true
	p := &op{batch: o.batch, at: o.at, index: o.index, id: probeID, pipeline: o.pipeline, probes: true}
	if o.inStream() {
		p.stream, p.id = o.stream, o.probeID
		p.body = append(p.appendTime(append(o.appendPin(append(p.appendAction(nil), `{"wsrelay":{`...)), '}')),
			"}\n"...)
		return p
	}
	p.routing = o.id
	p.body = append(p.appendAction(nil), "{}\n"...)
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

// classify says what the answers mean, on the document. More says that there is
// less to be tried.
func (a attempt) classify() (more bool, err error) {
	o := a[0]
	i := slices.IndexFunc(a, func(o *op) bool { return o.outcome == stored || o.outcome == exists })
	last := a[len(a)-1]
	switch {
	case i == 0:
	case i > 0 && a[i].probes:
		o.outcome = refused
	case i > 0:
		*o = *a[i]
	case last.probes:
		return false, refusal(o, last.err)
	default:
		o.less, more = last, true
	}
	return more, nil
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
		switch {
		case !o.probed:
		case o.probeID != "":
			body = fmt.Appendf(body, `{"delete":{"_index":%q,"_id":%q}}`+"\n", o.index, o.probeID)
		default:
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

// sendAttempts sends them in requests of a limited size.
func (s *Store) sendAttempts(ctx context.Context, attempts []attempt) error {
	for len(attempts) > 0 {
		n, size := 0, 0
		for n < len(attempts) && n < trialDocs/2 && (n == 0 || size+attempts[n].size() <= maxBulkBytes) {
			size += attempts[n].size()
			n++
		}
		if err := s.sendSome(ctx, attempts[:n]); err != nil {
			return err
		}
		attempts = attempts[n:]
	}
	return nil
}

func (a attempt) size() (n int) {
	for _, o := range a {
		n += len(o.body)
	}
	return n
}

// sendSome sends attempts in one request. One that is refused as a whole, or not
// answered, is sent in halves, in the end each document in a request of its own.
func (s *Store) sendSome(ctx context.Context, attempts []attempt) error {
	ops := slices.Concat(attempts...)
	err := s.client.send(ctx, ops)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		return nil
	case len(attempts) > 1:
		half := len(attempts) / 2
		if err := s.sendSome(ctx, attempts[:half]); err != nil {
			return err
		}
		return s.sendSome(ctx, attempts[half:])
	}
	for _, o := range ops {
		o.outcome = unknown
	}
	for _, o := range ops {
		if err := s.client.send(ctx, []*op{o}); err != nil {
			o.setOutcome(asError(err))
		}
		if o.outcome == stored || o.outcome == exists {
			break
		}
	}
	return context.Cause(ctx)
}
