package page

import (
	"cmp"
	"net/http"
	"slices"

	"wsrelay/receiver"
)

// maxSenders is how many senders are named, those first that are blocked, then those
// whose lines are oldest when they come.
const maxSenders = 50

type sender struct {
	Host  string `json:"host"`
	SID   string `json:"sid"`
	Since int64  `json:"since"` // connected; Unix milliseconds
	Lines int64  `json:"lines"` // of this session
	Lag   int64  `json:"lag"`   // milliseconds

	Blocked int64  `json:"blocked,omitempty"` // since when the store refuses its lines; Unix milliseconds
	Error   string `json:"error,omitempty"`   // what the store says then
}

func (p *page) health(w http.ResponseWriter, _ *http.Request) {
	if p.opts.State == nil {
		reply(w, http.StatusNotFound, map[string]any{"error": "there is no receiver here"})
		return
	}
	now := p.opts.State()
	slices.SortFunc(now.Senders, func(a, b receiver.Sender) int {
		return cmp.Or(b.Blocked.Compare(a.Blocked), cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Host, b.Host), cmp.Compare(a.SID, b.SID))
	})
	senders := []sender{}
	for _, s := range now.Senders[:min(len(now.Senders), maxSenders)] {
		shown := sender{Host: s.Host, SID: s.SID, Since: s.Since.UnixMilli(), Lines: s.Lines, Lag: s.Lag.Milliseconds()}
		if s.BlockedBy != nil {
			shown.Blocked, shown.Error = s.Blocked.UnixMilli(), s.BlockedBy.Error()
		}
		senders = append(senders, shown)
	}
	answer := map[string]any{
		"where": p.opts.Where, "link": p.opts.Link, "since": now.Since.UnixMilli(),
		"stored": now.Stored, "dead": now.Dead, "lost": now.Lost,
		"senders": senders, "connected": len(now.Senders),
	}
	if now.StoreErr != nil {
		answer["down"], answer["error"] = now.StoreDown.UnixMilli(), now.StoreErr.Error()
	}
	reply(w, http.StatusOK, answer)
}
