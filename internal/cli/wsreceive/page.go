package wsreceive

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"wsrelay/internal/cli"
	"wsrelay/internal/metrics"
	"wsrelay/receiver"
	"wsrelay/receiver/web"
	"wsrelay/receiver/web/login"
)

// pageOptions is the options for the page. The file is read again on SIGHUP.
type pageOptions struct {
	PageUsers string   `placeholder:"FILE" help:"Users of the page at / and of /metrics, one 'name:hash' a line. Default: no authentication on a loopback --listen address, and no access beyond it."`
	PageHosts []string `placeholder:"NAME" help:"Names that browsers can use for the page besides localhost, addresses and those of --tls-cert, such as the name of a proxy."`
	Kibana    string   `placeholder:"URL" help:"URL of Kibana or OpenSearch Dashboards, for a link on the page."`
}

// check is what the options must be together.
func (s *pageOptions) check(to string) error {
	if s.Kibana == "" {
		return nil
	}
	u, err := url.Parse(s.Kibana)
	if !isEngine(to) || err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return &cli.Error{
			Err: errors.New("--kibana wants an http(s) URL, and --to an engine"), Effect: nothingReceived,
			Code: exitUsage,
			Hint: "it is where people open Kibana or OpenSearch Dashboards in a browser: --kibana https://kibana.example.com",
		}
	}
	return nil
}

// users reads the users of the page; nil: there is no file of them.
func (s *pageOptions) users(log *slog.Logger) (login.Users, error) {
	if s.PageUsers == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.PageUsers)
	if err != nil {
		return nil, fmt.Errorf("--page-users: %w", err)
	}
	warnReadable(s.PageUsers, log)
	users, err := login.ParseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("--page-users %s: %w", s.PageUsers, err)
	}
	return users, nil
}

// policy says which clients are admitted at addr. Behind a proxy they can be anywhere.
func (c *serveCmd) policy(l *loaded, addr net.Addr) login.Policy {
	p := login.Policy{
		Users: l.users, Proxied: c.BehindProxy, Local: isLoopback(addr) && !c.BehindProxy,
		Hosts: c.PageHosts,
	}
	if l.tls != nil {
		p.Cert = l.tls.Certificates[0].Leaf
	}
	return p
}

// storeAndPage gives the store as the receiver is to use it, so that what makes its
// page can show what it stores.
func storeAndPage(store receiver.Store) (receiver.Store, func(web.Options) http.Handler) {
	live := web.NewLive(store)
	if s, ok := store.(web.Store); ok {
		return live, func(o web.Options) http.Handler { return web.New(s, live, o) }
	}
	return live, func(o web.Options) http.Handler { return web.NewWatch(live, o) }
}

// unwrapLive gives the store that a Live stands before.
func unwrapLive(store receiver.Store) receiver.Store {
	if live, ok := store.(*web.Live); ok {
		return live.Unwrap()
	}
	return store
}

// webOptions is what the page says of the store, and of rcv.
func (c *serveCmd) webOptions(store receiver.Store, rcv *receiver.Receiver) web.Options {
	o := web.Options{
		State: rcv.State, Senders: rcv.Senders, Trouble: c.thresholds(), Ready: rcv.Ready, Who: login.User,
		Link: c.Kibana,
	}
	switch k, at, _ := kindOf(c.To); {
	case k.engine:
		name, _ := store.Describe()
		o.Where = fmt.Sprintf("The newest lines, as they come. All are in %s, indices wsrelay-%s-*.", name, c.prefix())
		if c.Kibana == "" {
			o.Where += " Search them with Kibana or OpenSearch Dashboards; --kibana URL puts a link here."
		}
	case k.pageNote != "":
		o.Where = strings.ReplaceAll(k.pageNote, "%s", at)
	}
	return o
}

// pageHandler returns the handler of page and metrics, behind the login.
func pageHandler(g *login.Auth, page http.Handler, store receiver.Store, rcv *receiver.Receiver,
	relays dialers,
) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", page)
	mux.Handle("POST /select/", page) // as Grafana asks
	mux.Handle("GET /metrics", metrics.Handler(metricsOf(rcv, store)))
	mux.HandleFunc("GET /relays", relays.list)
	return g.Before(mux)
}

// logPageAccess logs who may see the page at url, and warns of passwords that travel
// in the clear.
func (c *serveCmd) logPageAccess(log *slog.Logger, url string, l *loaded, addr net.Addr) {
	switch {
	case l.users == nil && !c.policy(l, addr).Local:
		log.Info("page is closed", "url", url, "hint", "--page-users says who may see it; wsreceive passwd makes users")
	case !isLoopback(addr) && l.tls == nil:
		log.Warn("passwords of the page travel in the clear", "url", url,
			cli.Effect, "anyone on the network path can read them, and with them all lines",
			cli.Hint, "give --tls-cert and --tls-key")
	default:
		log.Info("page", "url", url, "users", l.pageUsers())
	}
}

func (l *loaded) pageUsers() string {
	if l.users == nil {
		return "anybody"
	}
	return strconv.Itoa(len(l.users))
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
