package logs

import (
	"context"
	"encoding/json"
	"net/http"
)

// Owned is a stream and the name that it belongs to.
type Owned struct {
	SID   string `json:"sid"`
	Owner string `json:"owner"`
}

// owners answers with the streams that have an owner, one in JSON a line; with sid,
// with that one alone, which may have none; and with from and to after it is moved.
func (s *Store) owners(w http.ResponseWriter, r *http.Request) {
	out, ctx, sid := json.NewEncoder(w), r.Context(), r.FormValue("sid")
	if sid == "" {
		_ = s.EachOwner(ctx, func(sid, owner string) bool { return out.Encode(Owned{sid, owner}) == nil })
		return
	}
	owner, err := s.owner(ctx, sid, r.FormValue("from"), r.FormValue("to"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = out.Encode(Owned{sid, owner}) // the client sees that it is cut short
}

func (s *Store) owner(ctx context.Context, sid, from, to string) (string, error) {
	if to == "" {
		return s.Owner(ctx, sid)
	}
	return s.SetOwner(ctx, sid, from, to)
}
