package main

import (
	"log/slog"
	"net"
	"net/http"

	"wsrelay/receiver"
	"wsrelay/receiver/page"
	"wsrelay/receiver/sqlite"
)

// searchPage gives the page at url over an SQLite store, nil for any other. It
// asks nobody who is there, so only this machine may reach it.
func searchPage(store receiver.Store, addr net.Addr, url string, log *slog.Logger) http.Handler {
	s, ok := store.(*sqlite.Store)
	if !ok {
		return nil
	}
	if !isLocal(addr) {
		log.Info("no search page", "addr", addr.String(), "hint", "the page is served on a loopback address only; wsreceive search works everywhere")
		return nil
	}
	log.Info("search page", "url", url)
	return page.New(s.Reader, page.Options{})
}

func isLocal(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
