package web

import (
	"net/http"
	"strings"
	"time"

	"wsrelay/receiver"
)

// fewSenders is how many senders are named, those in most trouble first, unless all
// are asked for.
const fewSenders = 100

func (p *page) health(w http.ResponseWriter, _ *http.Request) {
	if p.opts.State == nil {
		reply(w, http.StatusNotFound, map[string]any{"error": "there is no receiver here"})
		return
	}
	now := p.opts.State()
	answer := map[string]any{
		"where": p.opts.Where, "link": p.opts.Link, "since": now.Since.UnixMilli(),
		"stored": now.Stored, "dead": now.Dead, "lost": now.Lost, "connected": now.Connected,
	}
	if now.StoreErr != nil {
		answer["down"], answer["error"] = now.StoreDown.UnixMilli(), now.StoreErr.Error()
	}
	if p.opts.Ready != nil {
		if err := p.opts.Ready(); err != nil {
			answer["unready"] = err.Error()
		}
	}
	reply(w, http.StatusOK, answer)
}

// senders tells of all senders that the receiver knows: how many there are of each
// state, and of those whose host or name has the text q the worst, or with all=1 all.
func (p *page) senders(w http.ResponseWriter, r *http.Request) {
	if p.opts.Senders == nil {
		reply(w, http.StatusNotFound, map[string]any{"error": "there is no receiver here"})
		return
	}
	reports := receiver.Reports(p.opts.Senders(), time.Now(), p.opts.Trouble)
	counts := map[receiver.Standing]int{}
	q := strings.ToLower(r.FormValue("q"))
	selected := []receiver.Report{}
	for i := range reports {
		counts[reports[i].State]++
		if strings.Contains(strings.ToLower(reports[i].Host+" "+reports[i].Name+" "+string(reports[i].State)), q) {
			selected = append(selected, reports[i])
		}
	}
	matching := len(selected)
	if r.FormValue("all") == "" {
		selected = selected[:min(len(selected), fewSenders)]
	}
	t := p.opts.Trouble.WithDefaults()
	reply(w, http.StatusOK, map[string]any{
		"total": len(reports), "matching": matching, "counts": counts, "senders": selected,
		"silent_after": t.Silent.Seconds(), "late_after": t.Late.Seconds(),
	})
}
