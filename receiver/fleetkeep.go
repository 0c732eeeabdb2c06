package receiver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// SenderKeeper is a Store that keeps what its receivers know of senders over their
// restarts. It is no promise: what was learnt within the last seconds may be missing.
type SenderKeeper interface {
	// Senders gives what was kept, the other receivers' included.
	Senders(ctx context.Context) ([]Sender, error)

	// KeepSenders keeps all; changed are those that are new since the last call, and
	// removed the sids of those that are to be forgotten.
	KeepSenders(ctx context.Context, all, changed []Sender, removed []string) error
}

// How often the fleet is kept at most: a large one is written more rarely.
const (
	keepEvery = 10 * time.Second
	keepEach  = 10 * time.Millisecond // that each sender adds
	keepTime  = 10 * time.Second      // that one try may take
)

func (r *Receiver) loadSenders(ctx context.Context, store SenderKeeper) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	all, err := store.Senders(ctx)
	r.fleet.add(all)
	return err
}

// add merges what was kept: of a sender that is connected we know more.
func (f *fleet) add(all []Sender) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, s := range all {
		k := f.known[s.SID]
		switch {
		case now.Sub(s.Seen) > forgetSender:
			if k == nil {
				f.removed = append(f.removed, s.SID)
			}
		case k == nil && len(f.known) < maxFleet:
			f.known[s.SID] = &known{Sender: s}
		case k != nil && k.session == nil && s.Seen.After(k.Seen):
			k.Sender = s
		}
	}
}

// KeepSenders has the store keep the fleet until ctx ends, and once more then. First
// the receiver learns what was kept, and, as other receivers may have the same
// store, again and again.
func (r *Receiver) KeepSenders(ctx context.Context) {
	store, ok := storeAs[SenderKeeper](r.store)
	if !ok {
		return
	}
	warned := false
	for {
		if err := r.loadSenders(ctx, store); err != nil && ctx.Err() == nil {
			r.log.Debug("cannot read what is kept of senders", "err", err)
		}
		r.fleet.mu.Lock()
		pause := keepEvery + time.Duration(len(r.fleet.known))*keepEach
		r.fleet.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		err := r.keepSenders(store)
		if err != nil && !warned {
			r.log.Warn("cannot keep what is known of senders", "err", err,
				"effect", "no line is affected; after a restart, senders that are not connected may be unknown until they return",
				"hint", "The error says what the store lacks. It is tried again automatically.")
		}
		warned = err != nil
		if ctx.Err() != nil {
			return
		}
	}
}

func (r *Receiver) keepSenders(store SenderKeeper) error {
	all, changed, removed := r.fleet.snapshot(time.Now())
	if len(changed)+len(removed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepTime) // also when we are to end
	defer cancel()
	err := store.KeepSenders(ctx, all, changed, removed)
	if err != nil {
		r.fleet.markUnsaved(changed, removed)
	}
	return err
}

// snapshot gives what is to be kept, and forgets who was away for very long.
func (f *fleet) snapshot(now time.Time) (all, changed []Sender, removed []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sid, k := range f.known {
		if k.session == nil && now.Sub(k.Seen) > forgetSender {
			f.forget(sid)
			continue
		}
		all = append(all, k.Sender)
		if k.changed {
			changed = append(changed, k.Sender)
			k.changed = false
		}
	}
	removed, f.removed = f.removed, nil
	return all, changed, removed
}

func (f *fleet) markUnsaved(changed []Sender, removed []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range changed {
		if k := f.known[changed[i].SID]; k != nil {
			k.changed = true
		}
	}
	f.removed = append(f.removed, removed...)
}

// WriteSenders replaces the file in which a store on disk keeps senders, one a line.
// It is not synced: if it is lost, the senders are listed again when they connect.
func WriteSenders(path string, all []Sender) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	enc := json.NewEncoder(b)
	for i := range all {
		_ = enc.Encode(&all[i]) // Flush says what went wrong
	}
	if err := errors.Join(b.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// ReadSenders reads such a file; none if there is none. What cannot be read of it is
// left out.
func ReadSenders(path string) (all []Sender, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	for in := bufio.NewReader(f); ; {
		line, err := in.ReadBytes('\n')
		var s Sender
		if json.Unmarshal(line, &s) == nil && s.SID != "" {
			all = append(all, s)
		}
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		}
	}
}
