package wsreceive

import (
	"fmt"
	"net/http"

	"wsrelay/receiver"
	"wsrelay/receiver/web/login"
)

// readyHandler answers whether lines would be stored now: 200, or 503. The reason names
// paths and hosts, so only users of the page see it.
func readyHandler(g *login.Auth, rcv *receiver.Receiver) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		err := rcv.Ready()
		if err == nil {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		if g.Admits(r) {
			fmt.Fprintln(w, "not ready: "+escapeControls(err.Error()))
		} else {
			fmt.Fprintln(w, "not ready")
		}
	})
}
