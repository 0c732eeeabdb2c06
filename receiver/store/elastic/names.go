package elastic

import (
	"context"
	"net/http"
	"sync"

	"github.com/tidwall/gjson"
	"golang.org/x/time/rate"
)

// Bounds of the names that lines may bring into one index. Each new one changes
// the index's mapping, which the whole cluster has to agree on; and an index
// takes a thousand, those of the subfields of strings included.
const (
	maxNames = 450 // names of fields and objects in an index, those of the schema included
	maxShare = 150 // new ones of one stream, so that none takes the space of all
	maxFresh = 100 // new ones of one document; one with more has data for names

	// Documents with new names, of all indices: so many at once, and then so
	// many a second. Each may cost the cluster 50 ms.
	freshBurst = 10
	freshRate  = 4
)

// names remembers which names the fields of each index have.
type names struct {
	mu    sync.Mutex
	of    map[string]*known // by index
	fresh *rate.Limiter     // of documents with new names; nil: none has come
}

// known is what one index has, as far as we know.
type known struct {
	all   *names
	mu    sync.RWMutex // guards the fields below; a fitter holds it while it reads a document
	names map[string]bool
	by    map[string]int // stream: how many of them it has brought
}

// mayBring takes one document with new names off those that may come.
func (n *names) mayBring() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fresh == nil {
		n.fresh = rate.NewLimiter(freshRate, freshBurst)
	}
	return n.fresh.Allow()
}

// index gives what is known of one; seeded says whether the engine has been
// asked.
func (n *names) index(index string) (k *known, seeded bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k, seeded = n.of[index]; seeded {
		return k, true
	}
	if n.of == nil || len(n.of) >= maxIndices {
		n.of = make(map[string]*known)
	}
	k = &known{all: n, names: make(map[string]bool), by: make(map[string]int)}
	n.of[index] = k
	return k, false
}

// maxIndices bounds what is remembered: a sender chooses the days of its lines.
const maxIndices = 1000

// learn asks the engine for the names that the index has. Without an answer, for
// lack of permission, all names count as new.
func (n *names) learn(ctx context.Context, c *Client, index string) {
	k, seeded := n.index(index)
	if seeded {
		return
	}
	answer, err := c.Do(ctx, http.MethodGet, "/"+index+"/_mapping", nil)
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	gjson.ParseBytes(answer).ForEach(func(_, index gjson.Result) bool {
		k.learnLocked("", index.Get("mappings.properties"))
		return true
	})
}

func (k *known) learnLocked(prefix string, properties gjson.Result) {
	properties.ForEach(func(name, field gjson.Result) bool {
		k.names[prefix+name.Str] = true
		k.learnLocked(prefix+name.Str+".", field.Get("properties"))
		return true
	})
}

// has reports whether the index has the name; mu is held.
func (k *known) has(name []byte) bool { return k.names[string(name)] || ours[string(name)] }

// add takes the new names of a document, which are so many, and gives the
// members whose names the index has no space for.
func (k *known) add(sid string, fresh []omission, names int) (refused []omission) {
	if len(fresh) == 0 {
		return nil
	}
	if names >= maxFresh || k.isFull(sid) || !k.all.mayBring() {
		return fresh
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range fresh {
		switch {
		case k.names[c.name]:
		case len(k.names) >= maxNames || k.by[sid] >= maxShare:
			refused = append(refused, c)
		default:
			k.names[c.name] = true
			k.by[sid]++
		}
	}
	return refused
}

// ours are the names that documents have for known forms of lines. They are
// never too many.
var ours = withParents(
	"@timestamp", "message", "error.message", "event.action", "event.duration", "event.original", "host.name",
	"http.original", "http.request.referrer", "http.response.body.bytes", "http.response.status_code",
	"log.level", "log.original", "log.syslog.appname", "log.syslog.facility.code", "log.syslog.facility.name",
	"log.syslog.hostname", "log.syslog.msgid", "log.syslog.priority", "log.syslog.procid", "log.syslog.severity.code",
	"log.syslog.severity.name", "log.syslog.structured_data", "process.name", "process.pid", "source.address",
	"source.ip",
	"url.domain", "url.original", "url.path", "url.query", "user_agent.original", "fields",
)

func withParents(names ...string) map[string]bool {
	all := make(map[string]bool)
	for _, name := range names {
		all[name] = true
		for i, c := range name {
			if c == '.' {
				all[name[:i]] = true
			}
		}
	}
	return all
}

func (k *known) isFull(sid string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.names) >= maxNames || k.by[sid] >= maxShare
}
