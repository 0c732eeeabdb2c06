package journal

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"wsrelay/receiver"
)

// Owner implements receiver.Owners.
func (j *Journal) Owner(_ context.Context, sid string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if st := j.streams[sid]; st != nil {
		return st.Owner, nil
	}
	return "", nil
}

// SetOwner implements receiver.Owners. The name is durable when it returns.
func (j *Journal) SetOwner(ctx context.Context, sid, from, to string) (string, error) {
	if len(sid) > math.MaxUint8 {
		return "", &receiver.RefusedError{Reason: "the name of the stream is too long"}
	}
	st := j.acquire(sid)
	defer j.release(st)
	if st.Owner != from || from == to {
		return st.Owner, ctx.Err()
	}
	r := &request{st: st, sid: sid, owner: &to}
	r.add(&record{kind: kindOwner, sid: sid, payload: []byte(to)})
	if err := j.write(r); err != nil {
		return "", fmt.Errorf("journal %s: %w", j.path, err)
	}
	return st.Owner, nil
}

// EachOwner implements receiver.Owners.
func (j *Journal) EachOwner(_ context.Context, f func(sid, owner string) bool) error {
	j.mu.Lock()
	owners := map[string]string{}
	for sid, st := range j.streams {
		if st.Owner != "" {
			owners[sid] = st.Owner
		}
	}
	j.mu.Unlock()
	for _, sid := range slices.Sorted(maps.Keys(owners)) {
		if !f(sid, owners[sid]) {
			break
		}
	}
	return nil
}
